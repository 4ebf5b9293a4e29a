"""A trace's ops in the order in which they were submitted: the file has them as they completed."""

from collections.abc import Iterable, Iterator

from tracer.op import Op


def by_submission(ops: Iterable[Op]) -> Iterator[Op]:
    """Ops by seq. Takes memory for those that were in flight together."""
    waiting: dict[int, Op] = {}
    expected = 0
    for op in ops:
        waiting[op.seq] = op
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
    for seq in sorted(waiting):  # behind one that was in flight when the recorder was killed
        yield waiting[seq]
