"""The map that our files begin with."""

from pathlib import Path
from typing import Any

import msgpack

from tracer.errors import TraceError

MAX_HEADER = 1 << 20
"""Bytes in a header; ours have about a thousand."""


def parse_header(
    path: Path, head: bytes, kind: str, name: str, version: int
) -> tuple[dict[str, Any], int]:
    """The header in a file's first bytes, and where it ends. ``kind`` is what the file should be, for
    people; ``name`` and ``version`` are the format's. Raises TraceError."""
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_HEADER)
    unpacker.feed(head)
    try:
        header = unpacker.unpack()
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise TraceError(f"{path} is not {kind}: it has no header") from error
    if not isinstance(header, dict) or header.get("format") != name:
        raise TraceError(f"{path} is not {kind}: it has no header")
    if header.get("version") != version:
        raise TraceError(f"{path}: format version {header.get('version')!r} is not known here")
    return header, unpacker.tell()
