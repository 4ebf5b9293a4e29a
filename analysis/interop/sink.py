"""Where the requests of a foreign trace go: into a survey first, then into a trace of ours.

A reader of a foreign format passes what it finds in the order of its times: with ``begin`` and
``end`` if the source has both times, with ``do`` if it has one. A file is read twice, since the
trace's header needs the disk's size, and since a file with an error must not leave a trace behind.
"""

from collections import Counter
from collections.abc import Iterator

from blake3 import blake3

from analysis.interop.foreign_file import ForeignFile
from tracer.digest import digest
from tracer.disk.file import FileDevice
from tracer.errors import StorageError
from tracer.op import CARRIES_DATA, Kind, Op
from tracer.trace.header import MAX_SIZE
from tracer.trace.output import TraceOutput
from tracer.trace.records import MAX_LENGTH, MAX_MARK, End, Mark

MEBIBYTE = 1 << 20

PIECE = {"data": MAX_LENGTH["data"], "other": 1 << 31}
"""Bytes of the largest op, with data and without: larger requests become several ops. 1 << 31 is
half of what 32 bits can hold, so that pieces keep the alignment of the whole."""

MAX_TIME = 1 << 62
"""Nanoseconds from the first request to the last, and from 1970 to the first, at most: 146 years.
Frames have 63 bits for a time."""

MAX_DEVICES = 1 << 16
"""Devices in a file: a few for each disk of a large machine, and they take 10 MiB."""

BACKWARDS = "time before that of an earlier event"
"""A reason. The later event gets the earlier one's time."""

Begun = list[Op]
"""A request that has begun: an op, or several if it is too large for one."""


def pieces(op: Op) -> Iterator[tuple[int, int]]:
    """Yield ``(offset, length)`` of ops that a trace can hold, which make up the request."""
    limit = PIECE["data" if op.kind in CARRIES_DATA or op.kind == Kind.READ else "other"]
    for at in range(0, max(1, op.length), limit):
        yield op.offset + at, min(limit, op.length - at)


def made_up(op: Op) -> bytes:
    """Return a digest for a write of unknown data: 16 bytes from its number, offset and length.

    No two writes of a trace are alike, and a second import of the same file gives the same digests.
    """
    seed = b"".join(number.to_bytes(8, "little") for number in (op.seq, op.offset, op.length))
    return blake3(b"blkbox import" + seed).digest(16)


class Sink:
    """Takes requests, numbers them in the order in which they begin, and makes times start at 0.

    Times never go back. If a request ends before another begins, there is at least a nanosecond in
    between: this is how a trace says that the first had completed before the second was submitted.
    """

    keeps_data = False
    """Whether the sink uses the data of writes. Otherwise a reader may skip it."""

    def __init__(self, source: ForeignFile, device: str | None) -> None:
        self.source = source
        self.device = device
        self.devices: Counter[str] = Counter()
        """The number of requests of each device."""
        self.skipped: Counter[str] = Counter()
        """What the trace cannot hold, and how often."""
        self.ops = 0
        self._wall: tuple[int, int] | None = None
        self._origin: int | None = None
        self._now = 0
        self._latest = 0
        """The latest time of the source, in ns since the start."""
        self._before = 0
        """The time of the source that was seen last."""
        self._last_end = -1

    def wants(self, device: str) -> bool:
        """Count a request of a device, and return whether the sink takes it.

        Unless a device was given, the sink takes the first. Raises TraceError if the source has
        more devices than any machine.
        """
        self.devices[device] += 1
        if len(self.devices) > MAX_DEVICES:
            raise self.source.error(f"this is the device number {MAX_DEVICES + 1:,}: too many")
        if self.device is None:
            self.device = device
        return device == self.device

    @property
    def started(self) -> int:
        """When the first request came, in ns since 1970; 0 if the source does not have the date."""
        if self._wall is None or self._origin is None:
            return 0
        now, at = self._wall
        started = now + self._origin - at
        return started if 0 < started <= MAX_TIME else 0

    def clock(self, now: int, at: int) -> None:
        """Note that the source's time ``at`` is the moment ``now``, in ns since 1970."""
        self._wall = now, at

    def skip(self, what: str, times: int = 1) -> None:
        """Note that the source has something that a trace cannot hold."""
        self.skipped[what] += times

    def leave_out(self, device: str, what: str) -> None:
        """Note that the source has something of a device that a trace cannot hold, and that is no
        request."""
        if self.device in (None, device):
            self.skip(what)

    def begin(self, op: Op, data: bytes | None = None) -> Begun:
        """Begin a request at ``op.submitted``.

        ``data`` is the data of a write, if it is known. Such a write must fit into one op. Raises
        TraceError if the request cannot be on a disk.
        """
        if not op.length and op.kind != Kind.FLUSH:
            self.skip("empty request")
            return []
        if op.offset + op.length > MAX_SIZE:
            raise self.source.error(
                f"a request for {op.length} bytes at byte {op.offset}: no disk is so large"
            )
        submitted = max(self._clock(op.submitted), self._last_end + 1)
        self._now = submitted
        begun = []
        for offset, length in pieces(op):
            piece = Op(self.ops, op.kind, op.flags, offset, length, submitted, connection=1)
            self.ops += 1
            self._begun(piece, data)
            begun.append(piece)
        return begun

    def end(self, begun: Begun, at: int, status: int = 0) -> None:
        """Complete a request at ``at``. ``status`` is an errno value, 0 for success."""
        if not begun:
            return
        self._now = self._last_end = self._clock(at)
        for op in begun:
            op.completed = self._now
            op.reference_status = op.test_status = status
            self._ended(op)

    def do(self, op: Op, data: bytes | None = None) -> None:
        """Do a request of which only one time is known: it completes before the next begins."""
        self.end(self.begin(op, data), op.submitted)

    def mark(self, name: str, at: int) -> None:
        """Set a mark."""
        raw = name.encode()
        if len(raw) > MAX_MARK:
            self.skip("end of a mark's name")
        self._marked(Mark(self.ops, self._clock(at), raw[:MAX_MARK].decode(errors="ignore")))

    def _clock(self, at: int) -> int:
        """Return a time of the source in ns since the start, never before an earlier result."""
        if self._origin is None:
            self._origin = at
        if at - self._origin > MAX_TIME:
            raise self.source.error(
                f"{at - self._origin} ns after the first request: no trace is so long"
            )
        if at - self._origin < self._latest and at != self._before:
            self.skip(BACKWARDS)
        self._before = at
        self._latest = max(self._latest, at - self._origin)
        return max(at - self._origin, self._now)

    def _begun(self, op: Op, data: bytes | None) -> None:
        raise NotImplementedError

    def _ended(self, op: Op) -> None:
        raise NotImplementedError

    def _marked(self, mark: Mark) -> None:
        raise NotImplementedError


class Survey(Sink):
    """The sink of the first reading: finds how large the disk must be, and whether it is read."""

    def __init__(self, source: ForeignFile, device: str | None) -> None:
        super().__init__(source, device)
        self.highest = 0
        """The byte after the last one that any request touches."""
        self.reads = 0

    def size(self) -> int:
        """Return the size that the requests need, in whole MiB (VHDX allows only these)."""
        return -(-self.highest // MEBIBYTE) * MEBIBYTE

    def _begun(self, op: Op, data: bytes | None) -> None:
        self.highest = max(self.highest, op.end)
        self.reads += op.kind == Kind.READ

    def _ended(self, op: Op) -> None:
        pass

    def _marked(self, mark: Mark) -> None:
        pass


class Writer(Sink):
    """The sink of the second reading: writes a trace, with payloads if the trace keeps them.

    ``shadow`` is an image on which every op is done, for the digests of what reads return. Without
    it, reads have the digest of zeroes.
    """

    keeps_data = True

    def __init__(
        self,
        source: ForeignFile,
        device: str | None,
        output: TraceOutput,
        shadow: FileDevice | None,
    ) -> None:
        super().__init__(source, device)
        self._output = output
        self._shadow = shadow

    def end_record(self) -> End:
        """Return the end record of the trace."""
        return End(self.ops, 0, self._now, "imported")

    def _begun(self, op: Op, data: bytes | None) -> None:
        if op.kind in CARRIES_DATA:
            if data is None:
                op.digest = made_up(op)
            else:
                self._output.store(op, data)
        if self._shadow is not None:
            status, got, _ = self._shadow.execute(op.kind, op.flags, op.offset, op.length, data)
            if status:
                raise StorageError(
                    f"cannot keep a copy of the disk in {self._shadow.path} (errno {status})"
                )
            if got is not None:
                op.digest = digest(got)

    def _ended(self, op: Op) -> None:
        self._output.op(op)

    def _marked(self, mark: Mark) -> None:
        self._output.mark(mark)
