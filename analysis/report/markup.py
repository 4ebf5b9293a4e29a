"""HTML that cannot be broken out of: whatever is text is escaped, and only what is made here is markup.

Text from a trace may hold anything. Characters that cannot be seen (controls, and those that turn the
direction of writing) are shown as escapes (``tracer.text.plain``), so nothing is hidden either.
"""

import html
from collections.abc import Iterable

from tracer.text import plain

VOID = frozenset({"img", "meta"})
"""Elements without an end tag (HTML, 13.1.2), as far as we use them."""


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
    return Markup(between.join(one if isinstance(one, Markup) else _escape(one) for one in content))


def _escape(value: object) -> str:
    return html.escape(plain(str(value)))
