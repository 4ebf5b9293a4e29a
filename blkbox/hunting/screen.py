"""What a hunt shows: a live table on a terminal, a line for each fault, and a page at the end."""

from pathlib import Path
from typing import TYPE_CHECKING

from blkbox.hunting.folder import State
from tracer.progress import Board
from tracer.text import many, ops, printable, table

if TYPE_CHECKING:
    from rich.text import Text

MAX_REASON = 72
"""Characters of a reason in a table."""


class Screen(Board):
    """The screen of a hunt that runs."""

    def show(self, state: State) -> None:
        """Redraw the table, if it is time."""

        def text() -> "Text":
            from rich.text import Text

            return Text("\n".join(_tallies(state)))

        self.draw(text)


def page(state: State, folder: Path) -> str:
    """Return what a hunt has run and found, as text."""
    lines = [*_tallies(state), ""]
    for fault in state.faults:
        traces = many(fault.seen, "trace")
        lines += [
            f"{folder / fault.folder}",
            f"  {printable(fault.driver)}, seed {fault.seed}, after {fault.seconds:.0f} s; "
            f"shown by {traces}",
            f"  {printable(fault.reason)[:MAX_REASON]}",
        ]
        if fault.culprit is not None:
            lines.append(f"  culprit {fault.culprit}")
        if fault.small is not None:
            lines.append(f"  minimised to {ops(fault.small)}: small.trace, bug.sh, bug.py")
    if not state.faults:
        lines.append("nothing was found")
    for name, tally in state.targets.items():
        if tally.undecidable:
            traces = many(tally.undecidable, "trace")
            lines.append(f"{name}: {traces} could not be run: {printable(tally.why)[:MAX_REASON]}")
    return "\n".join(lines)


def _tallies(state: State) -> list[str]:
    """Return the table of what was run."""
    rows: list[tuple[str, ...]] = [("driver", "traces", "ops", "faulty")]
    rows += [
        (printable(name), f"{tally.seeds:,}", f"{tally.ops:,}", f"{tally.faulty:,}")
        for name, tally in state.targets.items()
    ]
    faults = many(len(state.faults), "distinct fault")
    summary = f"{faults} in {state.seconds:.0f} s, seeds {state.seed} to {state.next - 1}"
    return [table(rows, right=frozenset({1, 2, 3})), "", summary]
