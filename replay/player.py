"""Plays ops through a mirror, in recorded order and concurrency, and notes what differs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from replay.interleave import interleave
from replay.schedule import Gate, Step, schedule
from tracer.compare import Comparison
from tracer.device import CONNECTION_LOST, Data, Device, FileDevice
from tracer.digest import digest
from tracer.errors import StorageError, TraceError
from tracer.loop import Loop
from tracer.mirror import Difference, Flight, Mirror
from tracer.nbd.server import Extents
from tracer.op import CARRIES_DATA, NO_TIME, Kind, Op
from tracer.ranges import RangeSet
from tracer.recorder import MAX_BYTES, MAX_OPS
from tracer.source import TraceWithData
from tracer.sweep import Waiter
from tracer.trace import Fault


@dataclass(slots=True)
class Probe:
    """Byte ranges to look at while playing, each with the number of ops after which it is meaningful;
    they are looked at after each of ``positions`` ops (ascending). No range is larger than a read may
    be."""

    ranges: list[tuple[int, int, int]]
    positions: range

    def at(self, position: int) -> list[tuple[int, int]]:
        """The ranges that are meaningful after ``position`` ops."""
        return [(start, end) for start, end, after in self.ranges if after <= position]


@dataclass(slots=True)
class Played:
    """What came of playing ops. ``replayed`` counts the ops that were sent to the driver."""

    replayed: int = 0
    skipped: int = 0
    """Ops that failed on the reference too when recorded: they changed nothing."""
    faults: list[tuple[int, Difference]] = field(default_factory=list)
    """What differed: at most one per op, with the op's position (0 for the first), lowest first."""
    bad_reads: RangeSet = field(default_factory=RangeSet)
    """Bytes that reads returned wrong."""
    lost: tuple[int, Op] | None = None
    """The oldest op in flight when the driver went away, and its position."""
    hung: tuple[int, Op] | None = None
    """The op that was not answered in time, and its position."""
    started: int = 0
    """As many of the trace's ops have been sent, or skipped, or were done before this run."""
    wrong_at: int | None = None
    """After how many ops a probe first found its sectors wrong."""
    first_bad_read: tuple[int, Difference] | None = None
    """The first read, in the order of submission, that returned wrong data, and its position."""


MAX_FAULTS = 1000
"""Differences that are kept: a broken driver makes one per read, and the first tells the most."""


class Player:
    """Plays the first ``upto`` ops of a trace (all, if None), without the first ``first``, which both
    sides hold already. Lets no more into flight than the recorder does: what was not together when
    recorded is not now. ``seed`` chooses the order of what was together (replay/interleave.py)."""

    def __init__(
        self,
        loop: Loop,
        source: TraceWithData,
        reference: FileDevice,
        test: Device,
        comparison: Comparison,
        *,
        upto: int | None = None,
        depth: int | None = None,
        timeout: float = 30.0,
        probe: Probe | None = None,
        progress: Callable[[int], None] | None = None,
        first: int = 0,
        seed: int = 0,
    ) -> None:
        self.result = Played()
        self._loop = loop
        self._source = source
        self._comparison = comparison
        self._upto = upto
        self._depth = min(depth or MAX_OPS, MAX_OPS)
        self._timeout = timeout
        self._probe = probe
        self._progress = progress or (lambda more: None)
        self._first = first
        self._gate = Gate()
        self._seed = seed
        self._bytes = 0
        self._mirror = Mirror(reference, test, comparison, self._done, self._differs, insist=True)
        self._position_of: dict[int, int] = {}

    def play(self) -> Played:
        """Play. Raises TraceError, StorageError, and Undecidable where the driver cannot take an op."""
        mirror, result = self._mirror, self.result
        numbered = enumerate(islice(schedule(self._source.trace.ops()), self._upto))
        # a probe looks after so many ops, whichever they are: that needs the recorded order
        seed = 0 if self._probe else self._seed
        steps = interleave(self._rest(numbered), seed, self._depth)
        probes = iter(self._probe.positions if self._probe else ())
        probe_at = next(probes, None)
        upcoming = next(steps, None)
        while upcoming is not None or mirror.in_flight:
            while upcoming is not None and upcoming[0] != probe_at and self._room(upcoming[1]):
                self._start(*upcoming)
                upcoming = next(steps, None)
            mirror.pump()
            if mirror.test.lost is not None or result.hung is not None:
                return result
            if mirror.in_flight:
                self._wait()
            elif upcoming is not None and upcoming[0] == probe_at:
                if self._look(upcoming[0]):
                    return result
                probe_at = next(probes, None)
            elif upcoming is not None and not self._gate.open(upcoming[1]):
                path, seq = self._source.trace.path, upcoming[1].op.seq
                raise TraceError(f"{path}: op #{seq} waits for one that comes after it")
        if probe_at is not None:
            self._look(probe_at)
        return result

    def _rest(self, numbered: Iterator[tuple[int, Step]]) -> Iterator[tuple[int, Step]]:
        """What is to be played: all but the first steps, which are taken to be done."""
        for position, step in islice(numbered, self._first):
            self.result.started = position + 1
            self._gate.done(step)
        return numbered

    def _room(self, step: Step) -> bool:
        return (
            self._gate.open(step)
            and self._mirror.in_flight < self._depth
            and (self._bytes == 0 or self._bytes + _weight(step.op) <= MAX_BYTES)
        )

    def _start(self, position: int, step: Step) -> None:
        recorded = step.op
        self.result.started = max(self.result.started, position + 1)
        if recorded.reference_status:
            self.result.skipped += 1
            self._gate.done(step)
            return
        op = Op(
            recorded.seq, recorded.kind, recorded.flags, recorded.offset, recorded.length,
            completed=NO_TIME, connection=recorded.connection, digest=recorded.digest,
        )  # fmt: skip
        self.result.replayed += 1
        self._bytes += _weight(op)
        self._position_of[op.seq] = position
        self._mirror.submit(Flight(op, self._source.data(recorded), step))
        self._progress(1)

    def _wait(self) -> None:
        if self._loop.poll(min(1.0, self._timeout)):
            return
        oldest = self._mirror.oldest()
        if oldest is None or not oldest.started:
            return
        if time.monotonic_ns() - oldest.started > self._timeout * 1e9:
            self.result.hung = self._position_of[oldest.op.seq], oldest.op

    def _look(self, position: int) -> bool:
        """Compare the probed sectors; return whether they are wrong."""
        assert self._probe is not None
        reference, test = self._mirror.reference, self._mirror.test
        waiting = wrong = 0

        def looked(start: int, end: int, at: int, error: int, data: Data | None, _: Extents) -> None:
            nonlocal waiting, wrong
            waiting -= 1
            if error:
                wrong += 1
            elif data is not None:
                expected, actual = reference.read(start, end - start), data[start - at : end - at]
                if actual != expected and self._comparison.differences(expected, actual, start):
                    wrong += 1

        unit = test.export.sizes.minimum
        for start, end in self._probe.at(position):
            at, stop = start // unit * unit, -(-end // unit) * unit
            waiting += 1
            test.submit(Kind.READ, 0, at, stop - at, None, partial(looked, start, end, at))
        test.kick()
        wait = Waiter(self._loop, self._timeout)
        while waiting:
            wait(f"a read after op {position}")
        if wrong:
            self.result.wrong_at = position
        return bool(wrong)

    def _differs(self, difference: Difference) -> None:
        op = difference.op
        assert op is not None
        if op.kind == Kind.READ and difference.fault == Fault.DATA:
            for start, end in difference.ranges:
                self.result.bad_reads.add(start, end)
            position, first = self._position_of[op.seq], self.result.first_bad_read
            if first is None or position < first[0]:
                self.result.first_bad_read = position, difference
        if len(self.result.faults) < MAX_FAULTS:
            self.result.faults.append((self._position_of[op.seq], difference))

    def _done(self, flight: Flight) -> None:
        op, step = flight.op, flight.token
        self._bytes -= _weight(op)
        position = self._position_of.pop(op.seq)
        if op.test_status == CONNECTION_LOST:
            if self.result.lost is None:  # flights are given up oldest first
                self.result.lost = position, op
            return
        if op.reference_status:
            raise StorageError(
                f"the reference image cannot take op #{op.seq} (errno {op.reference_status}): "
                "is the disk full?"
            )
        if op.kind == Kind.READ and self._source.real and not step.op.reference_status:
            self._check_recorded(flight, step.op)
        self._gate.done(step)

    def _check_recorded(self, flight: Flight, recorded: Op) -> None:
        """The reference must read back what it did when recorded: else the trace does not tell all
        that happened, and says nothing about this driver."""
        data = flight.data
        assert isinstance(data, bytes | bytearray)
        if digest(data) != recorded.digest and self._comparison.defined(recorded.offset, recorded.end):
            raise TraceError(
                f"{self._source.trace.path}: op #{recorded.seq} read other data when it was recorded: "
                "the trace is not complete"
            )


def _weight(op: Op) -> int:
    return op.length if op.kind in CARRIES_DATA or op.kind == Kind.READ else 0
