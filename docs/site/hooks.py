"""What the site has besides docs/*.md: pages made from the sources, none of which is a file here.

The verbs come from what the manual pages come from, the Python API from the docstrings, the schemas
from the model of a verdict. The home page is README.md, whose links are made to fit.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import blkbox
from blkbox.manual import Page, manual
from tracer.verdict_schema import FILES

ROOT = Path(__file__).parents[2]

COPIED = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site, and the files of the repository that they are."""


def made() -> dict[str, str]:
    """Return the Markdown of each page that is made, by its path on the site."""
    pages = {f"reference/{page.name}.md": verb(page) for page in manual()}
    pages["reference/api.md"] = api()
    pages["reference/schemas.md"] = schemas()
    return pages | {page: copied((ROOT / name).read_text()) for page, name in COPIED.items()}


def copied(text: str) -> str:
    """Return a file of the repository with its links as the site has them."""
    names = {name: page for page, name in COPIED.items()}
    text = re.sub(r"\]\(docs/man\)", "](reference/trace.md)", text)
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\((\w+\.md)", lambda link: f"]({names.get(link[1], link[1])}", text)


def verb(page: Page) -> str:
    """Return a page of the manual."""
    lines = [f"# {page.path}", page.summary, f"```text\n{page.path} {page.usage}\n```", *page.prose]
    for title, terms in page.sections:
        lines.append(f"## {title.capitalize()}")
        rows = [f"| {_term(term)} | {_cell(meaning)} |" for term, meaning in terms]
        lines.append("\n".join(["| name | meaning |", "|---|---|", *rows]))
    if page.examples:
        lines.append("## Examples")
        lines += [f"```sh\n{example}\n```" for example in page.examples]
    return "\n\n".join(lines) + "\n"


def _term(term: str) -> str:
    name = term.removesuffix("(1)")
    return f"[{name}]({name}.md)" if name != term else f"`{_pipes(term)}`"


def _cell(text: str) -> str:
    """Return text for a cell of a table: nothing in it is markup."""
    return _pipes(re.sub(r"([*_\[\]<>`])", r"\\\1", " ".join(text.split())))


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")


def api() -> str:
    """Return the page of the Python API, from its docstrings."""
    lines = ["# Python", _docstring(blkbox)]
    for name in blkbox.__all__:
        thing = getattr(blkbox, name)
        lines.append(f"## blkbox.{name}")
        if inspect.isfunction(thing):
            shown = str(inspect.signature(thing)).replace('"', "").replace("'", "")
            lines.append(f"```python\n{_wrapped(name, shown)}\n```")
        lines.append(_docstring(thing))
    return "\n\n".join(lines) + "\n"


def _wrapped(name: str, signature: str) -> str:
    """Return a signature with a line for each argument."""
    inside, arrow, result = signature[1:].rpartition(") -> ")
    arguments = re.split(r", (?=[\w*])(?![^\[]*\])", inside)
    return "\n".join([f"{name}(", *(f"    {one}," for one in arguments), f"){arrow[1:]}{result}"])


def _docstring(thing: object) -> str:
    """Return a docstring as Markdown: a line that begins with an argument is an item of a list."""
    text = inspect.getdoc(thing) or ""
    return re.sub(r"^(``\w+``(?:, ``\w+``)*: )", r"\n- \1", text, flags=re.MULTILINE)


def schemas() -> str:
    """Return the page of the JSON schemas."""
    lines = ["# Schemas", "The JSON of [each verb](../output.md), as JSON Schema."]
    for name in sorted(FILES):
        text = (ROOT / "docs" / name).read_text()
        lines += [f"## {name}", json.loads(text).get("description", "")]
        lines += [f"[The file](../{name})", f"```json\n{text.rstrip()}\n```"]
    return "\n\n".join(lines) + "\n"


# ---------------------------------------------------------------- what mkdocs calls


def on_config(config: Any) -> Any:
    """Put the verbs into the navigation."""
    [reference] = [part["Reference"] for part in config.nav if "Reference" in part]
    [verbs] = [part for part in reference if "Verbs" in part]
    verbs["Verbs"] = [f"reference/{page.name}.md" for page in manual()]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to README.md to the home page. Take the backslash before a pipe in a table's code:
    GitHub wants it, the site shows it."""
    rows = (
        re.sub(r"`[^`]+`", lambda code: code[0].replace("\\|", "|"), line)
        if line.startswith("|")
        else line
        for line in markdown.split("\n")
    )
    return "\n".join(rows).replace("](../README.md", "](index.md")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for path, text in made().items():
        files.append(File.generated(config, path, content=text))
    return files
