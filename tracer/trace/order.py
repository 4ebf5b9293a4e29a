"""The order of ops: a trace has them in order of completion, these functions sort by submission.

They hold back ops only until all earlier seqs have come, so they take memory for the ops that were
in flight together. If a seq is missing (its op was in flight when the recorder was killed), all
later ops would have to wait until ``ops`` ends. So once PATIENCE ops wait, ``recorded`` says which
seqs come at all: ``Trace.recorded`` (by default that is not known).
"""

from collections.abc import Callable, Iterable, Iterator

from tracer.op import Op

PATIENCE = 1 << 14
"""Ops that may wait before the missing seqs are looked up, which reads the trace once more. The
recorder has at most 256 in flight. They take 8 MB."""

Recorded = Callable[[], bytes]
"""A function that returns, by seq, whether the trace has a record of that op."""


def numbered_by_seq(
    ops: Iterable[tuple[int, Op]], recorded: Recorded = bytes
) -> Iterator[tuple[int, Op]]:
    """Yield ops in order of submission, each with its number. ``ops`` must be in order of
    completion, as in a trace."""
    waiting: dict[int, tuple[int, Op]] = {}
    expected = 0
    there = b""
    for number, op in ops:
        waiting[op.seq] = number, op
        if len(waiting) > PATIENCE and not there:
            there = recorded()
        while True:
            if expected in waiting:
                yield waiting.pop(expected)
            elif not (waiting and expected < len(there) and not there[expected]):
                break
            expected += 1
    for seq in sorted(waiting):
        yield waiting[seq]


def with_completion_index(
    ops: Iterable[Op], recorded: Recorded = bytes
) -> Iterator[tuple[int, Op]]:
    """Yield ops in order of submission, each with its index (from 0) in order of completion. As
    ``numbered_by_seq``."""
    return numbered_by_seq(enumerate(ops), recorded)


def by_seq(ops: Iterable[Op], recorded: Recorded = bytes) -> Iterator[Op]:
    """Yield ops in order of submission. As ``numbered_by_seq``, without a number."""
    for _, op in with_completion_index(ops, recorded):
        yield op
