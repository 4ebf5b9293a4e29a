"""What is durable at which moment."""

from pathlib import Path

from replay.below.promises import NEVER, Promises
from tests.kit.powercuts import FLUSH, Request, serial
from tracer.below.events import Done, Event, Sent
from tracer.below.op import LowerKind, LowerOp
from tracer.op import Flag, Kind
from tracer.trace.data import TraceWithData

WRITE: Request = (Kind.WRITE, 0, 4096, 0)
FUA: Request = (Kind.WRITE, 8192, 4096, int(Flag.FUA))


def lower(number: int) -> LowerOp:
    return LowerOp(number, LowerKind.WRITE, 0, 512)


def promises(
    folder: Path, requests: list[Request], events: list[Event], *, through: bool = False
) -> Promises:
    with TraceWithData(serial(folder / "t.trace", requests)) as source:
        return Promises(source, events, through=through, start_ops=0)


def test_a_flush_makes_durable_what_was_done_before_it_was_sent(tmp_path: Path) -> None:
    events = [
        Sent(0, 0), lower(0), Done(0, 1, 0),
        Sent(1, 2), Sent(2, 3), lower(1), Done(1, 4, 0), lower(2), Done(2, 5, 0), lower(3),
    ]  # fmt: skip
    found = promises(tmp_path, [WRITE, WRITE, FLUSH], events)
    first, second = found.changes
    assert (first.sent, first.done, first.durable) == (0, 1, 3)
    assert first.promise is not None
    assert first.promise.seq == 2
    assert (second.sent, second.done, second.durable) == (1, 2, NEVER)
    assert found.flushed == [3]


def test_fua_makes_its_own_op_durable(tmp_path: Path) -> None:
    events = [Sent(0, 0), Done(0, 1, 0), Sent(1, 2), lower(0), Done(1, 3, 0)]
    found = promises(tmp_path, [WRITE, FUA], events)
    assert [change.durable for change in found.changes] == [NEVER, 1]


def test_a_flush_that_failed_promises_nothing(tmp_path: Path) -> None:
    events = [Sent(0, 0), Done(0, 1, 0), Sent(1, 2), Done(1, 3, 5)]
    assert promises(tmp_path, [WRITE, FLUSH], events).changes[0].durable == NEVER


def test_an_op_that_failed_is_never_promised(tmp_path: Path) -> None:
    events = [Sent(0, 0), Done(0, 1, 5), Sent(1, 2), Done(1, 3, 0)]
    found = promises(tmp_path, [WRITE, FLUSH], events)
    assert [(one.sent, one.durable) for one in found.changes] == [(0, NEVER)]


def test_writethrough_makes_each_op_durable(tmp_path: Path) -> None:
    events = [Sent(0, 0), lower(0), Done(0, 1, 0)]
    assert promises(tmp_path, [WRITE], events, through=True).changes[0].durable == 1


def test_changes_are_found_by_place_and_moment(tmp_path: Path) -> None:
    far = (Kind.WRITE, 1 << 20, 4096, 0)
    events = [Sent(0, 0), lower(0), Done(0, 1, 0), Sent(1, 2), lower(1), Sent(2, 3)]
    found = promises(tmp_path, [WRITE, far, WRITE], events)
    assert [one.op.seq for one in found.over(0, 512, 9)] == [0, 2]
    assert [one.op.seq for one in found.over(0, 512, 1)] == [0]
    assert list(found.over(4096, 8192, 9)) == []
    assert [one.op.seq for one in found.over(0, 2 << 20, 1)] == [0, 1]
    assert found.in_flight(2) == [1, 2]
