"""Recording over what an earlier recording left: nothing is lost unless the new one has begun."""

import json
import socket
import stat
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.guests import qemu_io
from tests.kit.peers import need
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.op import Kind

NEW = ("record", "t.trace", "--driver", "qcow2")
GUEST = qemu_io("write -P 2 0 4k")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The folder of an earlier recording."""
    need("qemu-nbd", "qemu-img", "qemu-io")
    trace(*NEW, "--size", "1M", "--", *qemu_io("write -P 1 0 64k"), cwd=tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
@pytest.mark.parametrize(
    ("how", "code"),
    [
        (["--", "/no/such/guest", "{nbd}"], 200),
        (["--listen", "unix:/no/such/folder/s", "--", "true", "{nbd}"], 200),
        (["--tls-certificates", "/no/such/folder", "--", "true", "{nbd}"], 200),
        (["--driver", "broken.toml", "--", "true", "{nbd}"], 125),
        (["--driver", "absent.toml", "--", "true", "{nbd}"], 125),
    ],
)
def test_a_recording_that_does_not_start_leaves_the_earlier_one(
    earlier: Path, how: list[str], code: int, fresh: tuple[str, ...]
) -> None:
    (earlier / "broken.toml").write_text(
        'create = ["touch", "{image}"]\nserve = ["false", "{socket}"]\n'
    )
    (earlier / "absent.toml").write_text(
        'create = ["touch", "{image}"]\nserve = ["/no/such", "{socket}"]\n'
    )
    before = contents(earlier)
    trace(*NEW, "--force", *fresh, *how, cwd=earlier, expect=code)
    assert contents(earlier) == before


def test_a_port_that_is_taken_leaves_the_earlier_one(earlier: Path) -> None:
    before = contents(earlier)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        trace(*NEW, "--force", "--listen", f"tcp:127.0.0.1:{port}", cwd=earlier, expect=200)
    assert contents(earlier) == before


def test_one_that_starts_replaces_it(earlier: Path) -> None:
    done = trace(*NEW, "--force", "--json", "--", *GUEST, cwd=earlier)
    assert entries(earlier) == ["t.payloads", "t.raw", "t.test.qcow2", "t.trace"]
    assert json.loads(done.stdout)["made"] == ["t.trace", "t.payloads"]
    opened, ops = read_trace(earlier / "t.trace")
    assert opened.header.start_image == "recorded"
    assert [op.length for op in ops if op.kind == Kind.WRITE] == [4096]
    trace("replay", "t.trace", "--driver", "raw", cwd=earlier)


def test_digests_alone_leave_no_payloads_behind(earlier: Path) -> None:
    trace(*NEW, "--force", "--payloads", "hash", "--", *GUEST, cwd=earlier)
    assert "t.payloads" not in entries(earlier)
    trace("verify", "t.trace", cwd=earlier)


def test_images_of_another_size_are_not_used_in_silence(earlier: Path) -> None:
    before = contents(earlier)
    told = trace(*NEW, "--force", "--size", "2M", "--", *GUEST, cwd=earlier, expect=200).stderr
    assert told == (
        "trace: t.raw has a disk of 1048576 bytes, not of 2097152: leave out --size to use that "
        "disk, or give --fresh to make new images\n"
    )
    assert contents(earlier) == before


def test_fresh_images(earlier: Path) -> None:
    done = trace(*NEW, "--force", "--fresh", "--size", "2M", "--json", "--", *GUEST, cwd=earlier)
    assert json.loads(done.stdout)["made"] == ["t.trace", "t.payloads", "t.raw", "t.test.qcow2"]
    assert entries(earlier) == ["t.payloads", "t.raw", "t.test.qcow2", "t.trace"]
    assert (earlier / "t.raw").stat().st_size == 2 << 20
    assert read_trace(earlier / "t.trace")[0].header.start_image == "blank"


def test_what_holds_a_guests_data_is_private(earlier: Path) -> None:
    trace("checkout", "t.trace", "-o", "at.raw", cwd=earlier)
    trace("strip", "t.trace", "-o", "s.trace", cwd=earlier)
    trace("cut", "t.trace", "--to", "0", "-o", "c.trace", cwd=earlier)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in earlier.iterdir()}
    assert set(modes.values()) == {0o600}, modes
