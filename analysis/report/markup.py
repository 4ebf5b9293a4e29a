"""HTML that text cannot break out of: all text is escaped, and only this module makes markup.

Text from a trace may contain anything. Invisible characters (controls, and characters that change
the direction of writing) are shown as escapes (``tracer.text.printable``), so text cannot hide
either.
"""

import html
from collections.abc import Iterable

from tracer.text import printable

VOID = frozenset({"img", "meta"})
"""The elements without an end tag (HTML, 13.1.2) that reports use."""


MAX_TEXT = 2000
"""The most characters shown of one text: a trace's header may hold a megabyte."""


class Markup(str):
    """A piece of HTML: made by the functions here or a constant of ours, never data from a file."""

    __slots__ = ()


Content = object
"""The content of an element. Markup is inserted as it is, the ``str`` of anything else escaped."""


def element(name: str, /, *content: Content, **attributes: object) -> Markup:
    """Return an element.

    In attribute names, ``_`` stands for ``-``, and ``class_`` for ``class``. An attribute of None
    is left out. Names must be constants of ours: only content and values may come from a file.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{_escape(value)}"')
    start = f"<{' '.join(words)}>"
    return Markup(start if name in VOID else f"{start}{join(content)}</{name}>")


def join(content: Iterable[Content], between: str = "") -> Markup:
    """Return pieces of content as one."""
    pieces = (
        piece if isinstance(piece, Markup) else _escape(_clip(str(piece))) for piece in content
    )
    return Markup(between.join(pieces))


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text):,} characters)"


def _escape(value: object) -> str:
    return html.escape(printable(str(value)))
