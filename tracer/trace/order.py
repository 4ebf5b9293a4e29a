"""The order of ops: a trace has them in order of completion, these functions sort by submission."""

from collections.abc import Iterable, Iterator

from tracer.op import Op


def with_completion_index(ops: Iterable[Op]) -> Iterator[tuple[int, Op]]:
    """Yield ops in order of submission, each with its index (from 0) in order of completion.

    ``ops`` must be in order of completion, as in a trace. Holds back ops only until all earlier
    seqs have come, so it takes memory for the ops that were in flight together. If a seq is missing
    (its op was in flight when the recorder was killed), all later ops wait until ``ops`` ends.
    """
    waiting: dict[int, tuple[int, Op]] = {}
    expected = 0
    for index, op in enumerate(ops):
        waiting[op.seq] = index, op
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
    for seq in sorted(waiting):
        yield waiting[seq]


def by_seq(ops: Iterable[Op]) -> Iterator[Op]:
    """Yield ops in order of submission. As ``with_completion_index``, without the index."""
    for _, op in with_completion_index(ops):
        yield op
