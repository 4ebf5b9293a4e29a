"""The header: the msgpack map at the start of a trace, and how to read it.

``unpack_header`` reads the header of any blkbox file, as a map. ``parse_header`` reads a trace's
header, checks it and returns it as a Header.
"""

import math
import reprlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from tracer import digest
from tracer.errors import TraceError
from tracer.op import Conflicts, TrimRule
from tracer.trace.records import MAX_INT, RECORD_SIZE
from tracer.trace.upgrade import upgraded

FORMAT = "blkbox-trace"
VERSION = 2

MAX_SIZE = 1 << 62
"""Bytes in a disk: below what lseek can address, so that no offset in a trace overflows."""

MAX_HEADER = 1 << 20
"""Bytes in a header. A typical header has about a thousand."""

MAX_DEPTH = 16
"""Maps and lists inside each other in a header. A driver's description has three."""

MAX_ID = 64
"""Characters in a trace's id. Ours have 32."""


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
    conflicts: Conflicts = Conflicts.SENT
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    digest: str = digest.NAME
    start_image: str = "blank"
    cut: dict[str, Any] = field(default_factory=dict)
    """If the trace is a part of another trace: which part (tracer/rework/cut.py)."""
    profile: dict[str, Any] = field(default_factory=dict)
    """How the trace was made, if it was generated (replay/generate)."""
    minimized: dict[str, Any] = field(default_factory=dict)
    """If the trace is what is left of another one: of which, and what it shows
    (replay/minimize)."""
    record_size: int = RECORD_SIZE
    format: str = FORMAT
    version: int = VERSION


def parse_header(path: Path, head: bytes) -> tuple[Header, int]:
    """Return the header in a trace's first bytes, and the byte at which the records start.

    Raises TraceError if it is not a trace or the header is damaged. Ignores unknown keys.
    """
    raw, records_at = unpack_header(path, head, kind="a trace", name=FORMAT, version=VERSION)
    raw = upgraded(raw)
    wrong = _wrong(raw)
    if wrong is not None:
        raise TraceError(f"{path}: its header is damaged: {wrong}")
    known = {name: raw[name] for name in Header.__dataclass_fields__ if name in raw}
    rules = {"trim": TrimRule(raw["trim"]), "conflicts": Conflicts(raw["conflicts"])}
    return Header(**{**known, **rules}), records_at


def unpack_header(
    path: Path, head: bytes, *, kind: str, name: str, version: int
) -> tuple[dict[str, Any], int]:
    """Return the header in a file's first bytes, and the byte after it.

    ``kind`` says in words what the file should be, for error messages; ``name`` and ``version`` are
    its format's: older versions are valid too. Raises TraceError if the file does not begin with
    such a header.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_HEADER)
    unpacker.feed(head)
    try:
        header = unpacker.unpack()
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise TraceError(f"{path} is not {kind}: {_instead(head)}") from error
    if not isinstance(header, dict) or header.get("format") != name:
        raise TraceError(f"{path} is not {kind}: {_instead(head, header)}")
    if type(header.get("version")) is not int or not 1 <= header["version"] <= version:
        strange = reprlib.repr(header.get("version"))
        raise TraceError(f"{path}: format version {strange} is not known here")
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


def _wrong(raw: dict[str, Any]) -> str | None:
    """Return which key of a trace's header does not have a valid value, or None."""
    for key, is_valid in _VALID.items():
        if key not in raw and key not in ("cut", "minimized"):  # older traces have no such key
            return f"it has no {key!r}"
        if not is_valid(raw.get(key, {})):
            return f"{key!r} is {reprlib.repr(raw[key])}"
    return None


def _is_count(value: object, least: int = 0, most: int = MAX_INT) -> bool:
    return type(value) is int and least <= value <= most  # a bool is no count


def _is_plain_map(value: object) -> bool:
    return isinstance(value, dict) and _is_plain(value, MAX_DEPTH)


def _is_plain(value: object, depth: int) -> bool:
    """Whether a value is what JSON can hold, and is nested no deeper than ``depth``."""
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return math.isfinite(value)
        case dict():
            return depth > 0 and all(
                isinstance(key, str) and _is_plain(inner, depth - 1) for key, inner in value.items()
            )
        case list():
            return depth > 0 and all(_is_plain(inner, depth - 1) for inner in value)
    return False


def _is_cut(value: object) -> bool:
    """Whether a value says of which trace this is a part: nothing, or all of it."""
    if not isinstance(value, dict):
        return False
    numbers = ("first", "last", "start_ops")
    return not value or (
        _VALID["id"](value.get("trace")) and all(_is_count(value.get(name)) for name in numbers)
    )


_VALID: dict[str, Callable[[Any], bool]] = {
    "size": lambda value: _is_count(value, 0, MAX_SIZE),
    "record_size": lambda value: value == RECORD_SIZE,
    "digest": lambda value: value == digest.NAME,
    "payloads": lambda value: value in ("full", "hash"),
    "trim": lambda value: value in list(TrimRule),
    "conflicts": lambda value: value in list(Conflicts),
    "start_image": lambda value: value in ("blank", "recorded"),
    "id": lambda value: isinstance(value, str) and len(value) <= MAX_ID,
    "started": _is_count,
    "driver": _is_plain_map,
    "host": _is_plain_map,
    "tools": _is_plain_map,
    "profile": _is_plain_map,
    "cut": _is_cut,
    "minimized": _is_plain_map,
}
"""By key of a trace's header, whether a value is valid."""
