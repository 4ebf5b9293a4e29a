"""Ranges with one cause are grouped, and what several ops have in common is said."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from analysis.provenance import Explainer
from analysis.provenance.causes import MAX_SEQS, group
from analysis.provenance.changes import Changes
from tests.analysis.provenance.history import HISTORY, HOT, KIB, Make
from tests.kit.damage import differences, noise
from tracer.op import SECTOR, Flag, Kind, Op
from tracer.verdict import Cause, DamageKind, Detail, Finding, Origin, to_json

CLUSTER = 64 * KIB


def write(seq: int, offset: int, length: int = 4 * KIB, flags: int = 0) -> Op:
    return Op(seq, int(Kind.WRITE), flags, offset, length)


def changes_of(ops: Sequence[Op]) -> Changes:
    """The ops of a trace, as the explanation has them."""

    def column(name: str, kind: str) -> np.ndarray:
        return np.array([getattr(op, name) for op in ops], kind)

    none = np.zeros(len(ops), np.int64)
    return Changes(
        position=np.arange(len(ops)), seq=column("seq", "i8"), kind=column("kind", "u1"),
        flags=column("flags", "u2"), offset=column("offset", "i8"), length=column("length", "i8"),
        completed=none, payload=none, digest=np.zeros(len(ops), "V16"), culprit=None,
    )  # fmt: skip


def origin(op: Op, at: int = 0) -> Origin:
    kind = Kind(op.kind).label
    return Origin(seq=op.seq, kind=kind, offset=op.offset, length=op.length, at=at)


def lost(op: Op, source: Op | None = None) -> Finding:
    """A lost write: all of its range, with what ``source`` brought."""
    return Finding(
        sector=op.offset // SECTOR, sectors=op.length // SECTOR, kind=DamageKind.LOST_WRITE,
        source=origin(source) if source else None, detail=Detail(), text="lost", writer=origin(op),
    )  # fmt: skip


def torn(op: Op, boundary: int, room: int | None = None) -> Finding:
    """A write of which the part before ``boundary`` arrived."""
    detail = Detail(
        boundary=boundary, into_op=boundary - op.offset, power_of_two=boundary & -boundary,
        arrived="first", room=room,
    )  # fmt: skip
    return Finding(
        sector=boundary // SECTOR, sectors=(op.offset + op.length - boundary) // SECTOR,
        kind=DamageKind.TORN, source=origin(op), detail=detail, text="torn", writer=origin(op),
    )  # fmt: skip


def damaged(sector: int, kind: DamageKind | None = None, **more: Detail | Origin) -> Finding:
    return Finding(sector=sector, sectors=8, kind=kind, text=kind and str(kind), **more)  # type: ignore[arg-type]


# ---------------------------------------------------------------- one op


@pytest.mark.parametrize("arrived", [slice(0, 8 * KIB), slice(8 * KIB, 16 * KIB)])
def test_a_torn_write_with_sectors_that_match_by_chance_is_one_cause(
    make: Make, arrived: slice
) -> None:
    old, data = noise(64 * KIB, 1), bytearray(noise(16 * KIB, "new"))
    for at in range(0, len(data), 3 * SECTOR):
        data[at : at + SECTOR] = old[16 * KIB + at : 16 * KIB + at + SECTOR]
    disk = make([(Kind.WRITE, 0, old), (Kind.WRITE, 16 * KIB, bytes(data))])
    bad = disk.after(1)
    bad[16 * KIB + arrived.start : 16 * KIB + arrived.stop] = data[arrived]
    explain = Explainer(disk.source, 2, 1)
    findings = explain(2, differences(disk.after(), bad))
    assert len(findings) > 4
    assert len({one.text for one in findings}) == len(findings)
    (cause,) = explain.causes(findings)
    assert (cause.kind, cause.ops, cause.seqs) == (DamageKind.TORN, 1, [1])
    assert (cause.ranges, cause.sector) == (len(findings), findings[0].sector)
    assert cause.sectors == sum(one.sectors for one in findings)
    assert cause.what == "#1 write torn"
    last = findings[-1].sector + findings[-1].sectors - 1
    assert cause.text.startswith("#1 write arrived in part: what did ")
    where = f"in {len(findings)} ranges from {cause.sector} to {last} hold"
    assert f"{cause.sectors} sectors {where} what was there before (torn)" in cause.text


def test_a_write_lost_over_the_data_of_several_ops_is_one_cause(make: Make) -> None:
    disk = make([*HISTORY, (Kind.WRITE, 0, 64 * KIB)])
    bad = disk.after(11)
    explain = Explainer(disk.source, 12, 11)
    findings = explain(12, differences(disk.after(), bad))
    assert {one.source.seq for one in findings if one.source is not None} == {1, 6}
    (cause,) = explain.causes(findings)
    assert (cause.what, cause.seqs, cause.ranges) == ("#11 write lost", [11], 3)
    assert cause.text == (
        "128 sectors in 3 ranges from 0 to 127 hold what was there before #11 write (lost write)"
    )


def test_one_range_has_the_sentence_of_its_finding(make: Make) -> None:
    disk = make()
    bad = disk.after()
    bad[HOT] = disk.data(4)
    explain = Explainer(disk.source, 11, 6)
    findings = explain(11, differences(disk.after(), bad))
    (cause,) = explain.causes(findings)
    assert cause.text == findings[0].text
    assert (cause.what, cause.common) == ("#6 write lost", [])
    assert findings[0].writer == Origin(seq=6, kind="write", offset=16 * KIB, length=16 * KIB, at=0)


def test_no_damage_has_no_cause(make: Make) -> None:
    assert Explainer(make().source, 11, None).causes([]) == []


def test_faults_of_one_op_that_differ_are_causes_of_their_own() -> None:
    op, changes = write(1, 0, CLUSTER), changes_of([write(0, 0), write(1, 0, CLUSTER)])
    tears = [torn(op, 8 * KIB), torn(op, 16 * KIB)]
    assert [cause.ranges for cause in group(tears, changes)] == [1, 1]
    by = [Detail(by=16), Detail(by=16), Detail(by=-16)]
    moved = [
        damaged(sector, DamageKind.SHIFTED, detail=one, source=origin(op))
        for sector, one in zip((0, 16, 32), by, strict=True)
    ]
    assert sorted(cause.ranges for cause in group(moved, changes)) == [1, 2]
    meant = [Detail(meant_for=0), Detail(meant_for=16 * SECTOR), Detail(meant_for=0)]
    misdirected = [
        damaged(sector, DamageKind.MISDIRECTED, detail=one, source=origin(op))
        for sector, one in zip((128, 144, 160), meant, strict=True)
    ]
    assert sorted(cause.ranges for cause in group(misdirected, changes)) == [1, 2]


def test_unexplained_ranges_are_one_cause_and_the_last() -> None:
    op = write(0, 0)
    findings = [damaged(100), lost(op), damaged(200)]
    explained, rest = group(findings, changes_of([op]))
    assert (explained.kind, rest.kind) == (DamageKind.LOST_WRITE, None)
    assert (rest.what, rest.ops, rest.ranges) == ("2 ranges unexplained", 0, 2)
    assert rest.text == "16 sectors in 2 ranges from 100 to 207 hold wrong bytes (unexplained)"
    (alone,) = group(findings[:1], changes_of([op]))
    assert alone.what == "1 range unexplained"
    assert alone.text == "sectors 100 to 107 hold wrong bytes (unexplained)"


def test_flipped_bits_of_one_op_are_counted_together() -> None:
    op = write(7, 0, CLUSTER)
    flips = [
        damaged(at, DamageKind.BIT_FLIP, source=origin(op),
                detail=Detail(bits=2, first=[[at * SECTOR, 3]]))
        for at in (0, 40)
    ]  # fmt: skip
    (cause,) = group(flips, changes_of([op]))
    assert cause.text == (
        "16 sectors in 2 ranges from 0 to 47 hold 4 bits wrong, the first in byte 0 (mask 0x03) "
        "(bit flip)"
    )


# ---------------------------------------------------------------- several ops


def test_the_same_fault_of_two_ops_is_two_causes_of_three_ops_one() -> None:
    ops = [write(seq, seq * 100 * KIB) for seq in range(4)]
    assert len(group([lost(op) for op in ops[:2]], changes_of(ops))) == 2
    (cause,) = group([lost(op) for op in ops[1:]], changes_of(ops))
    assert (cause.ops, cause.seqs, cause.what) == (3, [1, 2, 3], "3 writes lost")
    assert cause.text == "3 writes lost: #1, #2, #3; 12.0 KiB in 3 ranges"
    (cause,) = group([lost(op) for op in ops], changes_of(ops))
    assert cause.what == "all 4 writes lost"


def test_causes_with_the_most_damage_come_first_then_by_place() -> None:
    ops = [write(0, 0), write(1, 64 * KIB), write(2, 128 * KIB, 8 * KIB)]
    findings = [lost(op) for op in ops[:2]] + [torn(ops[2], 128 * KIB + 512)]
    assert [cause.sector for cause in group(findings, changes_of(ops))] == [257, 0, 128]
    assert group(findings[::-1], changes_of(ops)) == group(findings, changes_of(ops))


def test_a_cause_lists_the_first_ops_only() -> None:
    ops = [write(seq, seq * 8 * KIB) for seq in range(1, 5000)]
    (cause,) = group([lost(op) for op in reversed(ops)], changes_of(ops))
    assert (cause.ops, cause.ranges, cause.sectors) == (4999, 4999, 8 * 4999)
    assert cause.seqs == list(range(1, MAX_SEQS + 1))
    assert ": #1, #2, #3 and 4,996 more; 19.5 MiB in 4,999 ranges" in cause.text
    assert len(to_json(cause)["seqs"]) == MAX_SEQS


def common(findings: Sequence[Finding], ops: Sequence[Op]) -> list[str]:
    """What the only cause says that all have in common; its text says it too."""
    (cause,) = group(findings, changes_of(ops))
    for words in cause.common:
        assert words in cause.text
    return cause.common


def tears_at(step: int, count: int, room: int | None = None) -> tuple[list[Finding], list[Op]]:
    """Writes of 256 KiB from different places, each torn at some multiple of ``step``."""
    ops = [write(seq, seq * 1000 * KIB + seq * 3584, 256 * KIB) for seq in range(1, count + 1)]
    tears = [torn(op, (op.offset // step + 1 + op.seq % 3) * step, room) for op in ops]
    return tears, [*ops, write(0, 0)]


def test_every_tear_at_a_multiple_of_64_kib() -> None:
    findings, ops = tears_at(CLUSTER, 40)
    (cause,) = group(findings, changes_of(ops))
    assert cause.what == "40 writes torn"
    assert cause.common == ["each torn at a multiple of 64.0 KiB"]
    assert cause.text.startswith(
        "40 writes torn (the first part arrived), each torn at a multiple of 64.0 KiB: #1, #2, #3 "
        "and 37 more; "
    )


def test_tears_at_multiples_of_a_sector_or_where_chance_may_be_are_not_remarkable() -> None:
    assert common(*tears_at(512, 40)) == []
    assert common(*tears_at(1024, 3)) == []
    # new and old data are equal around the boundaries, and everywhere is a multiple in reach
    assert common(*tears_at(CLUSTER, 40, room=60 * KIB)) == []


def test_tears_after_the_same_number_of_bytes() -> None:
    ops = [write(seq, seq * 300 * KIB + seq * 512, 32 * KIB) for seq in range(5)]
    findings = [torn(op, op.offset + 3584) for op in ops]
    assert common(findings, [*ops, write(9, 0)]) == ["each torn after its first 3.5 KiB"]


Check = Callable[[int], Op]

FEW = 12
MANY_OTHERS = 300


@pytest.mark.parametrize(
    ("bad", "good", "words"),
    [
        (lambda n: write(n, n * CLUSTER + 2048, flags=Flag.FUA),
         lambda n: write(n, n * CLUSTER + 2048), ["each with FUA"]),
        (lambda n: write(n, n * 40 * KIB, 8 * KIB), lambda n: write(n, n * 40 * KIB),
         ["each of 8.0 KiB"]),
        (lambda n: write(n, n * CLUSTER), lambda n: write(n, n * CLUSTER + n % 15 * 4096 + 4096),
         ["each at a multiple of 64.0 KiB"]),
        (lambda n: write(n, n * CLUSTER + 60 * KIB), lambda n: write(n, n * CLUSTER + n % 5 * 4096),
         ["each 60.0 KiB after a multiple of 64.0 KiB"]),
        (lambda n: write(n, n * CLUSTER + (57 + n % 5) * KIB, 8 * KIB),
         lambda n: write(n, n * CLUSTER + n % 47 * KIB, 8 * KIB),
         ["each across a multiple of 64.0 KiB"]),
        (lambda n: write(n, 12 * KIB), lambda n: write(n, n * 4096), ["each at byte 12288"]),
        (lambda n: write(n, n * 7 * KIB + 512), lambda n: write(n, n * 7 * KIB + 512), []),
    ],
    ids=["flag", "length", "aligned", "offset", "across", "place", "nothing"],
)  # fmt: skip
def test_what_lost_ops_have_in_common_is_what_other_ops_do_not_have(
    bad: Check, good: Check, words: list[str]
) -> None:
    damaged = [bad(seq) for seq in range(1, FEW + 1)]
    others = [good(seq) for seq in range(FEW + 1, MANY_OTHERS)]
    assert common([lost(op) for op in damaged], [*damaged, *others]) == words
    # if all ops have it, it says nothing
    alike = [bad(seq) for seq in range(FEW + 1, MANY_OTHERS)]
    assert common([lost(op) for op in damaged], [*damaged, *alike]) == []


def test_ops_of_other_kinds_are_not_compared() -> None:
    trims = [Op(seq, int(Kind.TRIM), 0, seq * CLUSTER, CLUSTER) for seq in range(20)]
    writes = [write(seq, seq * 4096 + 512) for seq in range(20, 300)]
    (cause,) = group([lost(op) for op in trims[:5]], changes_of([*trims, *writes]))
    assert (cause.what, cause.common) == ("5 trims lost", [])
    (cause,) = group([lost(op) for op in (*trims[:5], *writes)], changes_of([*trims, *writes]))
    assert cause.what == "285 ops lost"


def moved(ops: Sequence[Op], distances: Sequence[int]) -> list[Finding]:
    return [
        damaged(
            op.offset // SECTOR + distance, DamageKind.MISDIRECTED, source=origin(op),
            detail=Detail(meant_for=op.offset),
        )
        for op, distance in zip(ops, distances, strict=True)
    ]  # fmt: skip


def test_misdirected_by_the_same_distance_or_by_multiples() -> None:
    ops = [write(seq, seq * 104 * KIB + seq * 512) for seq in range(8)]
    same, away = group(moved(ops, [128] * 4 + [-128] * 4), changes_of(ops))
    assert same.text.startswith("4 writes misdirected forward by 128 sectors: #0, #1, #2 and 1")
    assert away.text.startswith("4 writes misdirected back by 128 sectors: #4")
    assert common(moved(ops, [128 * n for n in range(1, 9)]), ops) == [
        "each by a multiple of 64.0 KiB"
    ]
    assert common(moved(ops, [128 * n + n for n in range(1, 9)]), ops) == []
    # if every op is at a multiple of 64 KiB, so is every distance
    aligned = [write(seq, seq * CLUSTER) for seq in range(8)]
    assert common(moved(aligned, [128 * n for n in range(1, 9)]), aligned) == []


def test_the_same_bit_of_every_op() -> None:
    ops = [write(seq, seq * 101 * KIB) for seq in range(6)]

    def flips(*masks: int) -> list[Finding]:
        return [
            damaged(op.offset // SECTOR, DamageKind.BIT_FLIP, source=origin(op),
                    detail=Detail(bits=1, first=[[op.offset, mask]]))
            for op, mask in zip(ops, masks, strict=False)
        ]  # fmt: skip

    assert common(flips(4, 4, 4, 4, 4, 4), ops) == ["each with the mask 0x04"]
    assert common(flips(4, 4, 4, 4, 4, 8), ops) == []
    assert common(flips(4, 4, 4), ops) == []


def test_shifts_and_versions_that_are_alike_are_together_and_what_is_left_too() -> None:
    ops = [write(seq, seq * 104 * KIB) for seq in range(6)]
    details = [Detail(by=16)] * 3 + [Detail(by=n) for n in (1, 2, 3)]
    shifted = [
        damaged(op.offset // SECTOR, DamageKind.SHIFTED, source=origin(op), detail=detail)
        for op, detail in zip(ops, details, strict=True)
    ]
    alike, rest = group(shifted, changes_of(ops))
    assert alike.text == "3 writes shifted forward by 16 bytes: #0, #1, #2; 12.0 KiB in 3 ranges"
    assert rest.text == "3 writes shifted: #3, #4, #5; 12.0 KiB in 3 ranges"
    stale = [
        damaged(op.offset // SECTOR, DamageKind.STALE, writer=origin(op), source=origin(ops[0]),
                detail=Detail(versions_back=2))
        for op in ops
    ]  # fmt: skip
    (cause,) = group(stale, changes_of([*ops, write(9, 0)]))
    assert cause.text.startswith("6 writes stale, 2 versions back: #0, #1, #2 and 3 more; ")


@pytest.mark.parametrize(
    ("kind", "what"),
    [(DamageKind.ZEROED, "4 ranges zeroed"), (DamageKind.FOREIGN, "4 ranges with foreign bytes")],
)
def test_ranges_without_a_source_are_counted_as_ranges(kind: DamageKind, what: str) -> None:
    ops = [write(seq, seq * 104 * KIB + 512) for seq in range(300)]

    def ranges(step: int) -> Cause:
        found = [damaged(op.seq * step, kind, writer=origin(op)) for op in ops[1:5]]
        (cause,) = group(found, changes_of(ops))
        return cause

    cause = ranges(128)
    assert (cause.what, cause.ranges, cause.ops) == (what, 4, 4)
    assert cause.common == ["each at a multiple of 64.0 KiB"]
    assert cause.text == (
        f"{what}, each at a multiple of 64.0 KiB: from sector 128 to 519, 16.0 KiB in 4 ranges"
    )
    assert ranges(131).common == []
