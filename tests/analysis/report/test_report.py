"""What the pages of ``trace report`` say."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import KIB, WORKLOAD, make_trace, write_driver
from tests.kit.peers import need
from tests.kit.reports import LOST, lost_write, reported
from tests.kit.traces import write_trace
from tracer.op import Kind, Op
from tracer.text import shell
from tracer.trace.records import End, Mark, Mismatch

pytestmark = pytest.mark.slow


def verdict_of(folder: Path, defect: str, *more: object, code: int = 1) -> dict[str, Any]:
    """What replaying the workload on a build with a defect says; also in verdict.json."""
    driver = write_driver(folder, defect) if defect != "raw" else "raw"
    arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-plot", *more)
    (folder / "verdict.json").write_text(trace(*arguments, cwd=folder, expect=code).stdout)
    return dict(json.loads((folder / "verdict.json").read_text()))


# ---------------------------------------------------------------- of verdicts


def test_a_real_verdict_from_the_symptom_to_the_command(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    found = verdict_of(tmp_path, "write-misdirected")
    page = reported(tmp_path, "verdict.json")
    assert list(page.sections) == [
        "", "what", "reproduce", "damage", "bytes", "history", "ops", "replayed", "recorded",
    ]  # fmt: skip
    head, what = page.sections[""], page.sections["what"]
    assert head.splitlines()[-1].startswith("What happened")  # the links
    assert "write-misdirected: damaged by #17 write\n" in head
    assert found["reason"] in head
    assert "#17 write, sectors 40 to 47 (4.0 KiB at byte 20480)" in what
    assert "right without it in 3 of 3" in what
    assert [one["text"] in what for one in found["culprit_damage"]] == [True, True]
    assert page.row("sectors 168 to 175") == [
        "sectors 168 to 175", "4.0 KiB", "misdirected", "#17 write, from its byte 0 on",
        found["culprit_damage"][1]["text"],
    ]  # fmt: skip
    again = f"trace replay w.trace --driver {tmp_path}/write-misdirected.toml"
    assert again in page.sections["reproduce"]
    assert "trace history w.trace --sector 40 --at 17" in page.sections["reproduce"]
    assert "nbdkit: " in page.sections["replayed"]
    assert "disk4.0 MiB (8,192 sectors)" in page.sections["recorded"].replace("\n", "")


def test_the_command_repeats_what_was_asked_for(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", LOST)
    options = ["--depth", "3", "--runs", "2", "--seed", "5", "--timeout", "9.5"]
    found = verdict_of(tmp_path, "raw", *options, code=0)
    assert found["command"] == ["trace", "replay", "w.trace", "--driver", "raw", *options]
    assert trace(*found["command"][1:], cwd=tmp_path).stdout.startswith("verdict:  clean")
    page = reported(tmp_path, "verdict.json")
    assert list(page.sections) == ["", "what", "reproduce", "replayed", "recorded"]
    assert shell(found["command"]) in page.sections["reproduce"]
    # what was found is the same, wherever
    (tmp_path / "other.json").write_text(json.dumps(found | {"command": [], "environment": {}}))
    trace("diff", "verdict.json", "other.json", cwd=tmp_path)


def test_every_byte_that_differs_is_marked(tmp_path: Path) -> None:
    expected = bytes(range(256)) * 2
    actual = bytearray(expected)
    actual[3] ^= 1
    actual[40:44] = b'<&">'
    shown = {"sector": 2048, "offset": 1 << 20, "expected": expected.hex(), "actual": actual.hex()}
    lost_write(tmp_path, bytes=shown)
    page = reported(tmp_path, "verdict.json")
    assert [text for was, text in page.marked if was] == ["03", ".", "28 29 2a 2b", "()*+"]
    assert [text for was, text in page.marked if not was] == ["02", ".", "3c 26 22 3e", '<&">']
    told = page.sections["bytes"]
    assert "5 of 512 bytes differ, from byte 1048579 to byte 1048619 of the disk" in told
    rows = re.findall(
        r"^([-+ ]) 00100([0-9a-f]{3})  ((?:[0-9a-f]{2} ?)+)  (.*)$", told, re.MULTILINE
    )
    assert [sign for sign, *_ in rows[:5]] == ["-", "+", " ", "-", "+"]
    assert [bytes.fromhex(row[2]) for row in rows if row[0] != "+"] == [
        expected[at : at + 16] for at in range(0, 512, 16)
    ]


def test_rows_that_repeat_are_left_out(tmp_path: Path) -> None:
    lost_write(
        tmp_path,
        bytes={"sector": 2048, "offset": 1 << 20, "expected": "07" * 300, "actual": "00" * 300},
    )
    lines = reported(tmp_path, "verdict.json").sections["bytes"].splitlines()
    # 18 rows alike, and one that is shorter
    assert [line[:10] for line in lines[-5:]] == [
        "- 00100000", "+ 00100000", "*", "- 00100120", "+ 00100120",
    ]  # fmt: skip
    assert lines[-5].index("....") == lines[-2].index("....")


def test_ops_around_the_culprit_say_what_they_have_to_do_with_it(tmp_path: Path) -> None:
    lost = {"sector": 40, "sectors": 8, "class": "lost-write", "source": None, "text": None}
    op = {
        "seq": 17,
        "kind": "write",
        "offset": 20 * KIB,
        "length": 4 * KIB,
        "flags": [],
        "submitted": 0,
    }
    first = {"seq": 21, "sector": 40}
    lost_write(
        tmp_path,
        WORKLOAD,
        4,
        culprit=op,
        damage=[lost],
        culprit_damage=[lost],
        first_bad_read=first,
    )
    page = reported(tmp_path, "verdict.json")
    notes = {row[0]: row[-1] for row in page.rows if len(row) == 9}
    assert [f"#{seq}" in notes for seq in (0, 6, 7, 27)] == [True, False, True, True]
    assert notes["#16"] == notes["#19"] == "in flight with it"
    assert notes["#17"] == "the culprit; touches damaged sectors"
    assert notes["#21"] == "the first wrong read; touches damaged sectors"
    assert notes["#22"] == ""
    assert page.row("#17")[:8] == [
        "#17", "write", "40 to 47", "4.0 KiB", "", "0.000000", "0", "",
    ]  # fmt: skip


def test_ranges_with_one_cause_are_grouped(tmp_path: Path) -> None:
    ranges: list[dict[str, Any]] = [
        {"sector": sector, "sectors": 1, "class": "torn", "text": f"sector {sector} is torn"}
        for sector in (2048, 2050, 2052)
    ]
    cause = {"class": "torn", "ranges": 3, "sectors": 3, "sector": 2048, "what": "#1 write torn",
             "text": "3 sectors of #1 write are torn"}  # fmt: skip
    every = cause | {"ops": 40, "what": "40 writes torn", "text": "40 writes are torn", "seqs": [1]}
    lost_write(
        tmp_path, damage=ranges, culprit_damage=ranges, causes=[every], culprit_causes=[cause]
    )
    page = reported(tmp_path, "verdict.json")
    assert "3 sectors of #1 write are torn\nin the end: 40 writes are torn" in page.sections["what"]
    assert page.row("#1 write torn") == [
        "#1 write torn", "right after the culprit", "3", "1.5 KiB", cause["text"],
    ]  # fmt: skip
    assert page.row("40 writes torn")[1:3] == ["in the end", "3"]
    assert page.row("sector 2052")[-1] == "sector 2052 is torn"
    # one history for the cause
    assert [row[0] for row in page.rows].count("#1") == 2  # the history and the ops around it
    # a cause of one range has no table: the ranges say all
    alone = cause | {"ranges": 1, "sectors": 1}
    lost_write(tmp_path, damage=ranges[:1], culprit_damage=ranges[:1], culprit_causes=[alone])
    assert not [row for row in reported(tmp_path, "verdict.json").rows if row[0] == alone["what"]]


def test_a_long_history_is_cut_around_the_culprit(tmp_path: Path) -> None:
    """The writer and the source are told of, however long ago they were."""
    requests = [(Kind.WRITE, 0, 4096, 0)] * 3 + [(Kind.READ, 0, 4096, 0)] * 50
    requests += [(Kind.FLUSH, 0, 0, 0)] + [(Kind.READ, 0, 512, 0)] * 20
    op = {"seq": 53, "kind": "flush", "offset": 0, "length": 0, "flags": [], "submitted": 0}
    source = {"seq": 1, "kind": "write", "offset": 0, "length": 4096, "at": 0}
    stale = {"sector": 0, "sectors": 1, "class": "stale", "source": source, "text": "old"}
    lost_write(tmp_path, requests, culprit=op, damage=[stale], culprit_damage=[stale])
    page = reported(tmp_path, "verdict.json")
    history = [row for row in page.rows if len(row) == 9]
    first = history[1 : history.index(history[0], 1)]
    assert [row[0] for row in first] == [
        "#1", "#2", "#47", "#48", "#49", "#50", "#51", "#52", "#53", "#54", "#55", "#56", "#57",
    ]  # fmt: skip
    assert first[0][-1] == "its bytes are there instead"
    assert first[1][-1] == "wrote what should be there"
    assert first[8][-1] == "the culprit; touches other sectors"
    assert "; 61 more ops touched it" in page.sections["history"]


def test_a_crash_shows_the_drivers_last_words(tmp_path: Path) -> None:
    lines = "\n".join(f"line {at}" for at in range(1000))
    lost_write(tmp_path, verdict="failed", damage=[], culprit_damage=[], symptom="crash", log=lines)
    page = reported(tmp_path, "verdict.json")
    assert "some: failed at #1 write" in page.sections[""]
    assert "The last 200 of 1,000 lines." in page.sections["log"]
    assert "line 800\nline 801\n" in page.sections["log"]
    assert "line 799" not in page.sections["log"]
    assert "No sector is damaged." in page.sections["damage"]


def test_much_damage_makes_no_long_page(tmp_path: Path) -> None:
    some = {"sectors": 1, "class": "foreign", "source": None, "text": "x" * 5000}
    damage = [some | {"sector": 2 * at} for at in range(3000)]
    lost_write(tmp_path, damage=damage, culprit_damage=[])
    page = reported(tmp_path, "verdict.json")
    assert "the first 100 of 3,000" in page.sections["damage"]
    assert f"{'x' * 2000} ... (5,000 characters)" in page.sections["damage"]
    assert (tmp_path / "page.html").stat().st_size < 1 << 20


# ---------------------------------------------------------------- of traces


END = End(0, 0, 2_500_000_000, "clean")


def test_a_trace_is_told_of_by_kind(tmp_path: Path) -> None:
    ops = [Op(at, 1, 0, 0, 4096, 0, 1000 * (at + 1), 700, 900) for at in range(100)]
    ops += [
        Op(100, 3, 0, 0, 0, 5, 100_005, 1, 2, 5, 5),
        Op(101, 0, 0, 512, 512, 5),
        Op(102, 64, 0, 0, 512, 5),
    ]
    write_trace(tmp_path / "w.trace", [*ops, Mark(100, 1_500_000_000, "booted")], 1 << 20, END)
    page = reported(tmp_path, "w.trace")
    assert list(page.sections) == [
        "", "what", "kinds", "pictures", "marks", "reproduce", "recorded",
    ]  # fmt: skip
    assert (tmp_path / "page.html").read_text().count("data:image/png;base64,") == 3
    assert "w.trace: 0 differences" in page.sections[""]
    assert "ended after 2.500 s, its verdict was: clean." in page.sections["what"]
    kind, count, amount, failed, median, high, most, driver, reference = page.row("write")
    assert (kind, count, amount, failed, most) == ("write", "100", "400.0 KiB", "0", "100.0")
    assert float(median) == pytest.approx(50, rel=0.012)
    assert float(high) == pytest.approx(99, rel=0.012)
    assert (driver, reference) == ("0.9", "0.7")
    assert page.row("flush")[:4] == ["flush", "1", "", "1"]
    assert page.row("read")[4:] == [""] * 5
    assert page.row("start")[4:] == [""] * 5
    assert page.row("booted") == ["booted", "#100", "1.500000"]
    assert "trace replay w.trace --driver ..." in page.sections["reproduce"]


def test_a_trace_with_differences_shows_them_and_their_damage(tmp_path: Path) -> None:
    ops = [Op(at, at % 2, 0, 4096, 4096, 10 * at, 10 * at + 5) for at in range(30)]
    found = [
        Mismatch(20, 1, 4096, 512, 0, 0, 7, 0, bytes(16)),
        Mismatch(25, 2, 0, 0, 0, 28, 8, 0, bytes(16)),
        Mismatch(30, 4, 8192, 1024, 0, 0, 9, 0, bytes(16)),
    ]
    write_trace(tmp_path / "w.trace", [*ops, *found], 1 << 20, replace(END, verdict="damaged"))
    page = reported(tmp_path, "w.trace")
    assert "w.trace: 3 differences" in page.sections[""]
    assert {"mismatches", "damage", "history", "ops"} <= set(page.sections)
    assert page.row("after the run")[1:3] == ["the images differ after the run", "sectors 16 to 17"]
    assert ["#25", "one side failed", "", "28, reference 0", "0.000000"] in page.rows
    assert page.row("#20")[-1] == "the first difference; touches damaged sectors"
    assert page.row("#19")[-1] == "touches damaged sectors"
    assert "data:image/svg+xml;base64," in (tmp_path / "page.html").read_text()


def test_a_torn_trace_is_a_trace(tmp_path: Path) -> None:
    whole = write_trace(tmp_path / "w.trace", [Op(0, 1, 0, 0, 512, 0, 1)], end=None).read_bytes()
    (tmp_path / "w.trace").write_bytes(whole + whole[-108:-50])
    page = reported(tmp_path, "w.trace")
    assert "its end is missing" in page.sections[""]
    assert "the last record is cut off (58 bytes are there)" in page.sections["what"]
    write_trace(tmp_path / "empty.trace", [], end=None)
    page = reported(tmp_path, "empty.trace")
    assert "ops0" in page.sections["what"].replace("\n", "")
    assert "pictures" not in page.sections, "there is nothing to draw"
