"""What got better or worse from one matrix to another: verdicts, damage, latency."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blkbox.matrices.folder import kept, load
from blkbox.matrices.model import CellRow, Matrix
from tracer.errors import Exit, UsageError
from tracer.verdict import BAD, VerdictKind

Samples = list[npt.NDArray[np.float64]]
"""How long the driver took for ops of a kind, in ns: an array for each trace."""

SLOWER = 1.1
"""A build is slower if the whole interval of the ratio of its medians is above this, and faster if
it is below its inverse: repeated runs of one build on a busy machine stay within it."""

RESAMPLES = 1000
"""Resamples of the bootstrap: the ends of a 95 % interval are then the 25th from either end."""

MOST = 2000
"""Ops in a resample: with more, the interval would get no narrower, since traces differ more."""

LEAST = 20
"""Ops of a kind on either side: with fewer, nothing is said."""


@dataclass(frozen=True, slots=True)
class Change:
    """A cell whose verdict or damage differs."""

    trace: str
    build: str
    how: str
    """better, worse, or undecided: if one side could not be judged."""
    before: VerdictKind | None
    after: VerdictKind | None
    damaged_before: int
    damaged_after: int
    reason: str
    """Of the side that is worse."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How the latency of a build's ops of a kind changed."""

    build: str
    kind: str
    ops: int
    """Ops in the smaller of both samples."""
    before_ns: float
    """The medians."""
    after_ns: float
    ratio: float
    low: float
    """The ends of the ratio's 95 % interval."""
    high: float

    @property
    def how(self) -> str:
        """slower, faster, or alike."""
        if self.low > SLOWER:
            return "slower"
        return "faster" if self.high < 1 / SLOWER else "alike"


@dataclass(slots=True)
class Comparison:
    """What differs between two matrices."""

    a: str
    b: str
    cells: int = 0
    """Cells that both have."""
    changes: list[Change] = field(default_factory=list)
    latency: list[Ratio] = field(default_factory=list)
    only_a: list[str] = field(default_factory=list)
    """Traces and builds that one of them has."""
    only_b: list[str] = field(default_factory=list)
    schema: int = 1

    @property
    def worse(self) -> bool:
        """Whether a verdict, the damage or a latency got worse."""
        return any(change.how == "worse" for change in self.changes) or any(
            ratio.how == "slower" for ratio in self.latency
        )

    @property
    def exit_code(self) -> Exit:
        """1 if anything got worse."""
        return Exit.DIFFERENT if self.worse else Exit.CLEAN


@dataclass(frozen=True, slots=True)
class Pair:
    """A build on both sides, with the times of its ops by kind. The names differ if each matrix has
    one build."""

    a: str
    b: str
    times: dict[str, tuple[Samples, Samples]]


def compare(a: Path, b: Path) -> tuple[Comparison, list[Pair]]:
    """Compare two matrices by the names of traces and builds. If each has one build, these are
    compared, whatever their names. Raises UsageError."""
    left, right = load(a), load(b)
    result = Comparison(str(a), str(b))
    names = _builds(left, right)
    traces = [row.name for row in left.traces if row.name in {one.name for one in right.traces}]
    result.only_a, result.only_b = _only(left, right, names), _only(right, left, names)
    if not names or not traces:
        raise UsageError(f"{a} and {b} have no trace and build in common")
    cells_a, cells_b = _by_place(left), _by_place(right)
    pairs = []
    for name_a, name_b in names:
        both = [(cells_a[trace, name_a], cells_b[trace, name_b]) for trace in traces]
        result.cells += len(both)
        result.changes += [found for one, other in both if (found := _change(one, other))]
        pairs.append(Pair(name_a, name_b, _times(a, b, both)))
        result.latency += list(_ratios(pairs[-1]))
    return result, pairs


def _builds(left: Matrix, right: Matrix) -> list[tuple[str, str]]:
    names = [row.name for row in left.builds]
    others = {row.name for row in right.builds}
    if len(names) == len(others) == 1:
        return [(names[0], others.pop())]
    return [(name, name) for name in names if name in others]


def _only(one: Matrix, other: Matrix, pairs: list[tuple[str, str]]) -> list[str]:
    """Return what one matrix has alone."""
    paired = {name for pair in pairs for name in pair}
    traces = {row.name for row in other.traces}
    return [row.name for row in one.traces if row.name not in traces] + [
        row.name for row in one.builds if row.name not in paired
    ]


def _by_place(matrix: Matrix) -> dict[tuple[str, str], CellRow]:
    return {(cell.trace, cell.build): cell for cell in matrix.cells}


def _change(a: CellRow, b: CellRow) -> Change | None:
    if (a.verdict, a.damaged) == (b.verdict, b.damaged):
        return None
    unknown = {VerdictKind.UNDECIDABLE, None}
    if a.verdict in unknown or b.verdict in unknown:
        if a.verdict is b.verdict:
            return None
        how = "undecided"
    else:
        rank_a, rank_b = ((cell.verdict in BAD, cell.damaged) for cell in (a, b))
        if rank_a == rank_b:
            return None  # damaged and failed, with as many sectors
        how = "worse" if rank_b > rank_a else "better"
    reason = a.reason if how == "better" else b.reason
    return Change(b.trace, b.build, how, a.verdict, b.verdict, a.damaged, b.damaged, reason)


def _times(
    a: Path, b: Path, both: list[tuple[CellRow, CellRow]]
) -> dict[str, tuple[Samples, Samples]]:
    """Return the times of ops by kind, of the traces that were clean on both sides: after a fault a
    driver may do anything."""
    found: dict[str, tuple[Samples, Samples]] = {}
    for one, other in both:
        if one.verdict is other.verdict is VerdictKind.CLEAN:
            in_a, in_b = _latency(a, one), _latency(b, other)
            for kind in in_a.keys() & in_b.keys():
                sides = found.setdefault(kind, ([], []))
                sides[0].append(in_a[kind])
                sides[1].append(in_b[kind])
    return dict(sorted(found.items()))


def _latency(path: Path, cell: CellRow) -> dict[str, npt.NDArray[np.float64]]:
    found = kept(path if path.is_dir() else path.parent, cell.key)
    latency = found[1].get("latency") if found is not None else None
    if not isinstance(latency, dict):
        return {}
    return {
        str(kind): np.array(values, dtype=np.float64)
        for kind, values in latency.items()
        if isinstance(values, list) and values and all(type(ns) is int for ns in values)
    }


def _ratios(pair: Pair) -> Iterator[Ratio]:
    """Yield the ratio of the medians of each kind."""
    for kind, (before, after) in pair.times.items():
        ops = min(sum(map(len, before)), sum(map(len, after)))
        if ops < LEAST:
            continue
        medians = [float(np.median(np.concatenate(side))) for side in (before, after)]
        if min(medians) <= 0:
            continue
        low, high = interval(before, after)
        ratio = medians[1] / medians[0]
        yield Ratio(pair.b, kind, ops, medians[0], medians[1], ratio, low, high)


def interval(before: Samples, after: Samples) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of medians, by a bootstrap: traces are drawn with
    replacement, the same on both sides, and then ops of these. The same samples give the same
    interval."""
    dice = np.random.default_rng(0)
    many = len(before)
    each = max(MOST // many, 1)
    ratios = []
    for _ in range(RESAMPLES):
        chosen = dice.integers(0, many, many)
        medians = [
            np.median(np.concatenate([
                dice.choice(side[index], min(each, len(side[index]))) for index in chosen
            ]))
            for side in (before, after)
        ]  # fmt: skip
        ratios.append(medians[1] / max(medians[0], 1.0))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)
