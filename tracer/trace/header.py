"""The header: the msgpack map at the start of a trace, and how to read it.

``unpack_header`` reads the header of any blkbox file, as a map. ``parse_header`` reads a trace's
header, checks it and returns it as a Header.
"""

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

MAX_HEADER = 1 << 20
"""Bytes in a header. A typical header has about a thousand."""


@dataclass(slots=True)
class Header:
    """What a trace says about itself.

    ``size`` is the disk's size in bytes; ``started`` is in ns since 1970.
    """

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
    """If the trace is a part of another trace: which part (tracer/rework/cut.py)."""
    record_size: int = RECORD_SIZE
    format: str = FORMAT
    version: int = VERSION


def parse_header(path: Path, head: bytes) -> tuple[Header, int]:
    """Return the header in a trace's first bytes, and the byte at which the records start.

    Raises TraceError if it is not a trace or the header is damaged. Ignores unknown keys.
    """
    raw, records_at = unpack_header(path, head, kind="a trace", name=FORMAT, version=VERSION)
    if not _is_sound(raw):
        raise TraceError(f"{path}: its header is damaged")
    known = {name: raw[name] for name in Header.__dataclass_fields__ if name in raw}
    return Header(**{**known, "trim": TrimRule(raw["trim"])}), records_at


def unpack_header(
    path: Path, head: bytes, *, kind: str, name: str, version: int
) -> tuple[dict[str, Any], int]:
    """Return the header in a file's first bytes, and the byte after it.

    ``kind`` says in words what the file should be, for error messages; ``name`` and ``version`` are
    its format's. Raises TraceError if the file does not begin with a header of that format and
    version.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_HEADER)
    unpacker.feed(head)
    try:
        header = unpacker.unpack()
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise TraceError(f"{path} is not {kind}: {_instead(head)}") from error
    if not isinstance(header, dict) or header.get("format") != name:
        raise TraceError(f"{path} is not {kind}: {_instead(head, header)}")
    if header.get("version") != version:
        raise TraceError(f"{path}: format version {header.get('version')!r} is not known here")
    return header, unpacker.tell()


def _instead(head: bytes, header: object = None) -> str:
    """Say what a file is that does not have the header it should have, by its first bytes."""
    if isinstance(header, dict):
        if header.get("format") == FORMAT:
            return "it is a trace"
        if header.get("format") == "blkbox-payloads":
            return "it has the payloads of one"
    known = {b"{": "it is JSON, like a verdict", b"QFI\xfb": "it is a qcow2 image"}
    return next((text for magic, text in known.items() if head.startswith(magic)),
                "it has no header")  # fmt: skip


def _is_sound(raw: dict[str, Any]) -> bool:
    """Whether each value in a trace's header has its type and is in its range."""
    return (
        isinstance(size := raw.get("size"), int)
        and 0 <= size <= MAX_SIZE
        and raw.get("record_size") == RECORD_SIZE
        and raw.get("digest") == digest.NAME
        and raw.get("payloads") in ("full", "hash")
        and raw.get("trim") in list(TrimRule)
        and raw.get("start_image") in ("blank", "recorded")
        and isinstance(raw.get("id"), str)
        and isinstance(raw.get("started"), int)
        and all(isinstance(raw.get(name), dict) for name in ("driver", "host", "tools"))
        and isinstance(raw.get("cut", {}), dict)  # older traces have no such key
    )
