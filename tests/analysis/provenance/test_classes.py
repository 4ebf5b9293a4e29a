"""Every kind of damage by construction: its class, and the op that the wrong bytes came from."""

import pytest

from analysis.provenance import explain
from tests.analysis.provenance.history import HISTORY, HOT, KIB, SIZE, Make, only
from tests.kit.damage import Disk, Request, noise
from tracer.candidates.evidence import Evidence
from tracer.op import SECTOR, Kind
from tracer.text import many
from tracer.verdict import Detail, Origin

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
    assert f"moved {'forward' if by > 0 else 'back'} by {many(abs(by), 'byte')}" in one.text
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
