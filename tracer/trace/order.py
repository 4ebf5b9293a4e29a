"""The order of ops: a trace has them in order of completion, these functions sort by submission."""

from collections.abc import Iterable, Iterator

from tracer.op import Op


def numbered_by_seq(ops: Iterable[tuple[int, Op]]) -> Iterator[tuple[int, Op]]:
    """Yield ops in order of submission, each with its number.

    ``ops`` must be in order of completion, as in a trace. Holds back ops only until all earlier
    seqs have come, so it takes memory for the ops that were in flight together. If a seq is missing
    (its op was in flight when the recorder was killed), all later ops wait until ``ops`` ends.
    """
    waiting: dict[int, tuple[int, Op]] = {}
    expected = 0
    for number, op in ops:
        waiting[op.seq] = number, op
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
    for seq in sorted(waiting):
        yield waiting[seq]


def with_completion_index(ops: Iterable[Op]) -> Iterator[tuple[int, Op]]:
    """Yield ops in order of submission, each with its index (from 0) in order of completion. As
    ``numbered_by_seq``."""
    return numbered_by_seq(enumerate(ops))


def by_seq(ops: Iterable[Op]) -> Iterator[Op]:
    """Yield ops in order of submission. As ``numbered_by_seq``, without a number."""
    for _, op in with_completion_index(ops):
        yield op
