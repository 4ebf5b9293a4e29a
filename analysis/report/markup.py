"""HTML that cannot be broken out of: whatever is text is escaped, and only what is made here is markup.

Text from a trace may hold anything. Characters that cannot be seen (controls, and those that turn the
direction of writing) are shown as escapes (``tracer.text.printable``), so nothing is hidden either.
"""

import html
from collections.abc import Iterable

from tracer.text import printable

VOID = frozenset({"img", "meta"})
"""Elements without an end tag (HTML, 13.1.2), as far as we use them."""


MAX_TEXT = 2000
"""Characters of one text that are shown: a trace's header may say a megabyte of things."""


class Markup(str):
    """A piece of HTML: made by the functions here, or ours as it is. Never of anything that was read."""

    __slots__ = ()


Content = object
"""What goes into an element: Markup as it is; of anything else its ``str``, escaped."""


def element(name: str, /, *content: Content, **attributes: object) -> Markup:
    """An element. An attribute's name is written with ``_`` for ``-``, and behind ``class``; None leaves
    it out. Names are ours: only content and values may come from elsewhere."""
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{_escape(value)}"')
    start = f"<{' '.join(words)}>"
    return Markup(start if name in VOID else f"{start}{join(content)}</{name}>")


def join(content: Iterable[Content], between: str = "") -> Markup:
    """Pieces of content as one."""
    pieces = (one if isinstance(one, Markup) else _escape(_clip(str(one))) for one in content)
    return Markup(between.join(pieces))


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text):,} characters)"


def _escape(value: object) -> str:
    return html.escape(printable(str(value)))
