"""The bytes of lower ops, and of the image before the first of them, in a payload store.

A recording keeps them in its trace's store, which has most of them already: the guest wrote them. A
run that is made later has a store of its own beside its NAME.lower.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tracer.below.events import Event
from tracer.below.log_writes import LogReader
from tracer.below.op import LowerKind, LowerOp
from tracer.below.stream import LowerHeader, Piece, Store, lower_path, read_all
from tracer.closing import Closing
from tracer.digest import digest, is_zero
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.errors import TraceError
from tracer.op import NO_PAYLOAD, ZERO_DIGEST
from tracer.trace.packed import PackedReader, open_payloads
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import PayloadWriter, payload_path
from tracer.trace.records import MAX_LENGTH

PIECE = 1 << 20
"""The most bytes of the image in one piece."""


def own_store(lower: Path) -> Path:
    """Return the path of a NAME.lower's own payload store: ``run.lower.payloads``."""
    return lower.with_name(f"{lower.name}.payloads")


def stored_image(image: Path, store: PayloadWriter) -> Iterator[Piece]:
    """Store what an image file holds; yield its pieces. Raises OSError."""
    with FileDevice(image, durable=False) as device:
        for start, end in sparse.data(device.fd, 0, image.stat().st_size):
            for at in range(start, end, PIECE):
                data = device.read(at, min(PIECE, end - at))
                if not is_zero(data):
                    store.wait_for_room()
                    key = digest(data)
                    yield Piece(at, len(data), key, store.put(key, data))


def stored(events: Iterable[Event], log: LogReader, store: PayloadWriter) -> Iterator[Event]:
    """Store the bytes that lower ops wrote; yield the events with where they are. Raises OSError.

    A store takes no payload above 32 MiB: such an op keeps its digest alone.
    """
    for event in events:
        if not isinstance(event, LowerOp) or event.kind is not LowerKind.WRITE or event.error:
            yield event
            continue
        payload = NO_PAYLOAD
        if event.length <= MAX_LENGTH["data"]:
            store.wait_for_room()
            payload = store.put(event.digest, log.read(event, event.offset, event.end))
        yield replace(event, payload=payload)


def shared(trace: Path, trace_id: str) -> Iterator[Piece | LowerOp]:
    """Yield what of the lower ops beside a trace is in the trace's own payload store. Raises
    TraceError."""
    lower = lower_path(trace)
    if not lower.exists():
        return
    header, found = read_all(lower)
    if header.store is Store.TRACE and header.trace == trace_id:
        for one in found:
            if isinstance(one, Piece | LowerOp) and one.payload != NO_PAYLOAD:
                yield one


class StoredRun(Closing):
    """A NAME.lower with its bytes. Raises TraceError if it or its payload store cannot be read."""

    def __init__(self, lower: Path) -> None:
        self._lower = lower
        self.header, found = read_all(lower)
        self.start: list[Piece] = []
        self.events: list[Event] = []
        for one in found:
            if isinstance(one, Piece):
                self.start.append(one)
            else:
                self.events.append(one)
        self._payloads = self._open(self.header)

    @property
    def store(self) -> Path:
        """The path of the payload store."""
        return self._payloads.path

    def write_start(self, image: Path) -> None:
        """Write the image as it was before the first op. Raises TraceError, OSError."""
        with image.open("xb") as file:
            for piece in self.start:
                file.seek(piece.offset)
                file.write(self._payload(piece.payload, piece.length, piece.digest))
            file.truncate(self.header.size)

    def read(self, op: LowerOp, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)`` of the image file that a lower op wrote. Raises
        TraceError."""
        if op.digest == ZERO_DIGEST:
            return bytes(end - start)
        if op.payload == NO_PAYLOAD:
            raise TraceError(f"{self._lower}: lower op {op.number} has no payload")
        data = self._payload(op.payload, op.length, op.digest)
        return data[start - op.offset : end - op.offset]

    def check(self) -> Iterator[str | None]:
        """Read all bytes; yield for each piece of the image and each lower op that wrote some what
        is wrong with them, or None."""
        parts: list[Piece | Event] = [*self.start, *self.events]
        for one in parts:
            try:
                if isinstance(one, Piece):
                    self._payload(one.payload, one.length, one.digest)
                elif isinstance(one, LowerOp) and one.digest != ZERO_DIGEST:
                    self.read(one, one.offset, one.end)
                else:
                    continue
            except TraceError as error:
                yield str(error)
            else:
                yield None

    def close(self) -> None:
        """Close the payload store. A second call does nothing."""
        self._payloads.close()

    def _open(self, header: LowerHeader) -> PayloadReader | PackedReader:
        match header.store:
            case Store.TRACE:
                return open_payloads(payload_path(self._lower), header.trace)
            case Store.OWN:
                return open_payloads(own_store(self._lower), header.trace)
            case Store.NONE:
                raise TraceError(
                    f"{self._lower} has digests alone: trace replay --below --force writes one "
                    "with data"
                )

    def _payload(self, position: int, length: int, key: bytes) -> bytes:
        data = self._payloads.read(position, length)
        if digest(data) != key:
            raise TraceError(f"{self._payloads.path}: the payload at {position} is not what was "
                             "written")  # fmt: skip
        return data
