"""A verdict in words: what is said, in which order, and how short it stays."""

from itertools import product
from typing import Any

import pytest
from msgspec import structs

from analysis.story import words
from tracer.op import SECTOR
from tracer.verdict import (
    MAX_INT,
    BadRead,
    Cause,
    CulpritOp,
    DamageKind,
    Finding,
    OtherFault,
    SectorBytes,
    Suspect,
    SymptomKind,
    Verdict,
    VerdictKind,
)

CULPRIT = CulpritOp(
    seq=17, kind="write", offset=20480, length=4096, flags=["FUA"], submitted=1_500_000
)
LOST = Finding(sector=40, sectors=8, kind=DamageKind.LOST_WRITE, text="sectors 40 to 47 are lost")
NOISE = bytes(range(256)) * 2
BYTES = SectorBytes(sector=40, offset=20480, expected=NOISE.hex(), actual=NOISE[::-1].hex())
LOG = "".join(f"line {number}\n" for number in range(50))


def cause(kind: DamageKind | None, *seqs: int, text: str = "") -> Cause:
    name = str(kind or "unexplained")
    return Cause(
        kind=kind, ops=len(seqs), seqs=list(seqs), ranges=2, sectors=3, sector=40, what=name,
        text=text or f"{name} of {seqs}",
    )  # fmt: skip


def verdict(**more: Any) -> Verdict:
    """A clean verdict, or ``more``."""
    return structs.replace(
        Verdict(
            verdict=VerdictKind.CLEAN, reason="no difference", driver="qcow2", trace="w.trace",
            size=1 << 30, ops=28, replayed_ops=28, runs=1, damage=[], culprit_damage=[],
        ),
        **more,
    )  # fmt: skip


def bad(**more: Any) -> Verdict:
    """A verdict with a confirmed culprit, or ``more``."""
    usual: dict[str, Any] = {
        "verdict": VerdictKind.DAMAGED, "reason": "the image is wrong", "culprit": CULPRIT,
        "confirmed": True, "shown": 1, "tries": 1, "clean_without": 1, "damage": [LOST],
        "culprit_damage": [LOST], "symptom": SymptomKind.IMAGE, "replayed_ops": 100, "runs": 5,
        "confirm_ops": 36,
    }  # fmt: skip
    return verdict(**(usual | more))


def part(told: Verdict, name: str) -> list[str]:
    """The lines of one fact of a story."""
    lines = words.story(told).splitlines()
    heads = [line[:10].strip().rstrip(":") for line in lines]
    if name not in heads:
        return []
    first = heads.index(name)
    stop = first + 1
    while stop < len(lines) and lines[stop].startswith(" " * 10):
        stop += 1
    return [line[10:] for line in lines[first:stop]]


# ---------------------------------------------------------------- whole stories


def test_a_clean_replay_is_two_lines() -> None:
    assert words.story(verdict()) == (
        "verdict:  clean (qcow2): no difference\n"
        "replayed: 28 ops in 1 run (1.0 times the trace's 28)"
    )


def test_a_replay_of_nothing_divides_by_nothing() -> None:
    told = verdict(ops=0, replayed_ops=0)
    assert part(told, "replayed") == ["0 ops in 1 run (0.0 times the trace's 0)"]


def test_an_undecidable_replay_only_says_why() -> None:
    told = verdict(verdict=VerdictKind.UNDECIDABLE, reason="it did not start:\n  no such file\n")
    assert words.story(told) == "verdict:  undecidable (qcow2): it did not start: no such file"


def test_a_culprit_with_its_damage_and_what_to_do_next() -> None:
    told = bad(
        culprit_causes=[cause(DamageKind.LOST_WRITE, 17, text="#17 is lost")],
        causes=[cause(DamageKind.LOST_WRITE, 17, text="#17 is lost in part")],
        first_bad_read=BadRead(seq=21, sector=41),
        plot="w.png",
    )
    assert words.story(told).splitlines() == [
        "verdict:  damaged (qcow2): the image is wrong",
        "replayed: 100 ops in 5 runs: 64 to search (2.3 times the trace's 28), 36 to confirm",
        "seen:     first by read #21, in sector 41",
        "culprit:  #17 write, sectors 40 to 47 (4.0 KiB at byte 20480), FUA, 0.001500 s into the "
        "recording",
        "          confirmed: wrong with it in 1 of 1 run, right without it in 1 of 1",
        "damage:   8 sectors (4.0 KiB)",
        "          #17 is lost",
        "plot:     w.png",
        "next:     trace history w.trace --sector 40 --at 17",
        "          trace checkout w.trace --at 17 -o state.raw",
    ]


# ---------------------------------------------------------------- culprits


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"confirmed": False}, "not confirmed: the fault does not show in every run"),
        ({"shown": 3, "tries": 4, "clean_without": 8},
         "confirmed: wrong with it in 3 of 4 runs, right without it in 8 of 8"),
        ({"needs_company": True}, "in 1 of 1; only with other ops in flight"),
        ({"detected": 3}, "; shown by run 3 of the whole trace"),
        ({"seed": 7}, ", in order 7"),
    ],
)  # fmt: skip
def test_how_certain_the_culprit_is(more: dict[str, Any], text: str) -> None:
    assert text in part(bad(**more), "culprit")[1]


@pytest.mark.parametrize(("located", "text"), [(True, "not found"), (False, "not looked for")])
def test_no_culprit(located: bool, text: str) -> None:
    told = bad(culprit=None, culprit_damage=[], located=located, command=["trace", "replay", "w"])
    assert part(told, "culprit") == [text]
    assert part(told, "next") == ["trace replay w" + (" --runs 20" if located else "")]
    assert part(told, "damage")[0] == "8 sectors (4.0 KiB)"


def test_a_flush_has_no_sectors() -> None:
    flush = structs.replace(CULPRIT, kind="flush", offset=0, length=0, flags=[])
    assert part(bad(culprit=flush), "culprit")[0] == "#17 flush, 0.001500 s into the recording"


def test_a_crash_shows_the_end_of_the_log_and_the_ops_before_it() -> None:
    told = bad(
        verdict=VerdictKind.FAILED, symptom=SymptomKind.CRASH, damage=[], culprit_damage=[], log=LOG
    )
    assert part(told, "log") == ["the driver's last words", *LOG.splitlines()[-4:]]
    assert part(told, "damage") == []
    assert part(told, "next") == ["trace show w.trace --ops --from 7 --to 17"]
    assert part(structs.replace(told, symptom=SymptomKind.IMAGE), "log") == []


# ---------------------------------------------------------------- damage


def test_more_damage_in_the_end_has_causes_of_its_own() -> None:
    own = cause(DamageKind.TORN, 17)
    every = cause(DamageKind.TORN, 17, 18, 19)
    more = [LOST, structs.replace(LOST, sector=80)]
    told = bad(damage=more, culprit_causes=[own], causes=[every, own])
    assert part(told, "damage") == [
        "8 sectors (4.0 KiB) right after the culprit, 16 sectors (8.0 KiB) in the end",
        own.text,
        f"in the end: {every.text}",
    ]


def test_the_damage_in_the_end_keeps_a_line_and_the_rest_is_counted() -> None:
    own = [cause(DamageKind.TORN, seq) for seq in range(9)]
    later = [cause(DamageKind.STALE, seq) for seq in range(3)]
    lines = part(bad(culprit_causes=own, causes=later), "damage")[1:]
    assert lines == [
        *(one.text for one in own[:3]), f"in the end: {later[0].text}", "and 8 more causes",
    ]  # fmt: skip
    lines = part(bad(culprit_causes=own[:1], causes=later), "damage")[1:]
    assert lines == [own[0].text, *(f"in the end: {one.text}" for one in later)]
    lines = part(bad(culprit_causes=own[:5]), "damage")[1:]
    assert lines == [*(one.text for one in own[:4]), "and 1 more cause"]


def test_without_a_culprit_the_causes_in_the_end_are_the_causes() -> None:
    told = bad(culprit=None, culprit_damage=[], causes=[cause(DamageKind.TORN, 1), cause(None)])
    assert part(told, "damage")[1:] == ["torn of (1,)", "unexplained of ()"]
    assert words.later_causes(told) == []


def test_no_line_is_said_twice() -> None:
    told = bad(
        damage=[structs.replace(LOST, sector=40 + 2 * at, sectors=1) for at in range(22)],
        causes=[cause(DamageKind.TORN, 17, text="#17 write is torn")],
    )
    told = structs.replace(told, culprit_damage=told.damage, culprit_causes=told.causes)
    assert part(told, "damage") == ["22 sectors (11.0 KiB)", "#17 write is torn"]


def test_verdicts_of_older_versions_have_ranges_for_causes() -> None:
    ranges = [
        LOST, Finding(sector=80, sectors=1), Finding(sector=90, sectors=2, kind=DamageKind.ZEROED),
        *(Finding(sector=at, sectors=1) for at in range(100, 110)),
    ]  # fmt: skip
    told = bad(damage=ranges, culprit_damage=ranges)
    assert part(told, "damage") == [
        "21 sectors (10.5 KiB)",
        "sectors 40 to 47 are lost", "sector 80", "sectors 90 to 91", "sector 100",
        "and 9 more causes",
    ]  # fmt: skip
    assert [one.what for one in words.causes(told)[:3]] == [
        "sectors 40 to 47 lost write", "sector 80 damaged", "sectors 90 to 91 zeroed",
    ]  # fmt: skip


def test_one_sector_is_not_sectors() -> None:
    one = Finding(sector=7, sectors=1)
    assert part(bad(damage=[one], culprit_damage=[one]), "damage") == [
        "1 sector (512 B)",
        "sector 7",
    ]


def test_huge_numbers_are_whole() -> None:
    last = MAX_INT // SECTOR
    huge = Finding(sector=last - 9, sectors=10)
    culprit = structs.replace(CULPRIT, seq=MAX_INT, offset=(last - 9) * SECTOR, submitted=MAX_INT)
    told = bad(
        size=MAX_INT, culprit=culprit, damage=[huge], culprit_damage=[huge], runs=MAX_INT,
        ops=MAX_INT, replayed_ops=MAX_INT, confirm_ops=MAX_INT,
    )  # fmt: skip
    assert part(told, "damage")[1] == f"sectors {last - 9} to {last}"
    assert f"#{MAX_INT} write, sectors {last - 9} to {last - 2}" in part(told, "culprit")[0]
    assert f"{MAX_INT:,} ops in {MAX_INT:,} runs: 0 to search" in part(told, "replayed")[0]
    assert f"--sector {last - 9} --at {MAX_INT}" in part(told, "next")[0]


# ---------------------------------------------------------------- the limit


PARTS: dict[str, dict[str, Any]] = {
    "volatile": {"volatile": True},
    "seen": {"first_bad_read": BadRead(seq=1, sector=1)},
    "bytes": {"bytes": BYTES},
    "log": {"symptom": SymptomKind.CHECK, "log": LOG},
    "plot": {"plot": "w.png"},
    "own": {"culprit_causes": [cause(DamageKind.TORN, seq) for seq in range(9)]},
    "later": {"causes": [cause(DamageKind.STALE, seq) for seq in range(9)]},
    "reason": {"reason": "\n".join(["it is wrong"] * 30)},
    "also": {"also": [OtherFault(reason="the check failed") for _ in range(9)]},
    "company": {"needs_company": True, "company": 3},
}


@pytest.mark.parametrize("chosen", list(product([False, True], repeat=len(PARTS)))[::3])
def test_a_story_fits_on_a_screen_and_ends_with_what_to_do(chosen: tuple[bool, ...]) -> None:
    more: dict[str, Any] = {}
    for name, wanted in zip(PARTS, chosen, strict=True):
        more |= PARTS[name] if wanted else {}
    lines = words.story(bad(**more)).splitlines()
    assert len(lines) <= words.MAX_LINES
    assert lines[-2:] == [
        "next:     trace history w.trace --sector 40 --at 17",
        "          trace checkout w.trace --at 17 -o state.raw",
    ]


def test_a_story_that_is_too_long_gives_up_the_dump_and_the_log_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = (more for name, more in PARTS.items() if name != "also")
    told = bad(**{key: value for more in parts for key, value in more.items()})

    def lengths(most: int) -> list[int]:
        """The lines of the parts that may be short, if a story has ``most``."""
        monkeypatch.setattr(words, "MAX_LINES", most)
        lines = words.story(told).splitlines()
        assert len(lines) <= most
        rows = sum(" | " in line for line in lines) - 1  # without the heading
        return [len(part(told, "damage")), rows, len(part(told, "log"))]

    assert lengths(25) == [6, 4, 5]
    assert lengths(24) == [6, 2, 5]
    assert lengths(22) == [6, 2, 3]
    assert lengths(20) == [4, 2, 3]
    assert lengths(16) == [3, 1, 2]


# ---------------------------------------------------------------- bytes


def shown(expected: bytes, actual: bytes) -> SectorBytes:
    return SectorBytes(sector=8, offset=4096, expected=expected.hex(), actual=actual.hex())


def test_equal_rows_and_rows_that_repeat_are_left_out() -> None:
    good = bytearray(SECTOR)
    wrong = bytearray(good)
    wrong[32:80] = b"\x07" * 48
    wrong[100] = ord("A")
    lines = words.dump(shown(good, wrong))
    assert [line[:10] for line in lines] == ["...", "00001020: ", "*", "...", "00001060: ", "..."]
    assert lines[1].endswith("................")
    assert lines[1].count("07") == 16
    assert "41" in lines[4]
    assert lines[4].endswith("....A...........")
    assert words.dump(shown(b"", b"")) == []


def test_a_part_of_a_sector_keeps_its_columns() -> None:
    first, last = words.dump(shown(bytes(20), b"x" * 20))
    assert first.index("|") == last.index("|")


def test_more_runs_are_asked_for_once() -> None:
    command = ["trace", "replay", "w", "--runs", "4", "--seed", "1"]
    told = bad(culprit=None, culprit_damage=[], command=command)
    assert part(told, "next") == ["trace replay w --seed 1 --runs 20"]


def test_suspects_and_what_was_in_flight_with_them() -> None:
    suspect = Suspect(seq=7, kind="write", offset=4096, length=8192, followed=2, in_flight=[])
    crowd = structs.replace(suspect, seq=8, followed=0, in_flight=[1, 2, 3, 4, 5])
    told = bad(culprit=None, culprit_damage=[], suspects=[suspect, crowd])
    assert part(told, "suspects") == [
        "#7 write 8.0 KiB at sector 8, damage followed it in 2 runs",
        "#8 write 8.0 KiB at sector 8, in flight with #1, #2, #3, #4, ...",
    ]


def test_other_faults_are_listed_up_to_a_limit() -> None:
    faults = [OtherFault(reason=f"fault {number}") for number in range(5)]
    assert part(bad(also=faults[:3]), "also") == ["fault 0", "fault 1", "fault 2"]
    assert part(bad(also=faults), "also") == ["fault 0", "fault 1", "fault 2", "and 2 more"]


def test_the_op_that_it_needs_in_flight_is_named() -> None:
    assert "; only with #16 in flight" in part(bad(needs_company=True, company=16), "culprit")[1]
