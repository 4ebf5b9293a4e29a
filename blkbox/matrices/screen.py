"""What a matrix shows: a live table on a terminal, lines for what happens, and a page at the end.

A row of the table is a build, a symbol in it a trace.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from blkbox.matrices.folder import PAGE
from blkbox.matrices.model import SYMBOLS, CellRow, Matrix
from tracer.progress import Board
from tracer.text import many, printable, table
from tracer.verdict import BAD, VerdictKind

if TYPE_CHECKING:
    from rich.text import Text

COLOURS: dict[VerdictKind | None, str] = {
    VerdictKind.CLEAN: "green",
    VerdictKind.DAMAGED: "bold red",
    VerdictKind.FAILED: "bold magenta",
    VerdictKind.UNDECIDABLE: "yellow",
    None: "dim",
}

KINDS = (VerdictKind.CLEAN, VerdictKind.DAMAGED, VerdictKind.FAILED, VerdictKind.UNDECIDABLE)

MAX_ROWS = 60
"""Traces in the table on stdout: with more, only those that are not clean everywhere."""

MAX_LISTED = 40
"""Cells that are listed with their reasons. The page has all."""

MAX_REASON = 90
"""Characters of a reason in a list."""

MAX_NAME = 40
"""Characters of a build's name in the live table."""


class Screen(Board):
    """The screen of a matrix that runs."""

    def show(self, matrix: Matrix) -> None:
        """Redraw the table, if it is time."""
        self.draw(lambda: live_table(matrix))


def live_table(matrix: Matrix) -> "Text":
    """Return a row for each build, with a symbol in its colour for each trace, and a line with how
    far it is."""
    from rich.text import Text

    names = [printable(build.name)[-MAX_NAME:] for build in matrix.builds]
    width = max(map(len, names), default=0)
    text = Text(no_wrap=True, overflow="ellipsis")
    for name, (_, cells) in zip(names, matrix.rows(), strict=True):
        text.append(f"{name:{width}}  ")
        for cell in cells:
            text.append(SYMBOLS[cell.verdict], style=COLOURS[cell.verdict])
        text.append("\n")
    return text.append(f"\n{_summary(matrix)}")


def _summary(matrix: Matrix) -> str:
    """Say how many cells have which verdict, and how long it takes."""
    tally = matrix.tally
    done = len(matrix.cells) - tally[None]
    counts = ", ".join(f"{tally[kind]:,} {kind}" for kind in KINDS if tally[kind])
    kept = sum(cell.kept for cell in matrix.cells)
    ran, seconds = done - kept, matrix.seconds
    line = f"{done:,} of {many(len(matrix.cells), 'cell')}"
    line += f": {counts}; {seconds:.0f} s" if counts else f"; {seconds:.0f} s"
    if tally[None] and ran:
        line += f", about {seconds / ran * tally[None]:.0f} s to go"
    return line


def page(matrix: Matrix, folder: Path) -> str:
    """Return what a matrix has found, as text."""
    if not matrix.cells:
        return "no cell was run"
    lines = [_table(matrix), "", _legend(), _summary(matrix)]
    again = [cell for cell in matrix.cells if cell.begun > 1]
    if again:
        lines.append(f"{many(len(again), 'cell')} ran more than once, since a worker was lost:")
        lines += [
            f"  {printable(cell.trace)} on {printable(cell.build)}, {cell.begun} times"
            for cell in again[:MAX_LISTED]
        ]
    odd = [cell for cell in matrix.cells if cell.verdict in BAD]
    odd += [cell for cell in matrix.cells if cell.verdict is VerdictKind.UNDECIDABLE]
    if odd:
        lines.append("")
    for cell in odd[:MAX_LISTED]:
        lines += _listed(cell, folder)
    if len(odd) > MAX_LISTED:
        lines.append(f"and {len(odd) - MAX_LISTED:,} more")
    return "\n".join([*lines, "", f"page:     {folder / PAGE}"])


def _table(matrix: Matrix) -> str:
    """Return a row for each trace, with a symbol for each build. Numbers stand for the builds if
    their names are too long."""
    names = [printable(build.name) for build in matrix.builds]
    short = [str(number) for number in range(1, len(names) + 1)]
    fits = sum(map(len, names)) + 2 * len(names) <= 70
    rows: list[tuple[str, ...]] = [("trace", *(names if fits else short))]
    left_out = 0
    many_rows = len(matrix.traces) > MAX_ROWS
    for trace, cells in matrix.columns():
        clean = all(cell.verdict is VerdictKind.CLEAN for cell in cells)
        if (many_rows and clean) or len(rows) > MAX_ROWS:
            left_out += 1
            continue
        rows.append((printable(trace.name), *(SYMBOLS[cell.verdict] for cell in cells)))
    text = table(rows)
    if left_out:
        text += f"\n({many(left_out, 'trace')} more)"
    if not fits:
        text += "\n" + "\n".join(f"  {number}  {name}" for number, name in
                                 zip(short, names, strict=True))  # fmt: skip
    return text


def _legend() -> str:
    return "  ".join(f"{symbol} {kind or 'not run'}" for kind, symbol in SYMBOLS.items())


def _listed(cell: CellRow, folder: Path) -> list[str]:
    """Say what is wrong with a cell."""
    reason = printable(cell.reason)
    lines = [f"{printable(cell.trace)} on {printable(cell.build)}: {cell.verdict}"]
    lines.append(f"  {reason[:MAX_REASON]}{'...' if len(reason) > MAX_REASON else ''}")
    if cell.culprit is not None:
        lines.append(f"  culprit {cell.culprit}")
    if cell.report is not None:
        lines.append(f"  {folder / cell.report}")
    return lines
