"""What a disk held when: frames, and the image that is checked out, say what a plain bytearray
says."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis
from analysis.frames.columns import in_ns
from analysis.frames.lifetimes import VERSIONS
from analysis.story.contents import select
from analysis.story.damage import DAMAGE, RANGES
from tests.kit.data import pattern
from tests.kit.small_disk import SECTORS, SIZE, in_order, ops, settles, write
from tests.kit.traces import read_trace
from tracer.digest import digest, stand_in
from tracer.errors import TraceError, UsageError
from tracer.op import CARRIES_DATA, MUTATING, NO_TIME, SECTOR, ZERO_DIGEST, Kind, Op
from tracer.rework.checkout import checkout
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.records import Settle, pack_op
from tracer.verdict import Finding, Recording, SectorRange, Verdict, VerdictKind, to_json

rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def apply(disk: bytearray, op: Op, data: bytes, part: range, trim: str = "any") -> bool:
    """Do to a part of a disk what an op should have done; return whether it should have done
    anything."""
    if op.reference_status or op.kind not in MUTATING or (op.kind == Kind.TRIM and trim != "any"):
        return False
    whole = data if op.kind in CARRIES_DATA else bytes(op.length)
    disk[part.start : part.stop] = whole[part.start - op.offset : part.stop - op.offset]
    return True


def naive_versions(
    many: list[tuple[Op, bytes]], settled: list[Settle], sector: int, trim: str
) -> list[dict[str, Any]]:
    """The versions of one sector, by a loop."""
    there = [
        one
        for one in in_order(many, settled, len(many))
        if one[2] and one[2].start // SECTOR <= sector <= (one[2].stop - 1) // SECTOR
    ]
    # an op has one version: the last
    last = {op.seq: at for at, (op, *_) in enumerate(there)}
    there = [one for at, one in enumerate(there) if last[one[0].seq] == at]
    found: list[dict[str, Any]] = [
        {"seq": None, "kind": None, "digest": None, "since": 0, "replaced_by": None, "until": None,
         "read_by": []}
    ]  # fmt: skip
    for op, data, part in there:
        if apply(bytearray(SIZE), op, data, part, trim):
            found[-1] |= {"replaced_by": op.seq, "until": op.submitted}
            since = None if op.completed == NO_TIME else op.completed
            found.append(
                {"seq": op.seq, "kind": Kind(op.kind).label, "digest": op.digest, "since": since,
                 "replaced_by": None, "until": None, "read_by": []}
            )  # fmt: skip
            if op.kind == Kind.START and len(found) == 2:
                del found[0]
        elif op.kind == Kind.READ and not op.reference_status and not op.test_status:
            found[-1]["read_by"].append(op.seq)
    return found


@pytest.mark.slow
@rewritten
@given(ops(), st.sampled_from(["any", "old-or-zero"]), st.randoms(), st.data())
def test_the_disk_after_every_op(
    tmp_path: Path, many: list[tuple[Op, bytes]], trim: str, random: Any, data: st.DataObject
) -> None:
    order = list(range(len(many)))
    random.shuffle(order)
    settled = data.draw(settles(len(many)))
    path = write(tmp_path / "some.trace", many, order, settled, trim=trim)
    t = analysis.open(path)
    disk = bytearray(SIZE)
    for op, _ in many:
        disk = bytearray(SIZE)
        for done, brought, part in in_order(many, settled, op.seq):
            apply(disk, done, brought, part, trim)
        assert t.expected(range(SECTORS), at=op.seq) == disk
        first = random.randrange(SECTORS)
        last = random.randrange(first, SECTORS) + 1
        piece = t.expected(range(first, last), at=op.seq)
        assert piece == disk[first * SECTOR : last * SECTOR]
        checkout(path, tmp_path / "state.raw", str(op.seq), force=True)
        assert (tmp_path / "state.raw").read_bytes() == disk
    assert t.expected(range(SECTORS)) == disk
    checkout(path, tmp_path / "state.raw", force=True)
    assert (tmp_path / "state.raw").read_bytes() == disk


@rewritten
@given(ops(), st.sampled_from(["any", "old-or-zero"]), st.data())
def test_versions_are_what_a_loop_finds(
    tmp_path: Path, many: list[tuple[Op, bytes]], trim: str, data: st.DataObject
) -> None:
    settled = data.draw(settles(len(many)))
    t = analysis.open(write(tmp_path / "some.trace", many, settled=settled, trim=trim))
    first = data.draw(st.integers(0, SECTORS - 1))
    last = data.draw(st.integers(first + 1, SECTORS))
    found = t.versions(range(first, last))
    assert found.schema == VERSIONS
    whole: dict[int, list[dict[str, Any]]] = {sector: [] for sector in range(first, last)}
    pairs = []
    for row in in_ns(found).rows(named=True):
        start, count = row.pop("sector"), row.pop("sectors")
        pairs.append((row["seq"], row["replaced_by"], start, start + count))
        for sector in range(start, start + count):
            whole[sector].append(row)
    for sector in range(first, last):
        naive = naive_versions(many, settled, sector, trim)
        # rows are by their first sector
        for rows in (whole[sector], naive):
            rows.sort(key=lambda row: -1 if row["seq"] is None else row["seq"])
        without = [row | {"read_by": None} for row in whole[sector]]
        assert without == [row | {"read_by": None} for row in naive]
        for row, simple in zip(whole[sector], naive, strict=True):
            assert set(simple["read_by"]) <= set(row["read_by"])
    # a row has the reads of any of its sectors, and no row could have been longer
    for row in found.rows(named=True):
        seen = set()
        for sector in range(row["sector"], row["sector"] + row["sectors"]):
            seen |= {
                seq
                for one in naive_versions(many, settled, sector, trim)
                if (one["seq"], one["replaced_by"]) == (row["seq"], row["replaced_by"])
                for seq in one["read_by"]
            }
        assert row["read_by"] == sorted(seen)
    starts = {(seq, after, start) for seq, after, start, _ in pairs}
    assert not any((seq, after, end) in starts for seq, after, _, end in pairs)


def test_versions_of_a_sector_in_words(tmp_path: Path) -> None:
    many = [
        (Op(0, int(Kind.READ), 0, 0, SECTOR, 0, 5), b""),
        (Op(1, int(Kind.WRITE), 0, 0, 4 * SECTOR, 10, 15, digest=b"\1" * 16), b""),
        (Op(2, int(Kind.READ), 0, SECTOR, SECTOR, 20, 25), b""),
        (Op(3, int(Kind.TRIM), 0, 2 * SECTOR, SECTOR, 30, 35), b""),
        (Op(4, int(Kind.READ), 0, SECTOR, SECTOR, 40, 45, test_status=5), b""),
        (Op(5, int(Kind.READ), 0, SECTOR, SECTOR, 50, 55, reference_status=5), b""),
    ]
    t = analysis.open(write(tmp_path / "some.trace", many, payloads="hash"))
    assert in_ns(t.versions(range(4))).rows() == [
        (0, 4, None, None, None, 0, 1, 10, [0]),
        (0, 2, 1, "write", b"\1" * 16, 15, None, None, [2]),
        (2, 1, 1, "write", b"\1" * 16, 15, 3, 30, []),
        (2, 1, 3, "trim", bytes(16), 35, None, None, []),
        (3, 1, 1, "write", b"\1" * 16, 15, None, None, []),
    ]


def test_versions_of_a_conflict_in_words(tmp_path: Path) -> None:
    """Two writes in flight together: a read finds the first one's data in a sector of the two that
    they share. A later write changes that sector."""
    one, two, three = (pattern(4 * SECTOR, seed) for seed in (1, 2, 3))
    many = [
        (Op(0, int(Kind.WRITE), 0, 0, 4 * SECTOR, 10, 19, digest=digest(one)), one),
        (Op(1, int(Kind.WRITE), 0, 2 * SECTOR, 4 * SECTOR, 11, 18, digest=digest(two)), two),
        (Op(2, int(Kind.READ), 0, 2 * SECTOR, SECTOR, 12, 15), b""),
        (Op(3, int(Kind.READ), 0, 2 * SECTOR, SECTOR, 20, 25), b""),
        (Op(4, int(Kind.READ), 0, 2 * SECTOR, SECTOR, 30, 35), b""),
        (Op(5, int(Kind.WRITE), 0, 2 * SECTOR, SECTOR, 40, 45), three[:SECTOR]),
        (Op(6, int(Kind.READ), 0, 2 * SECTOR, SECTOR, 50, 55), b""),
    ]
    held = digest(one[2 * SECTOR : 3 * SECTOR])
    settled = [Settle(3, 2 * SECTOR, SECTOR, 0, 25, held)]
    many[5][0].digest = digest(three[:SECTOR])
    path = write(tmp_path / "some.trace", many, settled=settled)
    t = analysis.open(path)
    found = in_ns(t.versions(range(6))).drop("digest", "kind", "since", "until")
    assert found.rows() == [
        (0, 2, None, 0, []),
        (0, 2, 0, None, []),
        (2, 1, None, 1, []),
        (2, 1, 0, 5, [3, 4]),
        (2, 1, 1, 0, [2]),
        (2, 1, 5, None, [6]),
        (3, 1, None, 0, []),
        (3, 1, 0, 1, []),
        (3, 3, 1, None, []),
        (4, 2, None, 1, []),
    ]
    won = one + bytes(2 * SECTOR)
    assert t.expected(range(6), at=0) == won
    won = one[: 3 * SECTOR] + two[SECTOR:]
    for at in (1, 2, 3, 4):
        assert t.expected(range(6), at=at) == won
    last = one[: 2 * SECTOR] + three[:SECTOR] + two[SECTOR:]
    assert t.expected(range(6)) == last
    for at in range(7):
        checkout(path, tmp_path / "state.raw", str(at), force=True)
        expected = t.expected(range(SECTORS), at=at)
        assert (tmp_path / "state.raw").read_bytes() == expected
    assert t.writers(2).select("seq", "last").rows() == [(0, False), (1, False), (5, True)]
    assert t.writers(3).select("seq", "last").rows() == [(0, False), (1, True)]
    with Trace(path) as trace:
        assert select(trace, sector=2).last_writer == 5
        assert select(trace, sector=2, last=4).last_writer == 0
        assert select(trace, sector=3).last_writer == 1
        assert select(trace, sector=5, last=0).last_writer is None
        assert select(trace).last_writer is None


def test_what_an_op_brought(tmp_path: Path) -> None:
    data = pattern(SECTOR)
    many = [
        (Op(0, int(Kind.WRITE), 0, 0, SECTOR, digest=digest(data)), data),
        (Op(1, int(Kind.WRITE), 0, 0, SECTOR), bytes(SECTOR)),
        (Op(2, int(Kind.ZERO), 0, 0, SECTOR), b""),
    ]
    t = analysis.open(write(tmp_path / "some.trace", many))
    assert t.bytes(0) == data
    assert t.bytes(1) == bytes(SECTOR)
    with pytest.raises(UsageError, match="op #2 is a zero: it brought no data"):
        t.bytes(2)
    with pytest.raises(UsageError, match="there is no op #3"):
        t.bytes(3)
    with pytest.raises(UsageError, match="there is no op #3: the last is #2"):
        t.expected(range(1), at=3)


def test_digests_alone_have_bytes_that_stand_in(tmp_path: Path) -> None:
    many = [(Op(0, int(Kind.WRITE), 0, SECTOR, SECTOR, digest=b"\7" * 16), b"")]
    many.append((Op(1, int(Kind.WRITE), 0, 2 * SECTOR, SECTOR, digest=ZERO_DIGEST), b""))
    t = analysis.open(write(tmp_path / "some.trace", many, payloads="hash"))
    assert t.bytes(0) == stand_in(b"\7" * 16, SECTOR) == t.expected(range(1, 2))
    assert t.bytes(1) == bytes(SECTOR) == t.expected(range(2, 3))


def test_a_payload_that_is_missing_matters_only_where_it_shows(tmp_path: Path) -> None:
    first, second = pattern(SECTOR, 1), pattern(SECTOR, 2)
    many = [
        (Op(0, int(Kind.WRITE), 0, 0, SECTOR, digest=digest(first)), first),
        (Op(1, int(Kind.WRITE), 0, 0, SECTOR, digest=digest(second)), second),
    ]
    path = write(tmp_path / "some.trace", many)
    many[0][0].payload = 1 << 40
    header = read_trace(path)[0].header
    writer = TraceWriter(path, header)
    writer.write([pack_op(op) for op, _ in many])
    writer.abandon()
    t = analysis.open(path)
    assert t.expected(range(1)) == second
    with pytest.raises(TraceError, match="the payload at 1099511627776 is missing"):
        t.expected(range(1), at=0)


@pytest.mark.parametrize(
    "sectors", [range(0), range(-1, 1), range(13), range(0, 4, 2), range(5, 3)]
)
def test_sectors_that_are_not_there(tmp_path: Path, sectors: range) -> None:
    t = analysis.open(write(tmp_path / "some.trace", []))
    for ask in (t.versions, t.expected):
        with pytest.raises(UsageError, match=r"the disk has range\(0, 12\)"):
            ask(sectors)


def recorded(*damage: SectorRange) -> Recording:
    """What a recording found."""
    return Recording(
        verdict=VerdictKind.DAMAGED, reason="", trace="t", driver="raw", size=SIZE, ops={},
        bytes={},
        mismatches=[], damage=list(damage), trace_bytes=0, payload_bytes=0, connections=0,
        guest_exit=None,
    )  # fmt: skip


def replayed(*damage: Finding) -> Verdict:
    """What a replay found."""
    return Verdict(
        verdict=VerdictKind.DAMAGED, reason="", driver="raw", trace="t", size=SIZE,
        damage=list(damage), culprit_damage=[],
    )  # fmt: skip


def test_damage_of_a_verdict_however_it_comes(tmp_path: Path) -> None:
    file = tmp_path / "verdict.json"
    wanted = pl.DataFrame({"sector": [1, 9], "sectors": [1, 2]})
    verdict = replayed(Finding(sector=9, sectors=2), Finding(sector=1, sectors=1))
    recording = recorded(SectorRange(sector=9, sectors=2), SectorRange(sector=1, sectors=1))
    for found in (verdict, recording):
        file.write_text(json.dumps(to_json(found)))
        for one in (found, to_json(found), file, str(file)):
            frame = analysis.damage(one)
            assert frame.select("sector", "sectors").equals(wanted)
            explained = (
                [] if found is recording else ["class", "source", "detail", "text", "writer"]
            )
            assert frame.columns == ["sector", "sectors", *explained]
    for empty in (replayed(), recorded()):
        assert analysis.damage(empty).is_empty()
        assert analysis.damage(empty).schema == (DAMAGE if empty == replayed() else RANGES)


def test_damage_has_what_the_verdict_says_of_each_range() -> None:
    source = {"seq": 3, "kind": "write", "offset": 0, "length": 512, "at": 7}
    told = to_json(replayed()) | {
        "damage": [
            {"sector": 1, "sectors": 1},
            {"sector": 2, "sectors": 1, "class": "stale", "source": source},
        ]
    }
    found = analysis.damage(told)
    assert found["class"].to_list() == [None, "stale"]
    assert found["source"].to_list() == [None, source]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"damage": 1}', '{"damage": [{"sector": "x"}]}']
)
def test_what_is_no_verdict(tmp_path: Path, content: str) -> None:
    file = tmp_path / "verdict.json"
    file.write_text(content)
    with pytest.raises(UsageError, match="this is not a verdict"):
        analysis.damage(file)
    with pytest.raises(UsageError, match=r"cannot read the verdict .*No such file"):
        analysis.damage(tmp_path / "none.json")
