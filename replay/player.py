"""Play a trace's ops through a mirror, in recorded order and concurrency, and note differences."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from replay.interleave import interleave
from replay.options import AS_RECORDED, TIMEOUT, Order
from replay.outcome import Outcome
from replay.schedule import Gate, Step, schedule
from tracer.digest import digest
from tracer.disk.device import CONNECTION_LOST, Data, Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter
from tracer.errors import StorageError, TraceError
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.durable import Unflushed
from tracer.mirror.mirror import MAX_BYTES, MAX_OPS, Flight, Mirror
from tracer.nbd.protocol import TransmissionFlag
from tracer.op import CARRIES_DATA, MUTATING, NO_TIME, Extents, Fault, Flag, Kind, Op
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData


@dataclass(frozen=True, slots=True)
class Watched:
    """Bytes ``[start, end)`` to read once ``after`` ops are done; at most one read's length."""

    start: int
    end: int
    after: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What to read while playing, after each of ``positions`` ops (ascending). A range that was
    found wrong is not read again."""

    watched: tuple[Watched, ...]
    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of a run, and the rules that compare them."""

    loop: Loop
    reference: FileDevice
    test: Device
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """Which ops of a trace are played, and how."""

    order: Order = AS_RECORDED
    first: int = 0
    """Skip the trace's first ``first`` ops: both sides hold their effect already."""
    upto: int | None = None
    """End after the trace's first ``upto`` ops; None means all."""
    timeout: float = TIMEOUT
    """The time limit for an op, in seconds."""
    probe: Probe | None = None
    allowed: frozenset[int] = frozenset()
    """The errno values that the driver may return for an op."""
    stop_early: bool = False
    """End once something differs."""


MAX_FAULTS = 1000
"""The most differences kept. A broken driver can cause one per read, and the first says most."""


class Player:
    """Plays ops of a trace on both sides, once. Keeps within the recorder's limits on ops and bytes
    in flight."""

    def __init__(self, source: TraceWithData, sides: Sides, options: PlayOptions) -> None:
        self._source = source
        self._sides = sides
        self._options = options
        self._depth = min(options.order.depth or MAX_OPS, MAX_OPS)
        self._mirror = Mirror(
            sides.reference, sides.test, sides.comparison, self._done,
            insist=True, allowed=options.allowed,
        )  # fmt: skip
        self._gate = Gate()
        self._bytes = 0
        self._position_of: dict[int, int] = {}
        # the parts of the outcome
        self._replayed = self._started = 0
        self._faults: list[tuple[int, Difference]] = []
        self._bad_reads = RangeSet()
        self._first_bad_read: tuple[int, Difference] | None = None
        self._lost: tuple[int, Op] | None = None
        self._hung: tuple[int, Op] | None = None
        self._wrong: list[tuple[int, int]] = []
        self._partial: set[int] = set()
        self._open = RangeSet()
        """What a failed op may have left otherwise than the recording found it."""
        self._progress = sides.test.progress
        self._progressed = time.monotonic_ns()
        """When the driver's answers last grew."""
        self._watched = list(options.probe.watched) if options.probe is not None else []
        self._unflushed = Unflushed()
        # as in Linux: a disk that cannot be flushed has no cache that could lose anything
        self._durable_at_once = not sides.test.export.flags & TransmissionFlag.SEND_FLUSH

    def play(self, progress: Callable[[int], None] = lambda more: None) -> Outcome:
        """Play the ops and return what differed. ``progress`` gets the number of ops just sent.

        Raises TraceError if the trace is damaged or incomplete, StorageError if the reference image
        fails, DriverHung if a probe is not answered in time, and Undecidable if the driver cannot
        take an op.
        """
        self._play(progress)
        return Outcome(
            replayed=self._replayed,
            started=self._started,
            faults=tuple(self._faults),
            bad_reads=self._bad_reads,
            first_bad_read=self._first_bad_read,
            lost=self._lost,
            hung=self._hung,
            wrong=tuple(self._wrong),
            unflushed=self._unflushed,
            partial=frozenset(self._partial),
        )

    def _play(self, progress: Callable[[int], None]) -> None:
        mirror, options = self._mirror, self._options
        numbered = enumerate(
            islice(schedule(self._source.trace.ops(), self._source.trace.recorded), options.upto)
        )
        # a probe looks after a given number of the trace's ops: that needs the recorded order
        seed = 0 if options.probe else options.order.seed
        steps = interleave(self._rest(numbered), seed, self._depth)
        probes = iter(options.probe.positions if options.probe else ())
        probe_at = next(probes, None)
        upcoming = next(steps, None)
        while upcoming is not None or mirror.in_flight:
            if options.stop_early and self._faults:
                return
            while upcoming is not None and upcoming[0] != probe_at and self._room(*upcoming):
                if self._start(*upcoming):
                    progress(1)
                upcoming = next(steps, None)
            mirror.pump()
            if mirror.test.lost is not None or self._hung is not None:
                return
            if mirror.in_flight:
                self._wait()
            elif upcoming is not None and upcoming[0] == probe_at:
                self._look(upcoming[0])
                if not self._watched:
                    return
                probe_at = next(probes, None)
            elif upcoming is not None and not self._gate.open(upcoming[1]):
                path, seq = self._source.trace.path, upcoming[1].op.seq
                raise TraceError(f"{path}: op #{seq} waits for one that comes after it")
        if probe_at is not None:
            self._look(probe_at)

    def _rest(self, numbered: Iterator[tuple[int, Step]]) -> Iterator[tuple[int, Step]]:
        """Mark the first steps as done, and return the others."""
        for position, step in islice(numbered, self._options.first):
            self._started = position + 1
            self._gate.done(step)
        return numbered

    def _room(self, position: int, step: Step) -> bool:
        """Return whether the step may start now: nothing it waits for is left, and the limits on
        ops and bytes in flight allow it."""
        apart = self._options.order.apart
        if apart and any((other, position) in apart for other in self._position_of.values()):
            return False
        return (
            self._gate.open(step)
            and self._mirror.in_flight < self._depth
            and (self._bytes == 0 or self._bytes + _weight(step.op) <= MAX_BYTES)
        )

    def _start(self, position: int, step: Step) -> bool:
        """Pass an op to the mirror; return whether it was sent.

        An op that failed on the reference while recording is skipped: it changed nothing then.
        """
        recorded = step.op
        self._started = max(self._started, position + 1)
        changes = recorded.kind in MUTATING
        if recorded.reference_status:
            if changes:  # it may have done a part of its work
                self._open.add(recorded.offset, recorded.end)
            self._gate.done(step)
            return False
        if changes and self._open:
            self._open.remove(recorded.offset, recorded.end)
        op = Op(
            recorded.seq, recorded.kind, recorded.flags, recorded.offset, recorded.length,
            completed=NO_TIME, connection=recorded.connection, digest=recorded.digest,
        )  # fmt: skip
        self._replayed += 1
        self._bytes += _weight(op)
        self._position_of[op.seq] = position
        if op.kind == Kind.FLUSH:
            self._unflushed.flush_sent(position)
        self._mirror.submit(Flight(op, self._source.data(recorded), step))
        return True

    def _wait(self) -> None:
        """Wait for the driver. Note the oldest op as hung if its time is up and no answer comes:
        a large answer may take longer."""
        quiet = min(1.0, self._options.timeout)
        self._sides.loop.poll(quiet)
        now = time.monotonic_ns()
        if self._sides.test.progress != self._progress:
            self._progress, self._progressed = self._sides.test.progress, now
        oldest = self._mirror.oldest()
        if oldest is None or not oldest.started or now - self._progressed < quiet * 1e9:
            return
        if now - oldest.started > self._options.timeout * 1e9:
            self._hung = self._position_of[oldest.op.seq], oldest.op

    def _look(self, position: int) -> None:
        """Compare the watched ranges. Note those that are wrong, and watch them no longer."""
        due = [piece for piece in self._watched if piece.after <= position]
        # a read that goes wrong once is no damage to the image: look twice
        wrong = self._wrong_among(self._wrong_among(due, position), position)
        if wrong:
            self._wrong += [(position, piece.start) for piece in wrong]
            self._watched = [piece for piece in self._watched if piece not in wrong]

    def _wrong_among(self, pieces: list[Watched], position: int) -> list[Watched]:
        """Read the ranges, and return those that are wrong."""
        reference, test = self._sides.reference, self._sides.test
        comparison = self._sides.comparison
        waiting = 0
        wrong: list[Watched] = []

        def looked(piece: Watched, at: int, error: int, data: Data | None, _: Extents) -> None:
            nonlocal waiting
            waiting -= 1
            if error:
                wrong.append(piece)
            elif data is not None:
                expected = reference.read(piece.start, piece.end - piece.start)
                actual = data[piece.start - at : piece.end - at]
                if actual != expected and comparison.differences(expected, actual, piece.start):
                    wrong.append(piece)

        unit = test.export.sizes.minimum
        for piece in pieces:
            at, stop = piece.start // unit * unit, -(-piece.end // unit) * unit
            waiting += 1
            test.submit(Kind.READ, 0, at, stop - at, None, partial(looked, piece, at))
        test.kick()
        wait = Waiter(self._sides.loop, test, self._options.timeout)
        while waiting:
            wait(f"a read after op {position}")
        return wrong

    def _note(self, position: int, difference: Difference) -> None:
        """Keep a difference of the op at ``position``."""
        if difference.fault == Fault.DATA:
            for start, end in difference.ranges:
                self._bad_reads.add(start, end)
            if self._first_bad_read is None or position < self._first_bad_read[0]:
                self._first_bad_read = position, difference
        if len(self._faults) < MAX_FAULTS:
            self._faults.append((position, difference))

    def _done(self, flight: Flight) -> None:
        """Note what an op showed, now that both sides are done with it."""
        op, step = flight.op, flight.token
        self._bytes -= _weight(op)
        position = self._position_of.pop(op.seq)
        for difference in flight.differences:
            self._note(position, difference)
        if op.test_status == CONNECTION_LOST:
            if self._lost is None:  # flights are given up oldest first
                self._lost = position, op
            return
        if flight.forgiven and op.kind in MUTATING:
            self._partial.add(position)
            self._open.add(op.offset, op.end)
        if op.kind == Kind.FLUSH:
            self._unflushed.flush_done(position, not op.test_status)
        elif op.kind in MUTATING and not (self._durable_at_once or op.flags & Flag.FUA):
            self._unflushed.changed(position)
        if op.reference_status and not flight.forgiven:
            raise StorageError(
                f"the reference image cannot take op #{op.seq} (errno {op.reference_status}): "
                "is the disk full?"
            )
        if op.kind == Kind.READ and self._source.real and not op.reference_status:
            self._check_recorded(flight, step.op)
        self._gate.done(step)

    def _check_recorded(self, flight: Flight, recorded: Op) -> None:
        """Raise TraceError if a read returns other data from the reference than while recording.

        The trace then lacks an op that changed the disk, and proves nothing about this driver.
        """
        data = flight.data
        assert isinstance(data, bytes | bytearray)
        comparison = self._sides.comparison
        place = recorded.offset, recorded.end
        if self._open.overlaps(*place):
            return
        if digest(data) != recorded.digest and comparison.defined(*place):
            raise TraceError(
                f"{self._source.trace.path}: op #{recorded.seq} read other data when it was "
                "recorded: the trace is not complete"
            )


def _weight(op: Op) -> int:
    """Return the bytes of payload that the op moves."""
    return op.length if op.kind in CARRIES_DATA or op.kind == Kind.READ else 0
