"""Sizes, times, tables and words, as people read and write them."""

import errno
import re
import shlex
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from tracer.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}


SHOWN = 40
"""Characters of what a user wrote that an error message repeats."""


def parse_size(text: str) -> int:
    """Return the bytes in a size like ``512``, ``64K`` or ``1.5GiB``. Raises UsageError."""
    match = re.fullmatch(
        r"(\d{1,30}(?:\.\d{1,30})?)\s*([KMGTPE]?)(?:i?B)?", text.strip(), re.IGNORECASE
    )
    if match is None:
        raise UsageError(
            f"{text[:SHOWN]!r} is not a size: write a number of bytes, or 64K, 100M, 16G, 1T"
        )
    return (
        int(float(match[1]) * _UNITS[match[2].upper()])
        if "." in match[1]
        else (int(match[1]) * _UNITS[match[2].upper()])
    )


def parse_duration(text: str) -> float:
    """Return the seconds in a time like ``90``, ``30s``, ``10m`` or ``2h``. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)", text.strip())
    if match is None or not float(match[1]):
        raise UsageError(f"{text[:SHOWN]!r} is not a time: write seconds above 0, or 30s, 10m, 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def parse_share(text: str) -> float:
    """Return the share in a percentage like ``99%``, from 0 to 1. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", text.strip())
    if match is None or float(match[1]) > 100:
        raise UsageError(f"{text[:SHOWN]!r} is no percentage: write one like 99%")
    return float(match[1]) / 100


Choice = TypeVar("Choice", bound=StrEnum)


def choice(kind: type[Choice], value: str, *others: str, name: str = "") -> Choice:
    """Return the enum member with this value. Raises UsageError if there is none, with the option's
    name. ``others`` are further values that the user may give."""
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name}{value!r}: give one of {', '.join([*others, *kind])}") from None


def parse_errnos(text: str) -> frozenset[int]:
    """Return the errno values in a list of names like ``ENOSPC,EDQUOT``. Raises UsageError."""
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    numbers = {name: number for number, name in errno.errorcode.items()}
    for name in names:
        if name not in numbers:
            raise UsageError(f"{name!r} is not the name of an errno: write names like ENOSPC,EIO")
    return frozenset(numbers[name] for name in names)


def size(count: int) -> str:
    """Return a number of bytes in a suitable unit: ``4.0 KiB`` for 4096."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if round(value, 1) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} EiB"


def many(count: int, one: str, more: str | None = None) -> str:
    """Return a number of things: ``1 op``, ``2,000 ops``. ``more`` is a plural without an s."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def ops(count: int) -> str:
    """Return a number of ops: ``1 op``, ``2 ops``."""
    return many(count, "op")


def table(rows: list[tuple[str, ...]], right: frozenset[int] = frozenset()) -> str:
    """Return rows as lines with aligned columns. ``right`` has the columns to align right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def seconds(ns: int) -> str:
    """Return ns as seconds: ``12.345 s``."""
    return f"{ns / 1e9:.3f} s"


_ODD = re.compile(r"[^ -~]")
"""What may not be printable: any character that is not printable ASCII."""


def printable(text: str, kept: str = "") -> str:
    """Make text from outside safe for a terminal, as one line.

    What is not printable becomes an escape, like ``\\x1b``: control characters, line feeds, and
    characters that change the direction of writing. Characters in ``kept`` stay.
    """
    return _ODD.sub(
        lambda odd: odd[0] if odd[0].isprintable() or odd[0] in kept else repr(odd[0])[1:-1], text
    )


def printable_lines(text: str) -> str:
    """Make text of several lines safe for a terminal: as ``printable``, but keep line feeds and
    tabs."""
    return printable(text, "\n\t")


def shell(words: Iterable[str]) -> str:
    """Return words as a command line for a shell.

    A word with unprintable characters is quoted as ``$'...'``, which makes them visible
    (POSIX.1-2024, 2.2.4; bash, zsh and ksh support it).
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    # in octal: a shell reads at most three octal digits, but any number of hexadecimal digits
    seen = (
        chr(octet) if 32 <= octet < 127 and octet not in b"\\'" else f"\\{octet:03o}"
        for octet in word.encode(errors="surrogateescape")
    )
    return f"$'{''.join(seen)}'"
