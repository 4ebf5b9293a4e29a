"""Sizes, counts and bytes as people read and write them."""

import re
import shlex
from collections.abc import Iterable

from tracer.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def parse_size(text: str) -> int:
    """Bytes: ``512``, ``64K``, ``16G``, ``1.5GiB``. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is not a size: write a number of bytes, or 64K, 100M, 16G, 1T")
    return (
        int(float(match[1]) * _UNITS[match[2].upper()])
        if "." in match[1]
        else (int(match[1]) * _UNITS[match[2].upper()])
    )


def size(count: int) -> str:
    """``4.0 KiB`` for 4096."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def table(rows: list[tuple[str, ...]], right: frozenset[int] = frozenset()) -> str:
    """Columns as wide as they must be; those in ``right`` flush right."""
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
    """``12.345 s`` for nanoseconds."""
    return f"{ns / 1e9:.3f} s"


def printable(text: str) -> str:
    """Text from outside, safe to show on a terminal: control characters as ``\\x1b``."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shell(words: Iterable[str]) -> str:
    """Words as a command line. One with characters that cannot be seen is put as ``$'...'``, which shows
    them (POSIX.1-2024, 2.2.4; bash, zsh and ksh know it)."""
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    # in octal: a shell takes three digits of that, but any number of hexadecimal ones
    seen = (
        chr(octet) if 32 <= octet < 127 and octet not in b"\\'" else f"\\{octet:03o}"
        for octet in word.encode(errors="surrogateescape")
    )
    return f"$'{''.join(seen)}'"
