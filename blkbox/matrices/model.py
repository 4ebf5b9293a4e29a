"""What a matrix is: its options, traces, builds and cells. ``matrix.json`` has the same."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Struct

from tracer.errors import Exit
from tracer.verdict import BAD, VerdictKind

SCHEMA = 1
"""The version of the JSON."""

SYMBOLS: dict[VerdictKind | None, str] = {
    VerdictKind.CLEAN: ".",
    VerdictKind.DAMAGED: "D",
    VerdictKind.FAILED: "F",
    VerdictKind.UNDECIDABLE: "?",
    None: "-",
}
"""What stands for a verdict in a table: ASCII, for every terminal. None: not run."""

WORST = (VerdictKind.DAMAGED, VerdictKind.FAILED, VerdictKind.UNDECIDABLE, None, VerdictKind.CLEAN)
"""The verdicts, the worst first."""

LIMIT = 3600.0
"""Seconds that a cell may take by default: a driver's command that hangs must end some time."""


@dataclass(frozen=True, slots=True)
class MatrixOptions:
    """What the user asked a matrix to do."""

    traces: Sequence[str]
    """Files, folders, globs, TOML manifests, URLs."""
    drivers: Sequence[str]
    folder: Path
    jobs: int
    dask: str | None = None
    """The address of a Dask scheduler; None: processes on this machine."""
    seeds: range | None = None
    """The seeds of traces to generate."""
    ops: int = 2000
    """Ops in each generated trace."""
    size: int = 64 << 20
    """Bytes of the disks of generated traces."""
    profile: str = "default"
    replay: Mapping[str, Any] = field(default_factory=dict)
    """More arguments for ``blkbox.replay``."""
    limit: float = LIMIT
    """Seconds that a cell may take."""
    force: bool = False
    """Whether the data of a server or a block device may be overwritten."""


class TraceRow(Struct, kw_only=True):
    """A trace of a matrix."""

    name: str
    where: str | None
    """Its path or URL; None if it is generated."""
    seed: int | None = None
    """The seed that it is generated from."""
    digest: str = ""
    """What tells it from others: of its content, or of what it is generated from."""
    size: int = 0
    """Bytes of the disk."""
    ops: int = 0
    written: int = 0
    """Bytes that a run may write to an image, at most."""
    stamp: list[int] = []
    """The file's size in bytes and its time of change in ns, if it is a local one."""
    problem: str = ""
    """Why it cannot be read."""


class BuildRow(Struct, kw_only=True):
    """A build of a matrix."""

    name: str
    """What ``--driver`` says."""
    fingerprint: str | None = None
    """What tells it from others: of the programs and libraries that it loads. None: it has none,
    and its cells are run every time."""
    files: int = 0
    """How many files the fingerprint is of."""
    alone: bool = False
    """Whether it has one disk, so that its cells run one at a time."""
    problem: str = ""
    """Why it cannot be run."""


class CellRow(Struct, kw_only=True):
    """What came of one trace on one build."""

    trace: str
    build: str
    key: str = ""
    """The name of its files in the matrix's folder."""
    verdict: VerdictKind | None = None
    """None: it was not run."""
    reason: str = ""
    symptom: str | None = None
    culprit: str | None = None
    """``#17 write``."""
    damaged: int = 0
    """Damaged sectors."""
    seconds: float = 0.0
    """How long it took."""
    kept: bool = False
    """Whether the result is that of an earlier run."""
    begun: int = 0
    """How often it was begun in this run. More than once: a worker was lost."""
    report: str | None = None
    """Its page, in the matrix's folder."""


class Matrix(Struct, kw_only=True):
    """All that a matrix knows. Cells are in the order of the traces, and of the builds for each."""

    traces: list[TraceRow]
    builds: list[BuildRow]
    cells: list[CellRow] = []
    options: dict[str, Any] = {}
    """The options of the replays that are not the default."""
    jobs: int = 0
    seconds: float = 0.0
    """How long this run took."""
    interrupted: str | None = None
    """The signal that ended it early."""
    schema: int = SCHEMA

    @property
    def tally(self) -> "Counter[VerdictKind | None]":
        """How many cells have each verdict."""
        return Counter(cell.verdict for cell in self.cells)

    @property
    def exit_code(self) -> Exit:
        """0 if all cells are clean, 1 if any is bad, otherwise 125."""
        tally = self.tally
        if any(tally[kind] for kind in BAD):
            return Exit.BAD_DRIVER
        return Exit.CLEAN if set(tally) == {VerdictKind.CLEAN} else Exit.UNDECIDABLE

    def rows(self) -> list[tuple[BuildRow, list[CellRow]]]:
        """Return each build with its cells, in the order of the traces."""
        many = len(self.builds)
        return [(build, self.cells[at::many]) for at, build in enumerate(self.builds)]

    def columns(self) -> list[tuple[TraceRow, list[CellRow]]]:
        """Return each trace with its cells, in the order of the builds."""
        many = len(self.builds)
        return [
            (trace, self.cells[at * many : (at + 1) * many]) for at, trace in enumerate(self.traces)
        ]
