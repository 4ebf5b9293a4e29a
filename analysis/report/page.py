"""A self-contained HTML page and its parts: no network, no script, no font."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version

from analysis.report.markup import Content, Markup, element, join

Row = tuple[Sequence[Content], str]
"""A row of a table: its cells, and a CSS class or an empty string."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading. Links point to its ``name``."""

    name: str
    heading: str
    content: Markup


def page(title: str, summary: Content, sections: Iterable[Section], source: str) -> str:
    """Return the whole page: the title, a sentence that sums it up, and the sections.

    ``source`` names the files that the page was made from.
    """
    style = resources.files(__package__).joinpath("report.css").read_text("utf-8")
    parts = list(sections)
    links = [element("li", element("a", part.heading, href=f"#{part.name}")) for part in parts]
    made = f"Made by blkbox {version('blkbox')} from {source}."
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element(
        "body",
        element("header", element("h1", title), element("p", summary, class_="summary")),
        element("nav", element("ul", *links), aria_label="Sections"),
        element(
            "main",
            *(
                element(
                    "section",
                    element("h2", part.heading, id=f"{part.name}-heading"),
                    part.content,
                    id=part.name,
                    aria_labelledby=f"{part.name}-heading",
                )
                for part in parts
            ),
        ),
        element("footer", element("p", made)),
    )
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _policy(style: str) -> str:
    """Return the Content Security Policy: a browser may show the page, but load and run nothing.

    That holds whatever gets into the page (Content Security Policy Level 3, 2.3.1).
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"


def paragraph(*content: Content) -> Markup:
    return element("p", *content)


def code(text: str) -> Markup:
    return element("code", text)


def facts(entries: Iterable[tuple[str, Sequence[Content]]]) -> Markup:
    """Return a list of names, each with its lines."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), *(element("dd", line) for line in lines))
            for name, lines in entries
        ),
    )


def table(caption: str, columns: Mapping[str, str], rows: Iterable[Row]) -> Markup:
    """Return a table that scrolls sideways in its box if it is too wide.

    ``columns`` maps the names of the columns to CSS classes: number, place, wrap, note or none. The
    first cell of a row is its heading.
    """
    looks = [look or None for look in columns.values()]
    heads = (
        element("th", name, scope="col", class_=look or None) for name, look in columns.items()
    )
    body = []
    for cells, kind in rows:
        first = element("th", cells[0], scope="row", class_=looks[0])
        pairs = zip(cells[1:], looks[1:], strict=True)
        rest = (element("td", cell, class_=look) for cell, look in pairs)
        body.append(element("tr", first, *rest, class_=kind or None))
    inner = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
    )
    return scrolling(caption, inner)


def scrolling(label: str, content: Markup) -> Markup:
    """Return a box that scrolls sideways, also with the keyboard."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def lines(label: str, rows: Iterable[Content]) -> Markup:
    """Return text in columns, as a terminal shows it."""
    return scrolling(label, element("pre", join(rows, "\n")))


def shell(commands: Iterable[str]) -> Markup:
    """Return commands to copy. Lines that are too long wrap."""
    return element("pre", join(commands, "\n"), class_="shell")


def picture(image: bytes, alt: str, caption: str) -> Markup:
    """Return a picture, which is a PNG or an SVG. An image can neither run scripts nor load
    anything (HTML, 4.8.4.4)."""
    kind = "png" if image.startswith(b"\x89PNG") else "svg+xml"
    source = f"data:image/{kind};base64," + base64.b64encode(image).decode()
    shown = element("img", src=source, alt=alt)
    return element("figure", scrolling(caption, shown), element("figcaption", caption))
