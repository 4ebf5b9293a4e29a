"""``--below``: what the driver does to its image file, beside the trace."""

from collections import Counter
from pathlib import Path

import pytest

from replay.below.states.points import Points
from tests.kit.command import trace
from tests.kit.guests import qemu_io
from tests.kit.mounts import small
from tests.kit.peers import need, need_fuse
from tests.kit.powercuts import FLUSH, KIB, serial
from tests.kit.traces import read_trace
from tracer.below.events import Done, Sent
from tracer.below.op import LowerKind, LowerOp
from tracer.below.stream import Store, read_lower
from tracer.errors import Exit
from tracer.op import NO_PAYLOAD, NO_TIME, Kind

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
    times = [event.time for event in events if isinstance(event, LowerOp)]
    assert times == sorted(times)
    assert times[-1] < NO_TIME
    lower = Counter(event.kind for event in events if isinstance(event, LowerOp))
    assert lower[LowerKind.FLUSH] >= 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("driver", ["raw", "qcow2", "vmdk", "vhdx"])
def test_the_recorded_bytes_of_all_lower_ops_make_the_image(tmp_path: Path, driver: str) -> None:
    need("qemu-nbd")
    need_fuse()
    arguments = ("record", "r.trace", "--driver", driver, "--size", "4M", "--below", "--")
    trace(*arguments, *qemu_io(*GUEST), cwd=tmp_path)
    (image,) = tmp_path.glob(f"r.test*.{driver}*")
    assert built(tmp_path, "r.trace", "last") == image.read_bytes()
    header, found = read_lower(tmp_path / "r.lower")
    assert header.store is Store.TRACE
    writes = [one for one in found if isinstance(one, LowerOp) and one.kind is LowerKind.WRITE]
    guest = {op.payload for op in read_trace(tmp_path / "r.trace")[1]}
    # the driver passes on what the guest wrote: that is stored once
    assert guest & {one.payload for one in writes} - {NO_PAYLOAD}


def test_without_payloads_there_is_no_state(tmp_path: Path) -> None:
    need("qemu-nbd")
    need_fuse()
    arguments = ("--driver", "qcow2", "--size", "4M", "--below", "--payloads", "hash", "--")
    trace("record", "r.trace", *arguments, *qemu_io(*GUEST), cwd=tmp_path)
    wrong = trace("checkout", "r.trace", "--state", "0", "-o", "x", cwd=tmp_path, expect=201)
    assert "r.lower has digests alone" in wrong.stderr
    trace("replay", "r.trace", "--driver", "qcow2", "--below", "--force", cwd=tmp_path)
    assert built(tmp_path, "r.trace", "first")[:4] == b"QFI\xfb"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--state", "9999999"), "has states 0 to"),
        (("--state", "0", "--missing", "a"), "give numbers of lower ops"),
        (("--state", "0", "--missing", "3"), "lower op 3 cannot be missing"),
        (("--state", "0", "--at", "3"), "give one of them"),
        (("--missing", "3"), "need --state"),
    ],
)
def test_a_state_that_is_none(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", [(Kind.WRITE, 0, 4096, 0)])
    trace("replay", "t.trace", "--driver", "raw", "--below", cwd=tmp_path)
    wrong = trace("checkout", "t.trace", *arguments, "-o", "x", cwd=tmp_path, expect=200)
    assert says in wrong.stderr
    assert not (tmp_path / "x").exists()


def test_the_lower_ops_are_not_replaced_by_the_image(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", [(Kind.WRITE, 0, 4096, 0)])
    trace("replay", "t.trace", "--driver", "raw", "--below", cwd=tmp_path)
    for name in ("t.lower", "t.lower.payloads"):
        before = (tmp_path / name).read_bytes()
        arguments = ("--state", "0", "-o", name, "--force")
        wrong = trace("checkout", "t.trace", *arguments, cwd=tmp_path, expect=200)
        assert "cannot be both the image and the lower ops" in wrong.stderr
        assert (tmp_path / name).read_bytes() == before


def test_on_a_full_disk_earlier_lower_ops_stay() -> None:
    need("qemu-nbd")
    with small(512) as folder:
        path = serial(folder / "t.trace", [(Kind.WRITE, 0, 4 * KIB, 0)])
        below = ("replay", path.name, "--driver", "raw", "--below")
        trace(*below, cwd=folder)
        files = {name: (folder / name).read_bytes() for name in ("t.lower", "t.lower.payloads")}
        serial(path, [(Kind.WRITE, 0, 1024 * KIB, 0)])
        full = trace(*below, "--force", cwd=folder, expect=Exit.STORAGE)
        assert "t.lower" in full.stderr
        assert {name: (folder / name).read_bytes() for name in files} == files
        assert not list(folder.glob(".blkbox*"))


def built(folder: Path, name: str, which: str) -> bytes:
    """The image of the first or the last state in which nothing is missing."""
    ops = [one for one in read_lower(folder / Path(name).with_suffix(".lower"))[1]
           if isinstance(one, LowerOp)]  # fmt: skip
    points = Points(ops)
    number = points.number(0 if which == "first" else len(ops), 0)
    arguments = ("--state", str(number), "-o", "built.image", "--force")
    trace("checkout", name, *arguments, cwd=folder)
    return (folder / "built.image").read_bytes()


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


def test_verify_and_pack_know_the_bytes_of_lower_ops(tmp_path: Path) -> None:
    need("qemu-nbd")
    need_fuse()
    arguments = ("record", "r.trace", "--driver", "qcow2", "--size", "4M", "--below", "--")
    made = trace(*arguments, *qemu_io(*GUEST), cwd=tmp_path).stdout
    assert "r.lower" in made
    image = (tmp_path / "r.test.qcow2").read_bytes()
    assert "payloads of lower ops" in trace("verify", "r.trace", cwd=tmp_path).stdout
    trace("pack", ".", cwd=tmp_path)
    trace("verify", "r.trace", cwd=tmp_path)
    assert built(tmp_path, "r.trace", "last") == image
    for path in (tmp_path / "payload-blocks").rglob("*"):
        if path.is_file():
            path.unlink()
    wrong = trace("verify", "r.trace", cwd=tmp_path, expect=201).stdout
    assert "of lower ops missing or damaged" in wrong
