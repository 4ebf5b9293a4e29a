"""Ops in the order of submission. The file has them as they completed."""

from collections.abc import Iterable, Iterator

from tracer.op import Op


def in_order(ops: Iterable[Op]) -> Iterator[Op]:
    """A trace's ops by seq. Takes memory for as many as separate an op's submission from its completion,
    so in practice for those that were in flight together (and for all that follow one that has no
    record, since that might still come)."""
    waiting: dict[int, Op] = {}
    expected = 0
    for op in ops:
        waiting[op.seq] = op
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
    for seq in sorted(waiting):
        yield waiting[seq]
