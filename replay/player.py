"""Play a trace's ops through a mirror, in recorded order and concurrency, and note differences."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice

from replay.interleave import interleave
from replay.options import AS_RECORDED, TIMEOUT, Order
from replay.outcome import Outcome
from replay.restarts import Places, changes, take_over
from replay.schedule import Gate, Step, contested, schedule
from tracer.below.clock import Clock
from tracer.candidates.durable import Unflushed
from tracer.digest import digest
from tracer.disk.device import CONNECTION_LOST, Data, Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter
from tracer.driver.served import Served, Trouble
from tracer.errors import StorageError, TraceError
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.flight import Flight
from tracer.mirror.mirror import MAX_BYTES, MAX_OPS, Mirror
from tracer.nbd.protocol import TransmissionFlag
from tracer.op import (
    CARRIES_DATA,
    MUTATING,
    NO_TIME,
    Conflicts,
    Extents,
    Fault,
    Flag,
    Kind,
    Op,
    Promise,
)
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
    served: Served | None = None
    """The driver behind the test side; None: it is never restarted, and has one connection."""
    clock: Clock | None = None
    """Notes when guest ops are sent and done, if the driver's lower ops are recorded."""


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
    connections: int | None = None
    """Spread the ops over so many connections; None: as recorded."""
    restart_every: int | None = None
    """Restart the driver after every so many ops, too."""
    hold: bool = False
    """Whether an op that conflicts with ops in flight waits for them."""
    restarts: bool = True
    """Whether the driver is restarted, where the recording did that too."""
    as_recorded: bool = True
    """Whether reads return what they returned while recording."""
    observe: Callable[[Op], None] | None = None
    """Gets each op once both sides are done with it."""


OURS_CONNECTION = 0
"""The connection of a recorder's own ops."""

OURS = 1 << 62
"""The seqs of reads of our own begin here: no trace has so many ops."""

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
            hold=options.hold, insist=True, allowed=options.allowed,
        )  # fmt: skip
        self._gate = Gate()
        self._known: set[int] = set()
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
        self._wrong_in_the_end: list[Difference] = []
        self._progress = self._mirror.progress
        self._progressed = time.monotonic_ns()
        """When the driver's answers last grew."""
        self._watched = list(options.probe.watched) if options.probe is not None else []
        self._unflushed = Unflushed()
        self._unflushed_ranges = RangeSet()
        self._forgotten: set[int] = set()
        """Changes that a restart was free to lose."""
        self._trouble: Trouble | None = None
        self._ended_at: int | None = None
        self._places = Places(source.trace, options.restart_every, options.first)
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
            partial=frozenset(self._partial | self._forgotten),
            ended_at=self._ended_at,
            stop=self._trouble.stop if self._trouble is not None else None,
            check=self._trouble.check if self._trouble is not None else None,
            log=self._trouble.log if self._trouble is not None else "",
        )

    def _play(self, progress: Callable[[int], None]) -> None:
        mirror, options = self._mirror, self._options
        numbered = enumerate(
            islice(schedule(self._source.trace.ops(), self._source.trace.recorded), options.upto)
        )
        # a probe looks after a given number of the trace's ops: that needs the recorded order
        seed = 0 if options.probe else options.order.seed
        steps = interleave(self._rest(numbered), seed, self._depth, hold=options.hold)
        probes = iter(options.probe.positions if options.probe else ())
        probe_at = next(probes, None)
        upcoming = next(steps, None)
        while upcoming is not None or mirror.in_flight:
            if options.stop_early and self._faults:
                return
            while (
                upcoming is not None
                and upcoming[0] != probe_at
                and not self._places.due(upcoming[0], upcoming[1].op)
                and self._room(*upcoming)
            ):
                if self._start(*upcoming):
                    progress(1)
                upcoming = next(steps, None)
            mirror.pump()
            self._apply()
            if mirror.lost is not None or self._hung is not None:
                return
            if mirror.in_flight:
                self._wait()
            elif upcoming is not None and self._places.due(upcoming[0], upcoming[1].op):
                self._places.passed(upcoming[0], upcoming[1].op)
                if not self._restart(upcoming[0]):
                    return
            elif upcoming is not None and upcoming[0] == probe_at:
                self._look(upcoming[0])
                if not self._watched:
                    return
                probe_at = next(probes, None)
            elif upcoming is not None and not self._gate.open(upcoming[1]):
                path, seq = self._source.trace.path, upcoming[1].op.seq
                raise TraceError(f"{path}: op #{seq} waits for one that comes after it")
        self._settle()
        if probe_at is not None:
            self._look(probe_at)

    def _apply(self) -> None:
        """Bring the reference in line with what has completed. Raises StorageError."""
        self._mirror.apply()
        if self._mirror.failed is not None:
            raise StorageError(f"{self._mirror.failed}: is the disk full?")

    def _settle(self) -> None:
        """Read what conflicting ops have left open, so that the images can be compared.

        What no order of the ops allows becomes a difference between the images.
        """
        mirror, sides = self._mirror, self._sides
        for start, end in mirror.unsettled():
            op = Op(OURS + start, int(Kind.READ), 0, start, end - start)
            self._position_of[op.seq] = self._started
            mirror.submit(Flight(op))
            mirror.pump()
            while mirror.in_flight and mirror.lost is None and self._hung is None:
                self._wait()
        mirror.give_up()
        self._apply()
        for difference in self._wrong_in_the_end:
            start, end = difference.offset, difference.offset + difference.length
            sides.reference.execute(int(Kind.WRITE), 0, start, end - start, difference.expected)
            sides.comparison.promise(Promise.EQUAL, start, end)

    def _restart(self, position: int) -> bool:
        """Restart the driver before the op at ``position``. Return whether it serves again."""
        self._settle()
        served = self._sides.served
        if served is None or not self._options.restarts or self._mirror.lost is not None:
            return self._mirror.lost is None
        self._trouble = served.restart()
        if self._trouble is not None:
            self._ended_at = position
            return False
        self._sides = replace(self._sides, test=served.running.device)
        self._mirror.reopened(self._sides.test)
        self._known.clear()
        if self._unflushed and not self._durable_at_once:
            self._forgotten |= self._unflushed.numbers()
            sides = self._sides
            take_over(
                sides.loop, sides.reference, sides.test, sides.comparison, self._unflushed_ranges,
                lambda: changes(
                    self._source, position, frozenset(self._forgotten | self._partial)
                ),
                self._options.timeout,
            )  # fmt: skip
            self._unflushed, self._unflushed_ranges = Unflushed(), RangeSet()
        return True

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
        recorded, options = step.op, self._options
        self._started = max(self._started, position + 1)
        is_change = recorded.kind in MUTATING
        if recorded.reference_status or position in options.order.skip:
            if is_change:  # one that failed may have done a part of its work
                self._open.add(recorded.offset, recorded.end)
            self._gate.done(step)
            return False
        if is_change and self._open:
            self._open.remove(recorded.offset, recorded.end)
        op = Op(
            recorded.seq, recorded.kind, recorded.flags, recorded.offset, recorded.length,
            completed=NO_TIME, connection=recorded.connection, digest=recorded.digest,
        )  # fmt: skip
        if options.connections is not None:
            op.connection = position % options.connections + 1
        if op.connection not in self._known:
            self._connect(op.connection)
        self._replayed += 1
        self._bytes += _weight(op)
        self._position_of[op.seq] = position
        if op.kind == Kind.FLUSH:
            self._unflushed.flush_sent(position)
        data = self._source.data(recorded)
        if self._sides.clock is not None:
            self._sides.clock.submitted(op.seq)
        self._mirror.submit(Flight(op, data, step))
        return True

    def _connect(self, connection: int) -> None:
        """Give a connection of the trace one of its own to the driver. The first one, and those for
        which the driver has none, use that of our own ops."""
        first = not self._known.difference({OURS_CONNECTION})
        self._known.add(connection)
        served = self._sides.served
        device = None
        if served is not None and not first and connection != OURS_CONNECTION:
            device = served.running.connect()
        if device is not None:
            self._mirror.connect(connection, device)

    def _wait(self) -> None:
        """Wait for the driver. Note the oldest op as hung if its time is up and no answer comes:
        a large answer may take longer."""
        quiet = min(1.0, self._options.timeout)
        self._sides.loop.poll(quiet)
        now = time.monotonic_ns()
        progress = self._mirror.progress
        if progress != self._progress:
            self._progress, self._progressed = progress, now
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
        test = self._sides.test
        waiting = 0
        wrong: list[Watched] = []

        since = self._mirror.event

        def looked(piece: Watched, at: int, error: int, data: Data | None, _: Extents) -> None:
            nonlocal waiting
            waiting -= 1
            if error:
                wrong.append(piece)
            elif data is not None:
                actual = bytes(data[piece.start - at : piece.end - at])
                if not self._mirror.check(piece.start, actual, since):
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
        if step is None:
            self._wrong_in_the_end += flight.differences
        else:
            if self._sides.clock is not None:
                self._sides.clock.completed(op.seq, op.test_status)
            for difference in flight.differences:
                self._note(position, difference)
        if op.test_status == CONNECTION_LOST:
            if self._lost is None:  # flights are given up oldest first
                self._lost = position, op
            return
        if step is None:
            return
        if self._options.observe is not None:
            self._options.observe(op)
        if flight.forgiven and op.kind in MUTATING:
            self._partial.add(position)
            self._open.add(op.offset, op.end)
        if op.kind == Kind.FLUSH:
            self._unflushed.flush_done(position, not op.test_status)
            if not self._unflushed:
                self._unflushed_ranges = RangeSet()
        elif op.kind in MUTATING and not (self._durable_at_once or op.flags & Flag.FUA):
            self._unflushed.changed(position)
            self._unflushed_ranges.add(op.offset, op.end)
        if op.reference_status and not flight.forgiven:
            raise StorageError(
                f"the reference image cannot take op #{op.seq} (errno {op.reference_status}): "
                "is the disk full?"
            )
        if (
            op.kind == Kind.READ
            and self._source.real
            and self._options.as_recorded
            and not (op.reference_status or flight.contested)
        ):
            self._check_recorded(flight, step.op)
        self._gate.done(step)

    @cached_property
    def _contested(self) -> RangeSet:
        """The bytes where ops conflicted while recording: they may hold something else now, unless
        such ops are held back now and were then, in the same order."""
        trace = self._source.trace
        if self._options.hold and trace.header.conflicts is Conflicts.HELD:
            return RangeSet()
        return contested(trace.ops(), trace.recorded)

    def _check_recorded(self, flight: Flight, recorded: Op) -> None:
        """Raise TraceError if a read returns other data from the reference than while recording.

        The trace then lacks an op that changed the disk, and proves nothing about this driver.
        """
        data = flight.data
        assert isinstance(data, bytes | bytearray)
        comparison = self._sides.comparison
        place = recorded.offset, recorded.end
        if self._open.overlaps(*place) or digest(data) == recorded.digest:
            return
        if comparison.defined(*place) and not self._contested.overlaps(*place):
            raise TraceError(
                f"{self._source.trace.path}: op #{recorded.seq} read other data when it was "
                "recorded: the trace is not complete"
            )


def _weight(op: Op) -> int:
    """Return the bytes of payload that the op moves."""
    return op.length if op.kind in CARRIES_DATA or op.kind == Kind.READ else 0
