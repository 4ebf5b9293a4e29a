"""``trace pack``: the traces of a folder share one content-addressed store of payloads.

New blocks are written first, each whole, then the index takes the place of the trace's own store.
What no index names is garbage: it goes last, and only if every index could be read. A lock keeps
two packers apart. So a kill at any moment loses nothing; it leaves garbage for the next run.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from tracer.below.stored import shared
from tracer.digest import digest
from tracer.errors import StorageError, TraceError, UsageError
from tracer.files import PRIVATE
from tracer.op import NO_PAYLOAD, ZERO_DIGEST, Op
from tracer.progress import bar
from tracer.trace.data import TraceWithData
from tracer.trace.file import SUFFIX, Trace
from tracer.trace.header import MAX_HEADER, unpack_header
from tracer.trace.packed import (
    FOLDER,
    NAME,
    PackedReader,
    Run,
    block_path,
    content_name,
    is_packed,
    pack_index,
)
from tracer.trace.payloads import BLOCK, FORMAT, VERSION, payload_path
from tracer.trace.payloads import SUFFIX as PAYLOADS
from tracer.trace.records import Mismatch

LEVEL = 9
"""The zstd level: packing is done once, beside the work."""

LOCK = ".lock"

TEMPORARY = ".packing-"
"""How the names of files begin that are not whole yet."""


@dataclass(slots=True)
class Packed:
    """What packing a folder did. Sizes are bytes."""

    folder: str
    packed: list[str] = field(default_factory=list)
    """The traces whose payloads were packed now."""
    before: int = 0
    """What the payloads took, with the blocks that were there."""
    after: int = 0
    blocks: int = 0
    """Blocks in the store."""
    removed: int = 0
    """Blocks that no trace needed."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Traces that stay as they are, and why."""
    schema: int = 1


@dataclass(slots=True)
class _Block:
    """A block that is being filled, or was written: then it has a name."""

    data: bytearray = field(default_factory=bytearray)
    name: bytes = b""


Place = tuple[_Block, int]
"""Where a payload is: its block, and the byte of the block."""


def pack(folder: Path) -> Packed:
    """Pack the payloads of the closed traces in a folder, and remove blocks that no trace needs.

    Raises UsageError if it is no folder or another packer is at work, StorageError if the disk
    fails or is full, TraceError if an index is damaged: then no block is removed.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give the folder of the traces")
    result = Packed(str(folder))
    with _locked(folder):
        result.before = _used(folder)
        traces = sorted(folder.glob(f"*{SUFFIX}"))
        known: dict[bytes, Place] = {}
        with bar("packing", len(traces), "traces") as progress:
            # what is packed already comes first: others share its blocks
            for trace in sorted(traces, key=lambda path: not is_packed(payload_path(path))):
                progress(1)
                try:
                    if _pack(trace, known):
                        result.packed.append(trace.name)
                except TraceError as error:
                    result.skipped[trace.name] = str(error)
        result.removed = _collect(folder)
        result.after = _used(folder)
        result.blocks = sum(1 for _ in _blocks(folder))
    return result


def _pack(path: Path, known: dict[bytes, Place]) -> bool:
    """Pack the payloads of a trace, or note where they are if they are packed. Return whether they
    were packed now. Raises TraceError, StorageError."""
    with Trace(path) as trace:
        if trace.header.payloads != "full":
            return False
        if trace.end is None:
            raise TraceError("it is not closed: a recording may still write to it")
    with TraceWithData(path) as source:
        reader = source.payloads
        if isinstance(reader, PackedReader):
            _learn(source, reader, known)
            return False
        assert reader is not None
        blocks: dict[int, _Block] = {}  # by id, in order of use
        runs: list[tuple[int, int, _Block, int]] = []
        filling = _Block()
        mine: dict[bytes, Place] = {}
        for position, length, key in _payloads(source):
            place = known.get(key) or mine.get(key)
            if place is None:
                data = reader.read(position, length)
                if digest(data) != key:
                    raise TraceError(f"the payload at {position} is damaged")
                place = mine[key] = filling, len(filling.data)
                filling.data += data
            block, offset = place
            blocks.setdefault(id(block), block)
            last = runs[-1] if runs else None
            if (
                last is not None
                and last[2] is block
                and (last[0] + last[1], last[3] + last[1]) == (position, offset)
            ):
                runs[-1] = last[0], last[1] + length, block, last[3]
            else:
                runs.append((position, length, block, offset))
            if len(filling.data) >= BLOCK:
                _write(path.parent, filling)
                filling = _Block()
        if filling.data:
            _write(path.parent, filling)
        numbers = {number: at for at, number in enumerate(blocks)}
        index = pack_index(
            source.trace.header.id,
            [block.name for block in blocks.values()],
            (Run(at, length, numbers[id(block)], offset) for at, length, block, offset in runs),
        )
    # from here on the trace needs its blocks: they are on the disk
    _replace(payload_path(path), index)
    known.update(mine)
    return True


def _payloads(source: TraceWithData) -> list[tuple[int, int, bytes]]:
    """Return position, length and digest of each payload, by position. Raises TraceError."""
    found: dict[int, tuple[int, bytes]] = {}
    for record in source.trace.records():
        if isinstance(record, Op | Mismatch) and record.payload != NO_PAYLOAD:
            if record.digest == ZERO_DIGEST or not record.length:
                continue
            found[record.payload] = record.length, record.digest
    for lower in shared(source.trace.path, source.trace.header.id):
        found[lower.payload] = lower.length, lower.digest
    return [(position, *found[position]) for position in sorted(found)]


def _learn(source: TraceWithData, reader: PackedReader, known: dict[bytes, Place]) -> None:
    """Note where the payloads of a packed trace are."""
    blocks = [_Block(name=name) for name in reader.names]
    runs = list(reader.runs())
    at = 0
    for position, length, key in _payloads(source):
        while at < len(runs) and runs[at].position + runs[at].length <= position:
            at += 1
        if at == len(runs) or position < runs[at].position:
            continue
        run = runs[at]
        if position + length <= run.position + run.length:
            known.setdefault(key, (blocks[run.block], run.offset + position - run.position))


def _write(folder: Path, block: _Block) -> None:
    """Write a block, unless it is there. Raises StorageError."""
    data = bytes(block.data)
    block.name, block.data = content_name(data), bytearray()
    path = block_path(folder, block.name)
    if not path.exists():
        try:
            path.parent.mkdir(exist_ok=True)
            _sync(path.parent.parent)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        _replace(path, zstandard.ZstdCompressor(level=LEVEL).compress(data))


def _replace(path: Path, content: bytes) -> None:
    """Write a file that appears whole, and is on the disk when this returns. Raises
    StorageError."""
    new = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _collect(folder: Path) -> int:
    """Remove what no index names. Return how many blocks that were. Raises TraceError if an index
    cannot be read, before anything is removed."""
    needed: set[bytes] = set()
    for path in folder.glob(f"*{PAYLOADS}"):
        needed.update(_needed(path))
    removed = 0
    for path in _blocks(folder):
        if bytes.fromhex(path.name) not in needed:
            path.unlink()
            removed += 1
    for left in (*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"{FOLDER}/*/{TEMPORARY}*")):
        left.unlink()
    return removed


def _needed(path: Path) -> list[bytes]:
    """Return the names of the blocks that a file of payloads needs: none if it has its own. Raises
    TraceError if that is not certain."""
    if is_packed(path):
        return PackedReader(path, None).names
    try:
        with path.open("rb") as file:
            head = file.read(MAX_HEADER)
        if head:  # a recorder that was killed may leave an empty file
            unpack_header(path, head, kind="payloads", name=FORMAT, version=VERSION)
    except (OSError, TraceError) as error:
        raise TraceError(f"no block is removed, since {path} may need it: {error}") from error
    return []


def _blocks(folder: Path) -> Iterator[Path]:
    """Yield the files of the blocks: what has another name is none of ours."""
    for path in folder.glob(f"{FOLDER}/??/*"):
        if len(path.name) == 2 * NAME and set(path.name) <= set("0123456789abcdef"):
            yield path


def _used(folder: Path) -> int:
    files = [*folder.glob(f"*{PAYLOADS}"), *_blocks(folder)]
    return sum(path.stat().st_size for path in files)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other packers out. Raises UsageError if one is at work, StorageError."""
    try:
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / FOLDER / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"another trace pack works in {folder}") from None
    finally:
        os.close(lock)
