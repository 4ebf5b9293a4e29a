"""A small table of facts in HTML, which notebooks show in place of an object's name."""

import html
from collections.abc import Iterable

from tracer.text import printable


def facts(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return a table with a title and a row for each fact that is not empty. All text is escaped:
    it may come from a file."""
    body = "".join(
        f'<tr><th style="text-align:left">{_escape(name)}</th>'
        f'<td style="text-align:left">{_escape(value)}</td></tr>'
        for name, value in rows
        if value not in (None, "")
    )
    return f"<table><caption><b>{_escape(title)}</b></caption>{body}</table>"


def _escape(value: object) -> str:
    return html.escape(printable(str(value)))
