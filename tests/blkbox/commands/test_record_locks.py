"""Two recordings of the same files: the second is refused, and the first notices nothing."""

import signal
from pathlib import Path

import pytest

from tests.kit.command import finish, recording, trace
from tests.kit.guests import qemu_io
from tests.kit.peers import need, peer
from tests.kit.system import entries, wait_until
from tests.kit.traces import kinds, read_trace
from tracer.errors import Exit

FIRST = ("a.trace", "--size", "1M", "--raw", "good.img", "--image", "test.img")

SECOND = {
    "a.trace": "a.trace",
    "a.trace --force": "a.trace",
    "l.trace --force --raw n.img --image m.img": "l.trace",
    "h.trace --force --raw n.img --image m.img": "h.trace",
    "a.x --force --raw n.img --image m.img": "a.payloads",
    "a.x --payloads hash --force --raw n.img --image m.img": "a.payloads",
    "b.trace --raw good.img": "good.img",
    "b.trace --raw l.img": "l.img",
    "b.trace --raw h.img": "h.img",
    "b.trace --raw test.img": "test.img",
    "b.trace --image test.img": "test.img",
    "b.trace --image good.img": "good.img",
}
"""What the second recording is to use, and the file that it is refused for."""


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_second_recording_is_refused_before_it_touches_anything(
    tmp_path: Path, driver: str
) -> None:
    need("qemu-nbd", "qemu-img")
    with recording(*FIRST, "--driver", driver, cwd=tmp_path) as (process, uri):
        empty = (tmp_path / "a.payloads").stat().st_size
        peer(*qemu_io("write -P 1 0 64k")[:-1], uri)
        wait_until(lambda: (tmp_path / "a.payloads").stat().st_size > empty)
        (tmp_path / "l.trace").symlink_to("a.trace")
        (tmp_path / "h.trace").hardlink_to(tmp_path / "a.trace")
        (tmp_path / "l.img").symlink_to("good.img")
        (tmp_path / "h.img").hardlink_to(tmp_path / "good.img")
        before = content(tmp_path)
        for words, busy in SECOND.items():
            argv = ["record", *words.split(), "--size", "1M", "--driver", driver, "--", "true"]
            done = trace(*argv, cwd=tmp_path, expect=Exit.USAGE)
            assert done.stderr == f"trace: {busy} is in use by another recording\n"
            assert content(tmp_path) == before, words
        trace("replay", "a.trace", "--driver", "raw", cwd=tmp_path)  # reading it is fine
        peer(*qemu_io("read -P 1 0 64k", "write -P 2 64k 64k")[:-1], uri)
        code, out, err = finish(process)
    assert code == Exit.CLEAN, out + err
    assert kinds(read_trace(tmp_path / "a.trace")[1]).count("write") == 2
    trace("verify", "a.trace", cwd=tmp_path)


def test_locks_go_with_their_recorder(tmp_path: Path) -> None:
    options = (*FIRST, "--driver", "raw")
    with recording(*options, cwd=tmp_path) as (process, _):
        finish(process, signal.SIGKILL)
    trace("record", *options, "--force", "--", *qemu_io("write 0 4k"), cwd=tmp_path)


def test_a_refused_recording_removes_what_it_had_made(tmp_path: Path) -> None:
    with recording(*FIRST, "--driver", "raw", cwd=tmp_path) as (process, _):
        before = entries(tmp_path)
        options = ["b.trace", "--image", "test.img", "--size", "1M", "--driver", "raw"]
        trace("record", *options, "--", "true", cwd=tmp_path, expect=Exit.USAGE)
        assert entries(tmp_path) == before
        finish(process)


def test_two_names_of_one_file_in_one_recording(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(bytes(1 << 20))
    (tmp_path / "b.img").hardlink_to(tmp_path / "a.img")
    options = ["t.trace", "--raw", "a.img", "--image", "b.img", "--driver", "raw"]
    done = trace("record", *options, "--", "true", cwd=tmp_path, expect=Exit.USAGE)
    assert done.stderr == ("trace: b.img and a.img are the same file: give each another name\n")
