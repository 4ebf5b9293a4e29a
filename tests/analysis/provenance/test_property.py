"""Known damage done to the disk of a random trace: its class and its source are found."""

import weakref
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.kit.damage import Disk, Request, noise, write_trace
from tracer.op import MUTATING, SECTOR, Kind, Op
from tracer.verdict import Detail, Finding

pytestmark = pytest.mark.slow

SECTORS = 32
SIZE = SECTORS * SECTOR

# the files are written anew by every example
rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)

WRITERS = (Kind.WRITE, Kind.WRITE, Kind.WRITE, Kind.ZERO, Kind.TRIM)


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    """Ops that overlap a lot, one in four of them not aligned to sectors; perhaps a start image."""
    found: list[Request] = []
    if draw(st.booleans()):
        found.append((Kind.START, 0, SIZE // 2))
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(WRITERS))
        first = draw(st.integers(0, SECTORS - 1))
        length = draw(st.integers(1, min(8, SECTORS - first))) * SECTOR
        offset = first * SECTOR
        if draw(st.integers(0, 3)) == 0:
            lead = draw(st.integers(0, length - 1))
            offset, length = offset + lead, draw(st.integers(1, length - lead))
        found.append((kind, offset, length if kind is Kind.WRITE else bytes(length)))
    return found


class Oracle:
    """Who wrote each byte, in order: one list per byte."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.writers: list[list[int]] = [[] for _ in range(SIZE)]
        for op in disk.ops:
            for at in range(op.offset, op.end) if op.kind in MUTATING else ():
                self.writers[at].append(op.seq)

    def trims(self, start: int, end: int) -> bool:
        """Whether any byte was ever trimmed: then a previous version may be one of two."""
        kinds = (self.disk.ops[seq].kind for at in range(start, end) for seq in self.writers[at])
        return Kind.TRIM in kinds

    def on_top(self, op: Op) -> bool:
        """Whether nothing of an op was overwritten."""
        return all(self.writers[at][-1] == op.seq for at in range(op.offset, op.end))


def whole_op(
    disk: Disk,
    oracle: Oracle,
    data: st.DataObject,
    kinds: tuple[Kind, ...],
    fit: Callable[[Op], bool] = lambda op: True,
) -> Op:
    """An op that changed something, of which nothing was overwritten."""
    good = disk.after()
    found = [
        op for op in disk.ops
        if op.kind in kinds and fit(op) and oracle.on_top(op)
        and not oracle.trims(op.offset, op.end)
        and disk.after(op.seq)[op.offset : op.end] != good[op.offset : op.end]
    ]  # fmt: skip
    assume(found)
    return data.draw(st.sampled_from(found))


def aligned(op: Op) -> bool:
    return op.offset % SECTOR == 0 and op.length % SECTOR == 0


def changed(good: bytearray, bad: bytearray) -> list[int]:
    """The sectors that differ."""
    return [
        sector for sector in range(SECTORS)
        if good[sector * SECTOR : (sector + 1) * SECTOR]
        != bad[sector * SECTOR : (sector + 1) * SECTOR]
    ]  # fmt: skip


def check(
    disk: Disk, bad: bytearray, culprit: int | None, kind: str, right: Callable[[Finding], bool]
) -> None:
    """Every damaged sector is in one finding, of that kind and with the right source."""
    findings = disk.explain(bad, culprit)
    sectors = [one.sector + at for one in findings for at in range(one.sectors)]
    assert sorted(set(sectors)) == changed(disk.after(), bad)
    for one in findings:
        assert one.kind == kind, one.text
        assert right(one), one.text
        # its JSON is read again
        assert msgspec.convert(msgspec.to_builtins(one), Finding) == one


def seq(one: Finding) -> int | None:
    return None if one.source is None else one.source.seq


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Request], str]:
    return draw(requests()), draw(st.sampled_from(["full", "hash"]))


def load(tmp_path: Path, world: tuple[list[Request], str]) -> tuple[Disk, Oracle]:
    many, payloads = world
    disk = Disk(write_trace(tmp_path / "t.trace", many, size=SIZE, payloads=payloads))
    # hundreds of disks are made: close each with its last user
    weakref.finalize(disk, disk.source.close)
    return disk, Oracle(disk)


@rewritten
@given(worlds(), st.data())
def test_lost(tmp_path: Path, world: tuple[list[Request], str], data: st.DataObject) -> None:
    disk, oracle = load(tmp_path, world)
    op = whole_op(disk, oracle, data, (Kind.WRITE, Kind.ZERO))
    before, bad = disk.after(op.seq), disk.after()
    bad[op.offset : op.end] = before[op.offset : op.end]

    good = disk.after()

    def right(one: Finding) -> bool:
        """It came from whoever had written the first byte that is wrong."""
        sectors = range(one.sector * SECTOR, (one.sector + one.sectors) * SECTOR)
        wrong = next(at for at in sectors if good[at] != bad[at])
        older = [number for number in oracle.writers[wrong] if number < op.seq]
        return seq(one) == (older[-1] if older else None)

    check(disk, bad, op.seq, "lost-write", right)


@rewritten
@given(worlds(), st.data())
def test_torn(tmp_path: Path, world: tuple[list[Request], str], data: st.DataObject) -> None:
    disk, oracle = load(tmp_path, world)
    # of whole sectors: in a sector that others wrote parts of, a torn write may be called foreign
    op = whole_op(disk, oracle, data, (Kind.WRITE,), aligned)
    before, good, bad = disk.after(op.seq), disk.after(), disk.after()
    boundary = data.draw(st.integers(op.offset + 1, op.end - 1)) if op.length > 1 else op.end
    parts = [slice(op.offset, boundary), slice(boundary, op.end)]
    lost, kept = data.draw(st.permutations(parts))
    assume(all(before[part] != good[part] for part in (lost, kept)))
    bad[lost] = before[lost]
    # eight flipped bits and less look the same whoever flipped them
    assume(all(_bits(good, bad, sector) > 8 for sector in changed(good, bad)))

    def right(one: Finding) -> bool:
        found = one.detail.boundary
        between = slice(min(found, boundary), max(found, boundary))
        return (
            seq(one) == op.seq
            and one.detail.into_op == found - op.offset
            and found & -found == one.detail.power_of_two >= boundary & -boundary
            and before[between] == good[between]
        )

    check(disk, bad, op.seq, "torn", right)


def _bits(good: bytearray, bad: bytearray, sector: int) -> int:
    part = slice(sector * SECTOR, (sector + 1) * SECTOR)
    return (int.from_bytes(good[part], "big") ^ int.from_bytes(bad[part], "big")).bit_count()


@rewritten
@given(worlds(), st.data())
def test_zeroed(tmp_path: Path, world: tuple[list[Request], str], data: st.DataObject) -> None:
    disk, oracle = load(tmp_path, world)

    def fit(op: Op) -> bool:
        before = disk.after(op.seq)
        return aligned(op) and all(
            any(before[at : at + SECTOR]) for at in range(op.offset, op.end, SECTOR)
        )

    op, bad = whole_op(disk, oracle, data, (Kind.WRITE,), fit), disk.after()
    bad[op.offset : op.end] = bytes(op.length)
    check(disk, bad, op.seq, "zeroed", lambda one: one.source is None)


@rewritten
@given(worlds(), st.data())
def test_stale(tmp_path: Path, world: tuple[list[Request], str], data: st.DataObject) -> None:
    disk, oracle = load(tmp_path, world)
    found = []
    for sector in range(SECTORS):
        part = slice(sector * SECTOR, (sector + 1) * SECTOR)
        many = {tuple(writers) for writers in oracle.writers[part]}
        if len(many) != 1 or oracle.trims(part.start, part.stop):
            continue  # ops that wrote a part of it: tests/test_provenance.py has some
        writers = list(many.pop())
        found += [
            (part, number, back) for back, number in enumerate(writers[::-1])
            if back > 1 and disk.ops[number].kind != Kind.ZERO
        ]  # fmt: skip
    assume(found)
    part, number, back = data.draw(st.sampled_from(found))
    bad = disk.after()
    bad[part] = disk.after(number + 1)[part]
    check(
        disk, bad, data.draw(st.none() | st.integers(0, len(disk.ops) - 1)), "stale",
        lambda one: (seq(one), one.detail) == (number, Detail(versions_back=back)),
    )  # fmt: skip


@rewritten
@given(worlds(), st.data())
def test_misdirected(tmp_path: Path, world: tuple[list[Request], str], data: st.DataObject) -> None:
    disk, _ = load(tmp_path, world)
    found = [op for op in disk.ops if op.kind in (Kind.WRITE, Kind.START) and _whole(op)]
    assume(found)
    op = data.draw(st.sampled_from(found))
    first, last = _whole_sectors(op)
    count = data.draw(st.integers(1, last - first))
    begin = data.draw(st.integers(first, last - count))
    target = data.draw(st.integers(0, SECTORS - count))
    assume(target + count <= op.offset // SECTOR or target * SECTOR >= op.end)
    at = begin * SECTOR - op.offset
    bad = disk.after()
    bad[target * SECTOR : (target + count) * SECTOR] = disk.data(op.seq)[at : at + count * SECTOR]

    def right(one: Finding) -> bool:
        assert one.source is not None
        place = (begin + one.sector - target) * SECTOR
        return (
            (seq(one), one.detail) == (op.seq, Detail(meant_for=place))
            and one.source.at == place - op.offset
        )  # fmt: skip

    check(disk, bad, data.draw(st.none() | st.just(op.seq)), "misdirected", right)


def _whole_sectors(op: Op) -> tuple[int, int]:
    return -(-op.offset // SECTOR), op.end // SECTOR


def _whole(op: Op) -> bool:
    first, last = _whole_sectors(op)
    return last > first


@rewritten
@given(worlds(), st.data())
def test_flipped(tmp_path: Path, world: tuple[list[Request], str], data: st.DataObject) -> None:
    disk, oracle = load(tmp_path, world)
    bad = disk.after()
    sector = data.draw(st.integers(0, SECTORS - 1))
    bits = data.draw(st.sets(st.integers(0, SECTOR * 8 - 1), min_size=1, max_size=8))
    for bit in bits:
        bad[sector * SECTOR + bit // 8] ^= 1 << bit % 8
    changes = [
        number
        for writers in oracle.writers[sector * SECTOR : (sector + 1) * SECTOR]
        for number in writers
        if disk.ops[number].kind != Kind.TRIM
    ]
    last = max(changes, default=None)
    check(
        disk, bad, None, "bit-flip",
        lambda one: seq(one) == last and one.detail.bits == len(bits)
        and sum(mask.bit_count() for _, mask in one.detail.first) == len(bits),
    )  # fmt: skip


@rewritten
@given(worlds(), st.data())
def test_shifted(tmp_path: Path, world: tuple[list[Request], str], data: st.DataObject) -> None:
    disk, oracle = load(tmp_path, world)
    op = whole_op(
        disk, oracle, data, (Kind.WRITE,), lambda op: aligned(op) and op.length >= 2 * SECTOR
    )
    by = data.draw(st.integers(1, 400)) * data.draw(st.sampled_from([1, -1]))
    bad, brought = disk.after(), disk.data(op.seq)
    if by > 0:
        bad[op.offset + by : op.end] = brought[:-by]
    else:
        bad[op.offset : op.end + by] = brought[-by:]
    check(
        disk, bad, data.draw(st.none() | st.just(op.seq)), "shifted",
        lambda one: (seq(one), one.detail) == (op.seq, Detail(by=by)),
    )  # fmt: skip


@rewritten
@given(worlds(), st.integers(0, SECTORS - 8), st.integers(1, 8))
def test_foreign(tmp_path: Path, world: tuple[list[Request], str], first: int, count: int) -> None:
    disk, _ = load(tmp_path, world)
    bad = disk.after()
    bad[first * SECTOR : (first + count) * SECTOR] = noise(count * SECTOR, "foreign")
    check(disk, bad, None, "foreign", lambda one: one.source is None)
