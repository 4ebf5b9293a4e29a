"""The rules about ops together, for arrays: the twin of ``Order`` in tracer/trace/valid.py.

Seqs that come one after another make a run. Each block of a trace gives a few runs, and the runs
of all blocks are merged. So a whole trace takes memory for its gaps alone.
"""

from dataclasses import dataclass, field

import numpy as np

from analysis.frames.layout import Array
from tracer.trace.valid import MAX_MISSING

Rows = tuple[Array, Array, Array, Array]
"""Runs, ascending: the first seq of each, the last, and when these two ops were submitted."""


def _nothing() -> Rows:
    return (np.empty(0, np.int64),) * 4


@dataclass(slots=True)
class Runs:
    """The runs of the ops so far."""

    count: int = 0
    rows: Rows = field(default_factory=_nothing)

    def add(self, more: "Block") -> bool:
        """Add a block. Return False if the ops are not valid together."""
        if more.ahead >= self.count + MAX_MISSING:
            return False
        self.count += more.count
        rows = [np.concatenate(pair) for pair in zip(self.rows, more.rows, strict=True)]
        order = np.argsort(rows[0], kind="stable")
        start, end, first, last = (numbers[order] for numbers in rows)
        if (start[1:] <= end[:-1]).any() or (first[1:] < last[:-1]).any():
            return False
        gaps = start[1:] != end[:-1] + 1
        begins, ends = np.append(True, gaps), np.append(gaps, True)
        if len(start):
            self.rows = start[begins], end[ends], first[begins], last[ends]
        return True


@dataclass(frozen=True, slots=True)
class Block:
    """The runs of the ops in one block of a trace."""

    count: int
    ahead: int
    """The most by which a seq exceeds the number of ops before it in the block."""
    rows: Rows


def runs_of(seq: Array, submitted: Array) -> Block | None:
    """Return the runs of some ops in the order of the file. None: they are not valid together."""
    if not len(seq):
        return Block(0, -1, _nothing())
    places = np.arange(1, len(seq) + 1)
    ahead = int((seq - places).max())
    steps = np.diff(seq)
    if (steps <= 0).any():
        order = np.argsort(seq, kind="stable")
        seq, submitted = seq[order], submitted[order]
        steps = np.diff(seq)
        if (steps == 0).any():
            return None
    if (submitted[1:] < submitted[:-1]).any():
        return None
    gaps = steps != 1
    begins, ends = np.append(True, gaps), np.append(gaps, True)
    return Block(len(places), ahead, (seq[begins], seq[ends], submitted[begins], submitted[ends]))
