"""The rules about records together, for arrays: the twin of ``Order`` in tracer/trace/valid.py.

Seqs that come one after another make a run. Each block of a trace gives a few runs, and the runs
of all blocks are merged. So a whole trace takes memory for its gaps alone.
"""

from dataclasses import dataclass, field

import numpy as np

from analysis.frames.layout import Array
from tracer.trace.records import MAX_INT, Tag
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
    restarted: int = 0
    """No later op may have a lower seq than this."""

    def add(self, more: "Block") -> bool:
        """Add a block. Return False if the records are not valid together."""
        start, end = more.rows[:2]
        if len(start) and start[0] < self.restarted:
            return False
        if len(self.rows[1]) and self.rows[1][-1] >= more.notes.below:
            return False
        if not self._have(more.notes.decided):
            return False
        self.restarted = max(self.restarted, more.notes.restarted)
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

    def _have(self, seqs: Array) -> bool:
        """Whether all these seqs have come."""
        start, end = self.rows[:2]
        if not len(start):
            return not len(seqs)
        at = np.searchsorted(start, seqs, "right") - 1
        return bool(((at >= 0) & (seqs <= end[at])).all())


@dataclass(frozen=True, slots=True)
class Notes:
    """What the settles and restarts of a block demand of the blocks around it."""

    decided: Array = field(default_factory=lambda: np.empty(0, np.int64))
    """Seqs that must have come before the block."""
    below: int = MAX_INT
    """All seqs before the block must be lower than this."""
    restarted: int = 0
    """All seqs after the block must be at least this."""


NOTHING = Notes()


def notes_of(tag: Array, seq: Array) -> Notes | None:
    """Return the notes of a block, from the tags and seqs of all its records in the order of the
    file. None: the records are not valid together."""
    ops = np.flatnonzero(tag == Tag.OP)
    came = seq[ops]
    restarts = np.flatnonzero(tag == Tag.RESTART)
    if len(restarts):
        # how many ops come before each restart
        before = np.searchsorted(ops, restarts)
        highest = np.append(-1, np.maximum.accumulate(came))
        lowest = np.append(np.minimum.accumulate(came[::-1])[::-1], MAX_INT)
        borders = seq[restarts]
        if (highest[before] >= borders).any() or (lowest[before] < borders).any():
            return None
    settles = np.flatnonzero(tag == Tag.SETTLE)
    decided = seq[settles]
    if len(settles) and len(came):
        order = np.argsort(came, kind="stable")
        at = np.searchsorted(came[order], decided).clip(max=len(came) - 1)
        known = (came[order][at] == decided) & (ops[order][at] < settles)
        decided = decided[~known]
    return Notes(
        decided,
        int(seq[restarts].min(initial=MAX_INT)),
        int(seq[restarts].max(initial=0)),
    )


@dataclass(frozen=True, slots=True)
class Block:
    """The runs of the ops in one block of a trace."""

    count: int
    ahead: int
    """The most by which a seq exceeds the number of ops before it in the block."""
    rows: Rows
    notes: Notes = NOTHING


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
