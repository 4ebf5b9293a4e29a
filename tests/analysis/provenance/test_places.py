"""Where damage is found and how much of it, and which of several answers is given."""

from pathlib import Path

import pytest

from analysis.provenance import Explainer, explain
from tests.analysis.provenance.history import HOT, KIB, Make, only
from tests.kit.damage import Disk, Request, differences, noise
from tracer.candidates.evidence import Evidence
from tracer.errors import TraceError
from tracer.op import SECTOR, Kind
from tracer.trace.file import Trace
from tracer.trace.payloads import payload_path
from tracer.verdict import Detail

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
    # of what the read did not return, nothing is known: it counts as right, in the middle of the
    # write
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
    """Runs of any length, as if the trace were read for each; the file is read for an index and for
    the ops, however often."""
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
