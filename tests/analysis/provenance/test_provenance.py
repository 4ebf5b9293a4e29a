"""Every kind of damage by construction: its class, and the op that the wrong bytes came from."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.provenance import Explainer, explain
from tests.kit.damage import Disk, Request, differences, noise, write_trace
from tracer.errors import TraceError
from tracer.mirror.evidence import Evidence
from tracer.op import SECTOR, Kind
from tracer.trace.file import Trace
from tracer.trace.payloads import payload_path
from tracer.verdict import Detail, Finding, Origin, to_json

KIB = 1024
SIZE = 512 * KIB

HISTORY: list[Request] = [
    (Kind.START, 256 * KIB, 64 * KIB),  # 0
    (Kind.WRITE, 0, 64 * KIB),  # 1
    (Kind.WRITE, 64 * KIB, 64 * KIB),  # 2
    (Kind.FLUSH, 0, b""),  # 3
    (Kind.WRITE, 16 * KIB, 16 * KIB),  # 4: over a part of 1
    (Kind.READ, 0, 64 * KIB),  # 5
    (Kind.WRITE, 16 * KIB, 16 * KIB),  # 6: over 4
    (Kind.ZERO, 96 * KIB, bytes(16 * KIB)),  # 7: over a part of 2
    (Kind.WRITE, 260 * KIB, 4 * KIB),  # 8: over a part of the start image
    (Kind.WRITE, 128 * KIB, 8 * KIB),  # 9: on what was never written
    (Kind.FLUSH, 0, b""),  # 10
]
HOT = slice(16 * KIB, 32 * KIB)

Make = Callable[..., Disk]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a disk with a history; closed afterwards."""
    disks = []

    def make(requests: list[Request] = HISTORY, **options: Any) -> Disk:
        disks.append(Disk(write_trace(tmp_path / "t.trace", requests, size=SIZE, **options)))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


@pytest.fixture(params=["full", "hash"])
def disk(make: Make, request: pytest.FixtureRequest) -> Disk:
    """The history above, with payloads and with digests alone."""
    return make(payloads=request.param)


def only(findings: list[Finding], kind: str, sector: int, sectors: int, seq: int | None) -> Finding:
    """The one finding that there is, checked."""
    assert len(findings) == 1, [one.text for one in findings]
    one = findings[0]
    assert (one.kind, one.sector, one.sectors) == (kind, sector, sectors), one.text
    assert (None if one.source is None else one.source.seq) == seq, one.text
    assert f"({kind.replace('-', ' ')})" in one.text
    assert json.loads(json.dumps(to_json(one))) == to_json(one)
    return one


# ---------------------------------------------------------------- each class


def test_a_lost_write(disk: Disk) -> None:
    bad = disk.after()
    bad[HOT] = disk.data(4)
    one = only(disk.explain(bad, culprit=6), "lost-write", 32, 32, 4)
    assert one.source == Origin(seq=4, kind="write", offset=16 * KIB, length=16 * KIB, at=0)
    assert "sectors 32 to 63 hold what was there before #6 write: what #4 write brought" in one.text


def test_a_lost_write_on_a_fresh_disk(disk: Disk) -> None:
    bad = disk.after()
    bad[128 * KIB : 136 * KIB] = bytes(8 * KIB)
    one = only(disk.explain(bad, culprit=9), "lost-write", 256, 16, None)
    assert "before #9 write: zeroes (lost" in one.text


def test_lost_zeroes(disk: Disk) -> None:
    bad = disk.after()
    bad[96 * KIB : 112 * KIB] = disk.data(2)[32 * KIB : 48 * KIB]
    one = only(disk.explain(bad, culprit=7), "lost-write", 192, 32, 2)
    assert one.source is not None
    assert one.source.at == 32 * KIB


def test_a_lost_write_over_the_start_image(disk: Disk) -> None:
    bad = disk.after()
    bad[260 * KIB : 264 * KIB] = disk.data(0)[4 * KIB : 8 * KIB]
    one = only(disk.explain(bad, culprit=8), "lost-write", 520, 8, 0)
    assert one.source is not None
    assert one.source.kind == "start"
    assert "what the start image brought" in one.text


def test_an_older_version(disk: Disk) -> None:
    bad = disk.after()
    bad[HOT] = disk.data(1)[HOT]
    one = only(disk.explain(bad, culprit=6), "stale", 32, 32, 1)
    assert one.detail == Detail(versions_back=2)
    assert one.source is not None
    assert one.source.at == 16 * KIB


@pytest.mark.parametrize("culprit", [6, None])
def test_data_that_was_meant_for_another_place(disk: Disk, culprit: int | None) -> None:
    bad = disk.after()
    bad[300 * KIB : 308 * KIB] = disk.data(6)[4 * KIB : 12 * KIB]
    one = only(disk.explain(bad, culprit), "misdirected", 600, 16, 6)
    assert one.detail == Detail(meant_for=20 * KIB)
    assert one.source is not None
    assert one.source.at == 4 * KIB
    assert "what #6 write brought for sector 40" in one.text


def test_start_image_at_another_place(disk: Disk) -> None:
    bad = disk.after()
    bad[0:SECTOR] = disk.data(0)[10 * SECTOR : 11 * SECTOR]
    one = only(disk.explain(bad), "misdirected", 0, 1, 0)
    assert one.detail == Detail(meant_for=256 * KIB + 10 * SECTOR)


@pytest.mark.parametrize(
    ("boundary", "power"),
    [(24 * KIB, 8192), (20 * KIB, 4096), (18 * KIB + 512, 512), (24 * KIB + 8, 8)],
)
@pytest.mark.parametrize("arrived", ["first", "last"])
def test_a_torn_write(disk: Disk, boundary: int, power: int, arrived: str) -> None:
    bad, old = disk.after(), disk.data(4)
    # noise has equal bytes here and there; at the boundary they would leave it open
    lost = slice(boundary, 32 * KIB) if arrived == "first" else slice(16 * KIB, boundary)
    bad[lost] = old[lost.start - 16 * KIB : lost.stop - 16 * KIB]
    first, last = lost.start // SECTOR, -(-lost.stop // SECTOR)
    one = only(disk.explain(bad, culprit=6), "torn", first, last - first, 6)
    into = boundary - 16 * KIB
    assert one.detail == Detail(
        boundary=boundary, into_op=into, power_of_two=power, arrived=arrived
    )
    assert one.source is not None
    assert one.source.at == into


def test_a_write_with_a_hole_in_its_middle_is_not_torn(disk: Disk) -> None:
    bad = disk.after()
    bad[20 * KIB : 24 * KIB] = disk.data(4)[4 * KIB : 8 * KIB]
    only(disk.explain(bad, culprit=6), "lost-write", 40, 8, 4)


def test_torn_zeroes(disk: Disk) -> None:
    bad = disk.after()
    bad[104 * KIB : 112 * KIB] = disk.data(2)[40 * KIB : 48 * KIB]
    one = only(disk.explain(bad, culprit=7), "torn", 208, 16, 7)
    assert one.detail.boundary == 104 * KIB


def test_what_is_torn_is_judged_by_what_is_still_there(make: Make) -> None:
    """The second half was overwritten: that it is right says nothing."""
    disk = make([*HISTORY, (Kind.WRITE, 24 * KIB, 8 * KIB)])
    bad = disk.after()
    bad[16 * KIB : 24 * KIB] = disk.data(4)[: 8 * KIB]
    only(disk.explain(bad, culprit=6), "lost-write", 32, 16, 4)


def test_a_write_that_was_torn_and_then_overwritten_in_part(make: Make) -> None:
    disk = make([*HISTORY, (Kind.WRITE, 24 * KIB, 8 * KIB)])
    bad = disk.after()
    bad[20 * KIB : 24 * KIB] = disk.data(4)[4 * KIB : 8 * KIB]
    one = only(disk.explain(bad, culprit=6), "torn", 40, 8, 6)
    assert one.detail.boundary == 20 * KIB


def test_zeroes(disk: Disk) -> None:
    bad = disk.after()
    bad[HOT] = bytes(16 * KIB)
    one = only(disk.explain(bad, culprit=6), "zeroed", 32, 32, None)
    assert "instead of what #6 write brought" in one.text


@pytest.mark.parametrize(
    ("culprit", "together", "kind"),
    [(9, 1, "lost-write"), (11, 1, "zeroed"), (10, 1, "lost-write"), (11, 12, "lost-write")],
    ids=["its own write", "a later op", "a flush", "in flight with it"],
)
def test_zeroes_where_there_were_zeroes_before(
    make: Make, culprit: int, together: int, kind: str
) -> None:
    """What had arrived was not lost: then the culprit made zeroes of it."""
    disk = make([*HISTORY, (Kind.ZERO, 136 * KIB, bytes(4 * KIB))], together=together)
    bad = disk.after()
    bad[128 * KIB : 136 * KIB] = bytes(8 * KIB)
    only(disk.explain(bad, culprit), kind, 256, 16, None)


def test_flipped_bits(disk: Disk) -> None:
    bad = disk.after()
    bad[20 * KIB + 77] ^= 0x04
    bad[20 * KIB + 600] ^= 0x81
    one = only(disk.explain(bad, culprit=6), "bit-flip", 40, 2, 6)
    assert one.detail == Detail(bits=3, first=[[20 * KIB + 77, 0x04], [20 * KIB + 600, 0x81]])
    assert "3 bits wrong, the first in byte 20557 (mask 0x04)" in one.text


def test_how_many_bits_are_flips_and_how_many_are_shown(disk: Disk) -> None:
    bad = disk.after()
    for sector in range(40, 43):
        bad[sector * SECTOR] ^= 0xFF
    one = only(disk.explain(bad), "bit-flip", 40, 3, 6)
    assert one.detail.bits == 24
    for sector in range(40, 60):
        bad[sector * SECTOR + 1] ^= 0x01 if sector >= 43 else 0
    assert len(disk.explain(bad)[0].detail.first) == 16
    bad = disk.after()
    bad[40 * SECTOR] ^= 0xFF
    bad[40 * SECTOR + 1] ^= 0x01
    only(disk.explain(bad), "foreign", 40, 1, None)


@pytest.mark.parametrize("by", [16, -16, 1, -100, 300, -400])
def test_shifted_data(disk: Disk, by: int) -> None:
    bad, data = disk.after(), disk.data(6)
    bad[HOT] = data[-by:] + data[:-by]  # by turning it round
    one = only(disk.explain(bad, culprit=6), "shifted", 32, 32, 6)
    assert one.detail == Detail(by=by)
    assert f"moved {'forward' if by > 0 else 'back'} by {abs(by)} bytes" in one.text
    assert one.source is not None
    assert one.source.at == max(0, -by)


def test_data_that_went_to_an_unaligned_place(disk: Disk) -> None:
    bad = disk.after()
    bad[400 * KIB + 24 : 404 * KIB + 24] = disk.data(8)
    findings = disk.explain(bad, culprit=8)
    one = only(findings[:1], "shifted", 800, 9, 8)
    assert one.detail == Detail(by=140 * KIB + 24)
    assert len(findings) == 1


def test_bytes_that_were_written_nowhere(disk: Disk) -> None:
    bad = disk.after()
    bad[0:1024] = noise(1024, "elsewhere")
    only(disk.explain(bad, culprit=4), "foreign", 0, 2, None)


def test_what_is_right_has_no_finding(disk: Disk) -> None:
    good = bytes(disk.after())
    assert disk.explain(good) == []
    assert explain(disk.source, 11, None, [Evidence(0, good, good)]) == []


def test_damage_before_anything_was_written(disk: Disk) -> None:
    bad = bytearray(SIZE)
    bad[5] = 1
    only(disk.explain(bad, upto=0), "bit-flip", 0, 1, None)
    bad[:600] = noise(600, "x")
    only(disk.explain(bad, upto=0), "foreign", 0, 2, None)


# ---------------------------------------------------------------- where, and how much


def test_each_explanation_is_a_finding_of_its_own_in_the_order_of_the_disk(disk: Disk) -> None:
    bad = disk.after()
    bad[0:SECTOR] = noise(SECTOR, "x")
    bad[HOT] = disk.data(4)
    bad[64 * KIB : 68 * KIB] = bytes(4 * KIB)
    bad[68 * KIB : 72 * KIB] = disk.data(8)
    found = [(one.kind, one.sector, one.sectors) for one in disk.explain(bad)]
    assert found == [
        ("foreign", 0, 1), ("lost-write", 32, 32), ("lost-write", 128, 8), ("misdirected", 136, 8),
    ]  # fmt: skip


def test_only_ops_that_were_played_are_looked_at(disk: Disk) -> None:
    """After 5 ops, op 6 has not been: its data come from nowhere."""
    bad = disk.after(5)
    bad[200 * KIB : 201 * KIB] = disk.data(6)[:KIB]
    only(disk.explain(bad, upto=5), "foreign", 400, 2, None)
    bad = disk.after(7)
    bad[200 * KIB : 201 * KIB] = disk.data(6)[:KIB]
    only(disk.explain(bad, upto=7), "misdirected", 400, 2, 6)


def test_ops_that_failed_wrote_nothing(make: Make) -> None:
    disk = make(failed=[4])
    bad = disk.after()
    bad[HOT] = disk.data(1)[HOT]
    only(disk.explain(bad, culprit=6), "lost-write", 32, 32, 1)


@pytest.mark.parametrize("lead", [0, 100])
def test_evidence_of_parts_of_sectors(disk: Disk, lead: int) -> None:
    """A read may begin and end anywhere."""
    start, end = 20 * KIB + lead, 24 * KIB - 3 * lead
    good, bad = disk.after(), disk.after()
    bad[HOT] = disk.data(4)
    piece = Evidence(start, bytes(good[start:end]), bytes(bad[start:end]))
    # of what the read did not return, nothing is known: it counts as right, in the middle of the write
    only(explain(disk.source, 11, 6, [piece]), "lost-write", 40, 8, 4)
    bad[HOT] = disk.data(2)[: 16 * KIB]
    piece = Evidence(start, bytes(good[start:end]), bytes(bad[start:end]))
    one = only(explain(disk.source, 11, 6, [piece]), "misdirected", 40, 8, 2)
    assert one.detail == Detail(meant_for=68 * KIB + lead)


def test_evidence_of_a_few_bytes(disk: Disk) -> None:
    good = disk.after()
    start = 20 * KIB + 100
    old, new = disk.data(4)[4 * KIB + 100 :], bytes(good[start : start + 50])
    for bad, kind in ((old[:50], "lost-write"), (bytes(50), "zeroed"), (noise(50, "x"), "foreign")):
        findings = explain(disk.source, 11, 6, [Evidence(start, new, bad)])
        assert [(one.kind, one.sector, one.sectors) for one in findings] == [(kind, 40, 1)]


# ---------------------------------------------------------------- writes that are not aligned


@pytest.fixture(params=["full", "hash"])
def crooked(make: Make, request: pytest.FixtureRequest) -> Disk:
    requests: list[Request] = [
        (Kind.WRITE, 0, 16 * KIB),  # 0
        (Kind.WRITE, 1000, 3000),  # 1
        (Kind.WRITE, 1100, 1000),  # 2
        (Kind.WRITE, 100 * KIB + 12, 2048),  # 3
        (Kind.WRITE, 100 * KIB, 4096),  # 4
        (Kind.WRITE, 200 * KIB, 4096),  # 5
    ]
    return make(requests, payloads=request.param)


def test_an_unaligned_write_that_is_lost(crooked: Disk) -> None:
    bad = crooked.after()
    bad[1100:2100] = crooked.data(1)[100:1100]
    findings = crooked.explain(bad, culprit=2)
    assert {one.kind for one in findings} == {"lost-write"}
    assert [(one.sector, one.sectors) for one in findings] == [(2, 3)]


def test_an_unaligned_older_version(crooked: Disk) -> None:
    bad = crooked.after()
    bad[1024:2560] = crooked.data(0)[1024:2560]
    findings = crooked.explain(bad, culprit=2)
    assert {one.kind for one in findings} == {"stale"}
    assert all(one.source is not None and one.source.seq == 0 for one in findings)
    assert sum(one.sectors for one in findings) == 3


def test_an_unaligned_write_that_is_torn(crooked: Disk) -> None:
    bad = crooked.after()
    bad[1536:2100] = crooked.data(1)[536:1100]
    findings = crooked.explain(bad, culprit=2)
    assert [one.kind for one in findings] == ["torn"]
    assert (findings[0].detail.boundary, findings[0].detail.into_op) == (1536, 436)


def test_whole_sectors_of_an_unaligned_write_at_another_place(crooked: Disk) -> None:
    """Sector 201 of the disk was wholly in op 3, 500 bytes into it."""
    bad = crooked.after()
    bad[300 * KIB : 300 * KIB + 512] = crooked.data(3)[500:1012]
    one = only(crooked.explain(bad), "misdirected", 600, 1, 3)
    assert one.detail == Detail(meant_for=100 * KIB + 512)


def test_the_same_data_at_an_aligned_and_at_an_unaligned_place(make: Make) -> None:
    """Stored once, and cut into sectors in two ways."""
    same = noise(4 * KIB, "same")
    disk = make([(Kind.WRITE, 100 * KIB, same), (Kind.WRITE, 200 * KIB + 12, same)])
    bad = disk.after()
    bad[0:512] = same[512:1024]
    bad[1024:1536] = same[500:1012]
    findings = disk.explain(bad)
    assert only(findings[:1], "misdirected", 0, 1, 0).detail == Detail(meant_for=100 * KIB + 512)
    assert only(findings[1:], "misdirected", 2, 1, 1).detail == Detail(meant_for=200 * KIB + 512)


# ---------------------------------------------------------------- trims


@pytest.mark.parametrize("rule", ["any", "old-or-zero"])
@pytest.mark.parametrize("kept", [True, False])
def test_what_a_trim_left_behind_is_the_previous_version(make: Make, rule: str, kept: bool) -> None:
    """A trim may keep what was there or make it zeroes: a write after it is lost to either."""
    trimmed: list[Request] = [(Kind.TRIM, 0, bytes(64 * KIB)), (Kind.WRITE, 16 * KIB, 16 * KIB)]
    disk = make([*HISTORY, *trimmed], trim=rule)
    bad = disk.after()
    bad[HOT] = disk.data(6) if kept else bytes(16 * KIB)
    only(disk.explain(bad, culprit=12), "lost-write", 32, 32, 6 if kept else None)
    bad[24 * KIB : 32 * KIB] = disk.data(12)[8 * KIB :]
    assert disk.explain(bad, culprit=12)[0].detail.boundary == 24 * KIB


# ---------------------------------------------------------------- several answers


def test_the_place_s_own_history_comes_first(make: Make) -> None:
    """The same bytes were written here, two versions ago, and elsewhere, just now."""
    same = noise(4 * KIB, "same")
    disk = make(
        [(Kind.WRITE, 0, same), (Kind.WRITE, 0, 4 * KIB), (Kind.WRITE, 0, 4 * KIB),
         (Kind.WRITE, 8 * KIB, same)]
    )  # fmt: skip
    bad = disk.after()
    bad[: 4 * KIB] = same
    only(disk.explain(bad, culprit=3), "stale", 0, 8, 0)


@pytest.mark.parametrize(("culprit", "seq"), [(0, 0), (2, 1), (3, 4), (None, 4)])
def test_of_several_ops_the_nearest_in_time(make: Make, culprit: int | None, seq: int) -> None:
    same = noise(4 * KIB, "same")
    disk = make(
        [(Kind.WRITE, 0, same), (Kind.WRITE, 8 * KIB, same), (Kind.FLUSH, 0, b""),
         (Kind.FLUSH, 0, b""), (Kind.WRITE, 16 * KIB, same)]
    )  # fmt: skip
    bad = disk.after()
    bad[32 * KIB : 36 * KIB] = same
    only(disk.explain(bad, culprit), "misdirected", 64, 8, seq)


def test_of_two_ops_equally_near_the_first(make: Make) -> None:
    same = noise(4 * KIB, "same")
    disk = make([(Kind.WRITE, 0, same), (Kind.FLUSH, 0, b""), (Kind.WRITE, 8 * KIB, same)])
    bad = disk.after()
    bad[32 * KIB : 36 * KIB] = same
    only(disk.explain(bad, culprit=1), "misdirected", 64, 8, 0)


def test_the_op_that_explains_the_most_comes_before_the_nearest(make: Make) -> None:
    one, two = noise(SECTOR, "one"), noise(SECTOR, "two")
    disk = make(
        [(Kind.WRITE, 0, one + two), (Kind.WRITE, 8 * KIB, one), (Kind.WRITE, 9 * KIB, two)]
    )
    bad = disk.after()
    bad[32 * KIB : 33 * KIB] = one + two
    only(disk.explain(bad, culprit=2), "misdirected", 64, 2, 0)


def test_a_sector_of_one_value_is_weak_evidence(make: Make) -> None:
    """Elsewhere someone wrote sevens; here there were sevens before."""
    sevens = b"\7" * 4 * KIB
    disk = make([(Kind.WRITE, 0, sevens), (Kind.WRITE, 0, 4 * KIB), (Kind.WRITE, 8 * KIB, sevens)])
    bad = disk.after()
    bad[: 4 * KIB] = sevens
    only(disk.explain(bad, culprit=2), "lost-write", 0, 8, 0)


def test_sectors_of_one_value_go_with_their_neighbours(make: Make) -> None:
    """Zeroes in the middle and at both ends of what was misdirected are no zeroes of their own."""
    data = bytes(512) + noise(512, "x") + bytes(1024) + noise(512, "y") + bytes(512)
    disk = make(
        [(Kind.WRITE, 0, 64 * KIB), (Kind.WRITE, 0, 64 * KIB), (Kind.WRITE, 256 * KIB, data)]
    )
    bad = disk.after()
    bad[8 * KIB : 11 * KIB] = data
    bad[12 * KIB : 12 * KIB + 512] = bytes(512)
    findings = disk.explain(bad, culprit=2)
    only(findings[:1], "misdirected", 16, 6, 2)
    only(findings[1:], "zeroed", 24, 1, None)


def test_the_same_every_time(disk: Disk) -> None:
    bad = disk.after()
    bad[HOT] = disk.data(2)[: 16 * KIB]
    bad[0 : 8 * KIB] = noise(8 * KIB, "x")
    assert disk.explain(bad) == disk.explain(bad)


def test_a_trace_is_read_once_for_all_that_is_explained_of_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of any length, as if the trace were read for each; the file is read for an index and for the
    ops, however often."""
    runs = []
    for upto in range(12):
        bad = disk.after(upto)
        bad[HOT] = bytes(16 * KIB)
        bad[200 * KIB : 208 * KIB] = disk.data(6)[: 8 * KIB]
        runs.append((upto, differences(disk.after(upto), bad)))
    expected = [explain(disk.source, upto, 9, evidence) for upto, evidence in runs]
    passes = []
    read = Trace.read

    def counted(trace: Trace, first: int, count: int) -> bytes:
        passes.append(first)
        return read(trace, first, count)

    monkeypatch.setattr(Trace, "read", counted)
    explainer = Explainer(disk.source, 11, 9)
    assert explainer(11, []) == []
    assert passes == []
    assert [explainer(upto, evidence) for upto, evidence in runs] == expected
    assert passes.count(0) <= 2


# ---------------------------------------------------------------- broken traces


def test_missing_payloads_say_so(make: Make, tmp_path: Path) -> None:
    disk = make()
    good, bad = disk.after(), disk.after()
    bad[HOT] = disk.data(4)
    pieces = differences(good, bad)
    path = payload_path(tmp_path / "t.trace")
    path.write_bytes(path.read_bytes()[:-10])
    with Disk(tmp_path / "t.trace") as broken, pytest.raises(TraceError, match="missing"):
        explain(broken.source, 11, 6, pieces)
