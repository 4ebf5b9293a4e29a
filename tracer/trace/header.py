"""The map that our files begin with, and what a trace says of itself there."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from tracer import digest
from tracer.errors import TraceError
from tracer.op import TrimRule
from tracer.trace.records import RECORD_SIZE

FORMAT = "blkbox-trace"
VERSION = 1

MAX_SIZE = 1 << 62
"""Bytes in a disk: below what lseek can address, so that no offset in a trace overflows."""


@dataclass(slots=True)
class Header:
    """What a trace says of itself. ``size`` is the disk's, in bytes; ``started`` is ns since 1970."""

    size: int
    payloads: str = "full"
    driver: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    started: int = 0
    trim: TrimRule = TrimRule.ANY
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    digest: str = digest.NAME
    start_image: str = "blank"
    cut: dict[str, Any] = field(default_factory=dict)
    """Where its ops are from, if it is a part of another trace (tracer/cut.py)."""
    record_size: int = RECORD_SIZE
    format: str = FORMAT
    version: int = VERSION


def _parse_header(path: Path, head: bytes) -> tuple[Header, int]:
    """The header, and the byte at which the records start."""
    raw, records_at = parse_header(path, head, "a trace", FORMAT, VERSION)
    known = {name: raw[name] for name in Header.__dataclass_fields__ if name in raw}
    sound = (
        isinstance(size := raw.get("size"), int)
        and 0 < size <= MAX_SIZE
        and raw.get("record_size") == RECORD_SIZE
        and raw.get("digest") == digest.NAME
        and raw.get("payloads") in ("full", "hash")
        and raw.get("trim") in list(TrimRule)
        and raw.get("start_image") in ("blank", "recorded")
        and isinstance(raw.get("id"), str)
        and isinstance(raw.get("started"), int)
        and all(isinstance(raw.get(name), dict) for name in ("driver", "host", "tools"))
        and isinstance(raw.get("cut", {}), dict)  # missing where the trace is older than the key
    )
    if not sound:
        raise TraceError(f"{path}: its header is damaged")
    return Header(**{**known, "trim": TrimRule(raw["trim"])}), records_at


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
