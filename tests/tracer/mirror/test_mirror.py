"""Mirror: both sides see the same order, no difference is ever made up, and none is missed.

The test side is a disk in memory that completes what is in flight in any order.
"""

import errno
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.data import pattern
from tests.kit.traces import changed
from tracer.closing import Closing
from tracer.disk.device import CONNECTION_LOST, Data, Done
from tracer.disk.file import FileDevice
from tracer.mirror.block_status import common_extents, false_hole
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.mirror import Flight, Mirror
from tracer.nbd import protocol as p
from tracer.op import MUTATING, SECTOR, Buffer, Extents, Fault, Flag, Kind, Op, TrimRule

SECTORS = 24
SIZE = SECTORS * SECTOR
HOLE = int(p.State.HOLE | p.State.ZERO)

# the reference image is emptied by every example
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)

Key = tuple[int, int, int, bytes]
"""What tells requests apart: kind, offset, length, data."""


@dataclass
class Fake:
    """A disk in memory. ``finish`` completes one of the requests in flight, and only then does it.

    How it treats trims, fast zeroes and block status is decided by their offsets and lengths alone,
    so that a model can tell. ``defect`` may answer a request in its own way, or with None leave it.
    """

    export: p.Export = field(default_factory=lambda: p.Export(SIZE, 0))
    lost: Exception | None = None
    defect: Callable[[Key], tuple[int, Data | None, Extents] | None] = lambda key: None
    sectors_only: bool = False
    data: bytearray = field(default_factory=lambda: bytearray(SIZE))
    pending: list[tuple[int, int, int, int, bytes, Done]] = field(default_factory=list)
    log: list[tuple[str, Key]] = field(default_factory=list)

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        payload = bytes(data or b"")
        self.log.append(("start", (kind, offset, length, payload)))
        self.pending.append((kind, flags, offset, length, payload, done))

    def kick(self) -> None:
        """Everything is on its way already."""

    def close(self) -> None:
        """Nothing to give back."""

    def finish(self, index: int = 0) -> None:
        kind, flags, offset, length, payload, done = self.pending.pop(index)
        key = (kind, offset, length, payload)
        answer = self.defect(key)
        if answer is None:
            answer = self.execute(kind, flags, offset, length, payload)
        self.log.append(("end", key))
        done(*answer)

    def execute(
        self, kind: int, flags: int, offset: int, length: int, payload: bytes
    ) -> tuple[int, Data | None, Extents]:
        piece = slice(offset, offset + length)
        if kind == Kind.READ:
            return 0, bytes(self.data[piece]), []
        if kind == Kind.WRITE:
            self.data[piece] = payload
        elif kind == Kind.ZERO:
            if flags & Flag.FAST_ZERO and not is_fast(offset):
                return errno.ENOTSUP, None, []
            self.data[piece] = bytes(length)
        elif kind == Kind.TRIM:
            how = (offset + length) // SECTOR % (2 if self.sectors_only else 3)
            if how:
                self.data[piece] = bytes(length) if how == 1 else b"?" * length
        elif kind == Kind.BLOCK_STATUS:
            return 0, None, self.status(offset, length)
        return 0, None, []

    def status(self, offset: int, length: int) -> Extents:
        """Honest, but not always exact: it may call zeroes data, and answer for less or for more."""
        step = SECTOR if length % 3 else length
        extents = []
        for at in range(offset, offset + length, step):
            size = min(step, offset + length - at)
            zero = not any(self.data[at : at + size])
            extents.append((size, HOLE if zero and at % 1024 == 0 else 0))
        if length % 5 == 0:
            return extents[: max(1, len(extents) // 2)]
        if length % 7 == 0:
            size, state = extents[-1]
            extents[-1] = (size + (0 if state else 4096), state)
        return extents


def is_fast(offset: int) -> bool:
    return offset // SECTOR % 2 == 0


class Bench(Closing):
    """A mirror between a reference file and a fake, and what came of it."""

    def __init__(
        self, path: Path, fake: Fake | None = None, rule: TrimRule = TrimRule.ANY, **more: bool
    ) -> None:
        path.write_bytes(b"")
        with path.open("r+b") as file:
            file.truncate(SIZE)
        self.reference = FileDevice(path)
        self.fake = fake or Fake()
        self.comparison = Comparison(rule)
        self.done: list[Flight] = []
        self.referred: list[Flight] = []
        self.mirror = Mirror(
            self.reference,
            self.fake,
            self.comparison,
            self.done.append,
            self.referred.append,
            **more,
        )
        self.ops: list[Op] = []
        self.payloads: list[bytes] = []

    @property
    def differences(self) -> list[Difference]:
        """What the two sides differ in, in the order in which ops were done."""
        return [difference for flight in self.done for difference in flight.differences]

    def submit(
        self, kind: int, offset: int = 0, length: int = 0, data: bytes | None = None, flags: int = 0
    ) -> Flight:
        op = Op(len(self.ops), int(kind), flags, offset, length)
        self.ops.append(op)
        self.payloads.append(data or b"")
        flight = Flight(op, data)
        self.mirror.submit(flight)
        return flight

    def run(self, *request: object) -> Flight:
        """Submit a request and let everything finish."""
        flight = self.submit(*request)  # type: ignore[arg-type]
        self.settle()
        return flight

    def settle(self, pick: Callable[[int], int] = lambda count: 0) -> None:
        """Let everything finish; ``pick`` says which of so many is next."""
        self.mirror.pump()
        while self.fake.pending:
            self.fake.finish(pick(len(self.fake.pending)))
            self.mirror.pump()

    def close(self) -> None:
        self.reference.close()

    def reference_bytes(self) -> bytes:
        return self.reference.read(0, SIZE)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "reference.raw"


@pytest.fixture
def bench(image: Path) -> Iterator[Bench]:
    with Bench(image) as bench:
        yield bench


def ranges(difference: Difference) -> list[tuple[int, int]]:
    """Sectors: first and one beyond the last."""
    return [(start // SECTOR, -(-end // SECTOR)) for start, end in difference.ranges]


def sectors(first: int, count: int = 1, value: bytes = b"w") -> tuple[int, int, bytes]:
    """Offset, length and data of a write."""
    return first * SECTOR, count * SECTOR, value * (count * SECTOR)


# ---------------------------------------------------------------- one op at a time


def test_a_write_reaches_both_sides(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(2, 2))
    assert bench.reference_bytes() == bytes(bench.fake.data)
    assert bench.fake.data[1024:2048] == b"w" * 1024


def test_a_read_has_the_references_data(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(2))
    assert bench.run(Kind.READ, 1024, 512).data == b"w" * 512
    assert bench.differences == []


@pytest.mark.parametrize("kind", [Kind.READ, Kind.FLUSH, Kind.TRIM, Kind.CACHE, Kind.ZERO])
def test_every_kind_reaches_the_driver_with_its_range(bench: Bench, kind: Kind) -> None:
    bench.run(kind, 512, 1024)
    assert bench.fake.log == [("start", (kind, 512, 1024, b"")), ("end", (kind, 512, 1024, b""))]


def test_flags_reach_the_driver(bench: Bench) -> None:
    bench.submit(Kind.ZERO, 0, 512, None, Flag.FUA | Flag.NO_HOLE)
    bench.mirror.pump()
    assert bench.fake.pending[0][1] == Flag.FUA | Flag.NO_HOLE
    bench.settle()


def test_done_comes_once_both_sides_are_done(bench: Bench) -> None:
    bench.submit(Kind.WRITE, *sectors(0))
    bench.mirror.pump()
    assert bench.done == []
    assert len(bench.referred) == 1
    assert bench.mirror.in_flight == 1
    bench.fake.finish()
    assert [flight.op.seq for flight in bench.done] == [0]
    assert bench.mirror.in_flight == 0


def test_both_sides_are_timed(bench: Bench) -> None:
    op = bench.run(Kind.WRITE, *sectors(0)).op
    assert op.test_ns > 0
    assert op.reference_ns > 0


# ---------------------------------------------------------------- differences


def test_a_lost_write_is_seen_by_the_next_read(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(4, 4))
    bench.fake.data[5 * SECTOR : 6 * SECTOR] = bytes(SECTOR)
    bench.fake.data[7 * SECTOR + 100] = 0
    read = bench.run(Kind.READ, 0, SIZE)
    (difference,) = bench.differences
    assert difference.op is read.op
    assert difference.fault == Fault.DATA
    assert ranges(difference) == [(5, 6), (7, 8)]
    assert (difference.offset, difference.length) == (5 * SECTOR, 3 * SECTOR)
    assert difference.expected == b"w" * (3 * SECTOR)
    assert difference.actual[:SECTOR] == bytes(SECTOR)


def test_a_difference_is_known_when_an_op_is_done(bench: Bench) -> None:
    seen: list[int] = []
    bench.mirror._done = lambda flight: seen.append(len(flight.differences))
    bench.fake.data[0] = 1
    bench.run(Kind.READ, 0, 512)
    bench.run(Kind.READ, 512, 512)
    assert seen == [1, 0]


@pytest.mark.parametrize(
    "kind", [Kind.READ, Kind.WRITE, Kind.ZERO, Kind.TRIM, Kind.FLUSH, Kind.CACHE]
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINVAL])
def test_a_failure_on_one_side_is_a_difference(bench: Bench, kind: Kind, number: int) -> None:
    bench.fake.defect = lambda key: (number, None, []) if key[0] == kind else None
    data = b"w" * 512 if kind == Kind.WRITE else None
    flight = bench.run(kind, 512, 512, data)
    (difference,) = bench.differences
    assert difference.fault == Fault.STATUS
    assert difference.op is flight.op
    assert (difference.expected_status, difference.actual_status) == (0, number)
    assert (flight.op.reference_status, flight.op.test_status) == (0, number)


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.ZERO, Kind.TRIM])
def test_what_a_failed_change_left_is_reported_once(bench: Bench, kind: Kind) -> None:
    bench.run(Kind.WRITE, *sectors(0, 4, b"a"))
    bench.fake.defect = lambda key: (errno.EIO, None, []) if key[0] == kind else None
    bench.run(kind, 512, 512, b"b" * 512 if kind == Kind.WRITE else None)
    bench.run(Kind.READ, 0, 2048)
    assert [difference.fault for difference in bench.differences] == [Fault.STATUS]
    bench.fake.defect = lambda key: None
    bench.run(Kind.WRITE, *sectors(0, 4, b"c"))
    bench.fake.data[512] = 0
    bench.run(Kind.READ, 0, 2048)
    assert [difference.fault for difference in bench.differences] == [Fault.STATUS, Fault.DATA]


def test_failure_on_both_sides_is_no_difference(bench: Bench) -> None:
    bench.fake.defect = lambda key: (errno.EIO, None, [])
    bench.reference.execute = lambda *_: (errno.ENOSPC, None, [])  # type: ignore[method-assign]
    bench.run(Kind.WRITE, *sectors(0))
    assert bench.differences == []
    assert not bench.comparison.defined(0, SECTOR)


@pytest.mark.parametrize("kind", [Kind.READ, Kind.WRITE, Kind.TRIM, Kind.ZERO, Kind.BLOCK_STATUS])
@pytest.mark.parametrize("flags", [0, Flag.FAST_ZERO])
def test_a_driver_that_went_away_is_no_difference(bench: Bench, kind: Kind, flags: int) -> None:
    """It is reported as such; what it did of its last changes is unknown."""
    bench.fake.defect = lambda key: (CONNECTION_LOST, None, [])
    flight = bench.run(kind, 512, 512, b"w" * 512 if kind == Kind.WRITE else None, flags)
    assert bench.differences == []
    assert len(bench.done) == 1
    assert flight.op.test_status == CONNECTION_LOST
    assert bench.comparison.defined(512, 1024) == (kind not in MUTATING)


# ---------------------------------------------------------------- block status


def test_a_false_hole_is_a_difference(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(3, 2))
    bench.fake.defect = lambda key: (
        (0, None, [(SIZE, HOLE)]) if key[0] == Kind.BLOCK_STATUS else None
    )
    flight = bench.run(Kind.BLOCK_STATUS, 0, SIZE)
    (difference,) = bench.differences
    assert difference.op is flight.op
    assert difference.fault == Fault.BLOCK_STATUS
    assert ranges(difference) == [(3, 5)]
    assert difference.expected == b"w" * 1024
    assert difference.actual == bytes(1024)


def test_zeroes_that_are_called_data_are_no_difference(bench: Bench) -> None:
    bench.fake.defect = lambda key: (0, None, [(SIZE, 0)])
    assert bench.run(Kind.BLOCK_STATUS, 0, SIZE).extents == [(SIZE, 0)]
    assert bench.differences == []


def test_data_called_a_hole_but_not_zero_is_no_difference(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 8))
    bench.fake.defect = lambda key: (0, None, [(SIZE, int(p.State.HOLE))])
    bench.run(Kind.BLOCK_STATUS, 0, SIZE)
    assert bench.differences == []


def test_a_trimmed_range_may_be_called_a_hole(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 8))
    bench.comparison.done(changed(Kind.TRIM, 0, 4 * SECTOR, failed=False))
    assert (
        false_hole(bench.reference, bench.comparison, 0, 4 * SECTOR, [(4 * SECTOR, HOLE)]) is None
    )
    lie = false_hole(bench.reference, bench.comparison, 0, 5 * SECTOR, [(5 * SECTOR, HOLE)])
    assert lie == (4 * SECTOR, b"w" * SECTOR)


def test_only_what_was_asked_for_is_looked_at(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(8))
    lie = false_hole(bench.reference, bench.comparison, 0, 8 * SECTOR, [(1 << 30, HOLE)])
    assert lie is None


@pytest.mark.parametrize(
    ("ours", "theirs", "length", "both"),
    [
        ([(10, 3)], [(10, 3)], 10, [(10, 3)]),
        ([(10, 3)], [(10, 0)], 10, [(10, 0)]),
        ([(10, 3)], [(10, 2)], 10, [(10, 2)]),
        ([(4, 3), (6, 0)], [(10, 3)], 10, [(4, 3), (6, 0)]),
        ([(4, 3), (6, 0)], [(7, 3), (3, 1)], 10, [(4, 3), (6, 0)]),
        ([(10, 3)], [(4, 3)], 10, [(4, 3)]),
        ([(10, 3)], [(1 << 30, 3)], 10, [(10, 3)]),
        ([(5, 3), (5, 3)], [(2, 3), (8, 3)], 10, [(10, 3)]),
        ([(10, 3)], [], 10, []),
    ],
)
def test_what_both_sides_agree_on(
    ours: Extents, theirs: Extents, length: int, both: Extents
) -> None:
    assert common_extents(ours, theirs, length) == both


# ---------------------------------------------------------------- fast zero


def test_a_zero_that_is_not_fast_is_done_on_neither_side(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 4))
    flight = bench.run(Kind.ZERO, SECTOR, SECTOR, None, Flag.FAST_ZERO)
    assert flight.op.reference_status == flight.op.test_status == errno.ENOTSUP
    assert bench.differences == []
    assert bench.reference_bytes()[:2048] == b"w" * 2048
    assert bench.comparison.defined(0, SIZE)


def test_a_fast_zero_is_done_on_both_sides(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 4))
    bench.run(Kind.ZERO, 0, SECTOR, None, Flag.FAST_ZERO)
    assert bench.reference_bytes() == bytes(bench.fake.data)
    assert bench.reference_bytes()[:SECTOR] == bytes(SECTOR)


def test_a_fast_zero_that_fails_in_another_way_is_a_difference(bench: Bench) -> None:
    """ENOTSUP says that it is not fast and that nothing was done. Any other errno is a failure."""
    bench.fake.defect = lambda key: (errno.EIO, None, []) if key[0] == Kind.ZERO else None
    bench.run(Kind.ZERO, 0, SECTOR, None, Flag.FAST_ZERO)
    assert [difference.fault for difference in bench.differences] == [Fault.STATUS]
    assert not bench.comparison.defined(0, SECTOR)


def test_a_mirror_that_insists_does_it_slowly(image: Path) -> None:
    bench = Bench(image, insist=True)
    bench.run(Kind.WRITE, *sectors(0, 4))
    flight = bench.run(Kind.ZERO, SECTOR, SECTOR, None, Flag.FAST_ZERO)
    assert (flight.op.reference_status, flight.op.test_status) == (0, 0)
    assert bench.reference_bytes() == bytes(bench.fake.data)
    assert bench.reference_bytes()[: 2 * SECTOR] == b"w" * SECTOR + bytes(SECTOR)
    assert bench.differences == []
    bench.close()


# ---------------------------------------------------------------- order


def test_overlapping_changes_go_one_after_the_other(bench: Bench) -> None:
    bench.submit(Kind.WRITE, *sectors(0, 4, b"a"))
    bench.submit(Kind.WRITE, *sectors(3, 2, b"b"))
    bench.mirror.pump()
    assert len(bench.fake.pending) == 1
    bench.fake.finish()
    bench.mirror.pump()
    assert len(bench.fake.pending) == 1
    bench.settle()
    assert bench.reference_bytes()[3 * SECTOR : 5 * SECTOR] == b"b" * 1024


def test_overlapping_reads_are_in_flight_together(bench: Bench) -> None:
    bench.submit(Kind.READ, 0, 2048)
    bench.submit(Kind.READ, 512, 2048)
    bench.submit(Kind.BLOCK_STATUS, 0, SIZE)
    bench.mirror.pump()
    assert len(bench.fake.pending) == 3
    bench.settle()


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.TRIM, Kind.ZERO])
def test_a_read_waits_for_a_change_and_the_other_way_round(bench: Bench, kind: Kind) -> None:
    data = b"w" * 512 if kind == Kind.WRITE else None
    for request in ((kind, 0, 512, data), (Kind.READ, 0, 512), (kind, 0, 512, data)):
        bench.submit(*request)  # type: ignore[arg-type]
    for _ in range(3):
        bench.mirror.pump()
        assert len(bench.fake.pending) == 1
        bench.fake.finish()


def test_neighbours_are_in_flight_together(bench: Bench) -> None:
    for at in range(4):
        bench.submit(Kind.WRITE, *sectors(at))
    bench.submit(Kind.FLUSH)
    bench.mirror.pump()
    assert len(bench.fake.pending) == 5
    bench.settle()


def test_what_has_been_in_flight_for_longest(bench: Bench) -> None:
    assert bench.mirror.oldest() is None
    for at in range(3):
        bench.submit(Kind.WRITE, *sectors(at))
    bench.mirror.pump()
    bench.fake.finish(0)
    oldest = bench.mirror.oldest()
    assert oldest is not None
    assert oldest.op.seq == 1
    bench.settle()


def test_a_test_side_in_process(image: Path, tmp_path: Path) -> None:
    """A FileDevice is done before submit returns; the same holds."""
    other = tmp_path / "test.raw"
    other.write_bytes(bytes(SIZE))
    bench = Bench(image)
    test = FileDevice(other)
    bench.mirror.test = test
    for kind, flags in (
        (Kind.WRITE, 0),
        (Kind.ZERO, Flag.FAST_ZERO),
        (Kind.READ, 0),
        (Kind.TRIM, 0),
    ):
        bench.submit(kind, 512, 1024, b"x" * 1024 if kind == Kind.WRITE else None, flags)
    bench.mirror.pump()
    test.close()
    bench.close()
    assert [flight.op.seq for flight in bench.done] == [0, 1, 2, 3]
    assert bench.differences == []


# ---------------------------------------------------------------- any stream of ops


@dataclass(frozen=True)
class Step:
    """One step of a run: submit an op, pump, or complete one of those in flight."""

    action: str
    kind: int = 0
    offset: int = 0
    length: int = 0
    flags: int = 0
    fill: int = 0
    pick: int = 0


@st.composite
def steps(draw: st.DrawFn, unit: int = 256) -> Step:
    action = draw(st.sampled_from(["submit", "submit", "submit", "pump", "finish"]))
    if action != "submit":
        return Step(action, pick=draw(st.integers(0, 20)))
    kind = draw(st.sampled_from([kind for kind in Kind if kind != Kind.START]))
    if kind == Kind.FLUSH:
        return Step(action, int(kind))
    offset = draw(st.integers(0, SIZE // unit - 1)) * unit
    length = draw(st.integers(1, min(12 * SECTOR, SIZE - offset) // unit)) * unit
    flags = Flag.FAST_ZERO if kind == Kind.ZERO and draw(st.booleans()) else 0
    return Step(action, int(kind), offset, length, int(flags), draw(st.integers(1, 255)))


class Model:
    """What every byte must be if ops are done in the order of their submission; None where trimmed."""

    def __init__(self) -> None:
        self.bytes: list[int | None] = [0] * SIZE
        self.expected: dict[int, list[int | None]] = {}

    def submit(self, op: Op, data: bytes | None) -> None:
        piece = slice(op.offset, op.end)
        if op.kind == Kind.READ:
            self.expected[op.seq] = self.bytes[piece]
        elif op.kind == Kind.WRITE:
            assert data is not None
            self.bytes[piece] = list(data)
        elif op.kind == Kind.TRIM:
            self.bytes[piece] = [None] * op.length
        elif op.kind == Kind.ZERO and (not op.flags & Flag.FAST_ZERO or is_fast(op.offset)):
            self.bytes[piece] = [0] * op.length


def agrees(data: bytes, expected: list[int | None]) -> bool:
    return all(want is None or have == want for have, want in zip(data, expected, strict=True))


def conflict(one: Op, other: Op) -> bool:
    overlap = one.offset < other.end and other.offset < one.end
    return overlap and (one.kind in MUTATING or other.kind in MUTATING)


def play(bench: Bench, todo: list[Step]) -> tuple[Model, list[int]]:
    """Do the steps and let everything finish; also return which ops nothing was in the way of."""
    model, free = Model(), []
    for step in todo:
        if step.action == "pump":
            bench.mirror.pump()
        elif step.action == "finish":
            if bench.fake.pending:
                bench.fake.finish(step.pick % len(bench.fake.pending))
        else:
            over = {flight.op.seq for flight in bench.done}
            data = pattern(step.length, step.fill) if step.kind == Kind.WRITE else None
            op = bench.submit(step.kind, step.offset, step.length, data, step.flags).op
            model.submit(op, data)
            if not any(conflict(op, other) for other in bench.ops[:-1] if other.seq not in over):
                free.append(op.seq)
    picks = iter([step.pick for step in todo] * 100)
    bench.settle(lambda count: next(picks) % count)
    return model, free


def moments(bench: Bench) -> dict[int, tuple[int, int]]:
    """When each op started and ended on the test side. Equal requests are told apart by their order:
    those that change data are never in flight together, and for others it does not matter."""
    waiting: dict[Key, deque[int]] = defaultdict(deque)
    running: dict[Key, deque[int]] = defaultdict(deque)
    for op in bench.ops:
        key = (op.kind, op.offset, op.length, bench.payloads[op.seq])
        waiting[key].append(op.seq)
    starts, ends = {}, {}
    for moment, (what, key) in enumerate(bench.fake.log):
        if what == "start":
            seq = waiting[key].popleft()
            running[key].append(seq)
            starts[seq] = moment
        else:
            ends[running[key].popleft()] = moment
    return {seq: (starts[seq], ends[seq]) for seq in starts}


@many
@given(st.lists(steps(), max_size=40))
def test_no_difference_is_ever_made_up(image: Path, todo: list[Step]) -> None:
    bench = Bench(image)
    model, _ = play(bench, todo)
    assert bench.differences == []
    assert sorted(flight.op.seq for flight in bench.done) == list(range(len(bench.ops)))
    for flight in bench.done:
        if flight.op.kind == Kind.READ:
            assert agrees(bytes(flight.data or b""), model.expected[flight.op.seq])
    assert agrees(bench.reference_bytes(), model.bytes)
    assert agrees(bytes(bench.fake.data), model.bytes)
    bench.run(Kind.READ, 0, SIZE)
    assert bench.differences == []
    bench.close()


@many
@given(st.lists(steps(unit=SECTOR), max_size=40))
def test_no_difference_is_made_up_by_the_strict_trim_rule(image: Path, todo: list[Step]) -> None:
    """The driver zeroes what is trimmed or keeps it, sector by sector."""
    bench = Bench(image, Fake(sectors_only=True), "old-or-zero")
    play(bench, todo)
    bench.run(Kind.READ, 0, SIZE)
    assert bench.differences == []
    bench.close()


@many
@given(st.lists(steps(), max_size=40))
def test_order_on_the_test_side(image: Path, todo: list[Step]) -> None:
    bench = Bench(image)
    _, free = play(bench, todo)
    when = moments(bench)
    assert when.keys() == {op.seq for op in bench.ops}
    for one in bench.ops:
        for other in bench.ops[one.seq + 1 :]:
            if conflict(one, other):
                assert when[one.seq][1] < when[other.seq][0], "overlapping ops overtook one another"
    started = [when[seq][0] for seq in free]
    assert started == sorted(started), "ops that nothing held up overtook one another"
    bench.close()


@many
@given(st.lists(steps(), max_size=40))
def test_all_that_may_be_in_flight_is(image: Path, todo: list[Step]) -> None:
    """After a pump, whatever is not on its way has something in flight in its way."""
    bench = Bench(image)
    for step in todo:
        if step.action == "submit":
            data = pattern(step.length, step.fill) if step.kind == Kind.WRITE else None
            bench.submit(step.kind, step.offset, step.length, data, step.flags)
        elif step.action == "finish" and bench.fake.pending:
            bench.fake.finish(step.pick % len(bench.fake.pending))
        bench.mirror.pump()
        over = {flight.op.seq for flight in bench.done}
        active = [op for op in bench.ops if op.seq not in over]
        blocked = [
            op
            for op in active
            if any(conflict(op, other) for other in active if other.seq < op.seq)
        ]
        assert len(bench.fake.pending) == len(active) - len(blocked)
    bench.settle()
    bench.close()


@many
@given(st.lists(steps(unit=SECTOR), max_size=30), st.data())
def test_a_lost_write_is_found_in_its_sectors(
    image: Path, todo: list[Step], data: st.DataObject
) -> None:
    """One write that the driver forgets: reading everything reports the sectors where that shows."""
    writes = [
        at for at, step in enumerate(todo) if step.action == "submit" and step.kind == Kind.WRITE
    ]
    bench = Bench(image)
    if writes:
        chosen = todo[data.draw(st.sampled_from(writes))]
        lost = (chosen.kind, chosen.offset, chosen.length, pattern(chosen.length, chosen.fill))
        bench.fake.defect = lambda key: (0, None, []) if key == lost else None
    model, _ = play(bench, [step for step in todo if step.kind != Kind.BLOCK_STATUS])
    early = len(bench.differences)
    bench.run(Kind.READ, 0, SIZE)
    wrong = [
        at
        for at in range(SECTORS)
        if not agrees(
            bytes(bench.fake.data[at * SECTOR : (at + 1) * SECTOR]),
            model.bytes[at * SECTOR : (at + 1) * SECTOR],
        )
    ]
    late = bench.differences[early:]
    found = [
        at for difference in late for first, last in ranges(difference) for at in range(first, last)
    ]
    assert found == wrong
    assert all(difference.fault == Fault.DATA for difference in bench.differences)
    bench.close()


@pytest.mark.parametrize("rule", TrimRule)
def test_junk_in_a_trimmed_sector_is_excused_by_the_loose_rule_alone(
    image: Path, rule: str
) -> None:
    bench = Bench(image, rule=rule)
    bench.run(Kind.WRITE, *sectors(0, 4))
    bench.run(Kind.TRIM, 0, SECTOR * 2)  # the fake leaves question marks
    bench.run(Kind.READ, 0, SIZE)
    assert [ranges(one) for one in bench.differences] == ([] if rule == "any" else [[(0, 2)]])
    bench.close()
