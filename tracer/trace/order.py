"""Ops by submission, of a trace that has them by completion."""

from collections.abc import Iterable, Iterator

from tracer.op import Op


def with_completion_index(ops: Iterable[Op]) -> Iterator[tuple[int, Op]]:
    """Ops in the order of their submission, for ops in the order of completion (a trace's order), each
    with its place in the latter, from 0.

    Takes memory for as many ops as separate an op's submission from its completion, so in practice for
    those that were in flight together; what follows a missing seq (of an op that was in flight when the
    recorder was killed) waits for the end.
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
    """The same, without the completion indices."""
    for _, op in with_completion_index(ops):
        yield op
