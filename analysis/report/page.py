"""A page that needs nothing else: no network, no script, no font; and its parts."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version

from analysis.report.markup import Content, Markup, element, join

Row = tuple[Sequence[Content], str]
"""A table's row: its cells, and a class for its looks or an empty string."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading. ``name`` is what links point to."""

    name: str
    heading: str
    content: Markup


def page(title: str, told: Content, sections: Iterable[Section], source: str) -> str:
    """The whole page: ``title``, what there is to know first, and the sections. ``source`` names the
    files that it was made from."""
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
        element("header", element("h1", title), element("p", told, class_="told")),
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
    """What a browser may do for the page: show it. Nothing is loaded and nothing runs, whatever gets in
    (Content Security Policy Level 3, 2.3.1)."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"


def paragraph(*content: Content) -> Markup:
    return element("p", *content)


def code(text: str) -> Markup:
    return element("code", text)


def facts(told: Iterable[tuple[str, Sequence[Content]]]) -> Markup:
    """Names, and what there is to say of each, line by line."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), *(element("dd", line) for line in lines))
            for name, lines in told
        ),
    )


def table(caption: str, columns: Mapping[str, str], rows: Iterable[Row]) -> Markup:
    """A table that scrolls sideways in its box where it is too wide. ``columns`` are their names, each
    with a class for its looks: number, place, wrap, note or none. The first cell of a row names it."""
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
    """A box that scrolls sideways, with the keyboard too."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def lines(label: str, rows: Iterable[Content]) -> Markup:
    """Text in columns, as a terminal shows it."""
    return scrolling(label, element("pre", join(rows, "\n")))


def shell(commands: Iterable[str]) -> Markup:
    """Commands to copy, broken into lines where they must be."""
    return element("pre", join(commands, "\n"), class_="shell")


def picture(svg: bytes, alt: str, caption: str) -> Markup:
    """A drawing. As an image it can neither run scripts nor load anything (HTML, 4.8.4.4)."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    image = element("img", src=source, alt=alt)
    return element("figure", scrolling(caption, image), element("figcaption", caption))
