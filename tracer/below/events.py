"""Guest ops and lower ops in one order: the events of a run, as NAME.lower holds them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tracer.below.clock import Moment
from tracer.below.op import LowerKind, LowerOp


@dataclass(frozen=True, slots=True)
class Sent:
    """A guest op was sent, ``time`` ns after the run began."""

    seq: int
    time: int


@dataclass(frozen=True, slots=True)
class Done:
    """A guest op was done, with an errno value (0 for success)."""

    seq: int
    time: int
    error: int


Event = Sent | Done | LowerOp


def joined(
    moments: Iterable[Moment], ops: Iterable[LowerOp], size: int | None = None
) -> Iterator[Event]:
    """Yield guest and lower ops in the order in which they happened, as far as the log tells.

    A lower op that was not whole in the log at a moment comes after it. ``size`` is the image
    file's size at the start, in bytes, if the log has no truncations: where a moment finds it
    larger than writes have made it, or smaller, a TRUNCATE comes before all that followed the
    moment before.
    """
    lower = iter(ops)
    number = 0
    upcoming = next(lower, None)
    for moment in moments:
        waiting = []
        reached = size or 0
        while upcoming is not None and upcoming.log_end <= moment.log:
            waiting.append(upcoming)
            if upcoming.kind in (LowerKind.WRITE, LowerKind.ZERO):
                reached = max(reached, upcoming.end)
            upcoming = next(lower, None)
        if size is not None and moment.image != reached:
            yield LowerOp(number, LowerKind.TRUNCATE, 0, moment.image)
            number += 1
        size = None if size is None else moment.image
        for op in waiting:
            yield _numbered(op, number)
            number += 1
        if moment.error is None:
            yield Sent(moment.seq, moment.time)
        else:
            yield Done(moment.seq, moment.time, moment.error)
    while upcoming is not None:
        yield _numbered(upcoming, number)
        number += 1
        upcoming = next(lower, None)


def _numbered(op: LowerOp, number: int) -> LowerOp:
    return LowerOp(number, op.kind, op.offset, op.length, fua=op.fua, digest=op.digest,
                   error=op.error, log_at=op.log_at, log_end=op.log_end)  # fmt: skip
