"""``--below``: what the driver does to its image file, beside the trace."""

from collections import Counter
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.guests import qemu_io
from tests.kit.peers import need, need_fuse
from tests.kit.powercuts import FLUSH, KIB, serial
from tests.kit.traces import read_trace
from tracer.below.events import Done, Sent
from tracer.below.op import LowerKind, LowerOp
from tracer.below.stream import read_lower
from tracer.op import Kind

pytestmark = pytest.mark.slow

GUEST = ("write -P 7 0 64k", "flush", "write -P 8 1M 4k", "discard 0 64k", "flush")


@pytest.mark.parametrize("driver", ["raw", "qcow2", "vmdk"])
def test_a_recording_has_the_lower_ops_in_order_with_the_guests(
    tmp_path: Path, driver: str
) -> None:
    need("qemu-nbd")
    need_fuse()
    arguments = ("record", "r.trace", "--driver", driver, "--size", "4M", "--below", "--")
    trace(*arguments, *qemu_io(*GUEST), cwd=tmp_path)
    recorded, ops = read_trace(tmp_path / "r.trace")
    header, found = read_lower(tmp_path / "r.lower")
    events = list(found)
    assert header.trace == recorded.header.id
    done = [event.seq for event in events if isinstance(event, Done)]
    assert sorted(done) == sorted(op.seq for op in ops)
    at = {
        (type(event), event.seq): number
        for number, event in enumerate(events)
        if isinstance(event, Sent | Done)
    }
    for op in ops:
        inside = events[at[Sent, op.seq] : at[Done, op.seq]]
        kinds = {event.kind for event in inside if isinstance(event, LowerOp)}
        if op.kind == Kind.WRITE:
            assert LowerKind.WRITE in kinds
    lower = Counter(event.kind for event in events if isinstance(event, LowerOp))
    assert lower[LowerKind.FLUSH] >= 2
    assert not list(tmp_path.glob(".*"))


def test_a_lower_stream_is_not_replaced_without_force(tmp_path: Path) -> None:
    need("qemu-nbd")
    need_fuse()
    (tmp_path / "r.lower").write_text("mine")
    arguments = ("record", "r.trace", "--driver", "raw", "--size", "1M", "--below")
    done = trace(*arguments, "--", *qemu_io("read 0 4k"), cwd=tmp_path, expect=200)
    assert "r.lower exists" in done.stderr
    assert (tmp_path / "r.lower").read_text() == "mine"
    assert not (tmp_path / "r.trace").exists()
    trace(*arguments, "--force", "--", *qemu_io("read 0 4k"), cwd=tmp_path)
    assert len(list(read_lower(tmp_path / "r.lower")[1])) >= 2


def test_a_replay_writes_the_lower_ops(tmp_path: Path) -> None:
    need("qemu-nbd")
    path = serial(tmp_path / "t.trace", [(Kind.WRITE, 0, 64 * KIB, 0), FLUSH])
    trace("replay", path.name, "--driver", "qcow2", "--below", cwd=tmp_path)
    header, events = read_lower(tmp_path / "t.lower")
    assert header.trace == read_trace(path)[0].header.id
    assert sum(isinstance(event, LowerOp) for event in events) > 4
    trace("replay", path.name, "--driver", "qcow2", "--below", cwd=tmp_path, expect=200)
    trace("replay", path.name, "--driver", "qcow2", "--below", "--force", cwd=tmp_path)


def test_there_is_nothing_below_a_server(tmp_path: Path) -> None:
    serial(tmp_path / "t.trace", [FLUSH])
    arguments = ("replay", "t.trace", "--driver", "nbd://localhost:1", "--below")
    done = trace(*arguments, cwd=tmp_path, expect=200)
    assert "no image file of ours" in done.stderr
