"""What a matrix shows."""

from pathlib import Path

import pytest

from blkbox.matrices.artifacts import html, junit
from blkbox.matrices.model import BuildRow, CellRow, Matrix, TraceRow
from blkbox.matrices.screen import live_table, page
from tracer.verdict import VerdictKind

KINDS = [VerdictKind.CLEAN, VerdictKind.DAMAGED, VerdictKind.FAILED, VerdictKind.UNDECIDABLE, None]


def matrix(traces: int = 5, builds: int = 2, name: str = "b") -> Matrix:
    found = Matrix(
        traces=[TraceRow(name=f"t{number}", where=None) for number in range(traces)],
        builds=[BuildRow(name=f"{name}{number}") for number in range(builds)],
    )
    for number, trace in enumerate(found.traces):
        for build in found.builds:
            kind = KINDS[number % 5] if build is found.builds[0] else VerdictKind.CLEAN
            found.cells.append(CellRow(trace=trace.name, build=build.name, verdict=kind))
    return found


def test_the_live_table_has_a_symbol_for_each_cell_in_its_colour() -> None:
    text = live_table(matrix())
    assert text.plain.startswith("b0  .DF?-\nb1  .....\n\n9 of 10 cells: 6 clean, 1 damaged, ")
    assert [str(span.style) for span in text.spans][:5] == [
        "green", "bold red", "bold magenta", "yellow", "dim",
    ]  # fmt: skip


def test_many_traces_are_listed_if_they_are_not_clean() -> None:
    text = page(matrix(100, 1), Path("m"))
    assert "t1     D\n" in text
    assert "t0     ." not in text
    assert "(40 traces more)" in text or "(20 traces more)" in text


def test_builds_with_long_names_are_numbered() -> None:
    text = page(matrix(2, 3, "qcow2@/a/long/path/to/a/build-of-qemu-"), Path("m"))
    assert "trace  1  2  3\nt0     .  .  .\nt1     D  .  .\n" in text
    assert "  3  qcow2@/a/long/path/to/a/build-of-qemu-2" in text


@pytest.mark.parametrize("odd", ["\x1b[31m", "\x00", "<script>", "\ud800", '"&\n'])
def test_names_and_reasons_may_be_anything(odd: str) -> None:
    found = matrix(1, 1, odd)
    found.cells[0] = CellRow(trace=odd, build=odd, verdict=VerdictKind.FAILED, reason=odd)
    shown = page(found, Path("m")) + live_table(found).plain
    assert "\x1b" not in shown
    assert b"testsuite" in junit(found)
    assert "<script>" not in html(found, b"\x89PNG")


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([VerdictKind.CLEAN], 0),
        ([VerdictKind.CLEAN, VerdictKind.DAMAGED, VerdictKind.UNDECIDABLE], 1),
        ([VerdictKind.FAILED], 1),
        ([VerdictKind.CLEAN, VerdictKind.UNDECIDABLE], 125),
        ([VerdictKind.CLEAN, None], 125),
        ([], 125),
    ],
)
def test_the_exit_code(kinds: list[VerdictKind | None], code: int) -> None:
    found = Matrix(traces=[], builds=[])
    found.cells = [CellRow(trace="t", build="b", verdict=kind) for kind in kinds]
    assert found.exit_code == code
