"""``trace serve``, with real clients."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

import blkbox
from tests.kit.command import finish, trace
from tests.kit.guests import nbdsh
from tests.kit.peers import background, need, peer
from tests.kit.system import entries
from tracer.errors import UsageError

GUEST = ("write -P 1 0 64k", "write -P 2 1M 128k", "discard 1M 64k", "write -z 32k 16k", "flush",
         "write -P 3 4k 512", "write -P 4 1088k 1M")  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("qemu-io")
    folder = tmp_path_factory.mktemp("recorded")
    guest = ["qemu-io", "-f", "raw", *(word for one in GUEST for word in ("-c", one)), "{nbd}"]
    trace("record", "g.trace", "--driver", "raw", "--size", "4M", "--", *guest, cwd=folder)
    return folder / "g.trace"


@contextmanager
def serving(*argv: object, cwd: Path) -> Iterator[tuple[Popen[str], str]]:
    """``trace serve`` without a command, running: the process and the URI that it serves."""
    with background(sys.executable, "-m", "blkbox", "serve", *argv, cwd=cwd) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving "), line + process.stderr.read()
        yield process, line.split()[-1]


def test_it_is_the_disk_that_checkout_makes(recorded: Path, tmp_path: Path) -> None:
    need("nbdcopy")
    for at in ("2", "5", None):
        moment = ("--at", at) if at else ()
        trace("checkout", recorded, *moment, "-o", f"{at}.raw", cwd=tmp_path)
        trace("serve", recorded, *moment, "--", "nbdcopy", "{nbd}", f"{at}.copy", cwd=tmp_path)
        assert (tmp_path / f"{at}.copy").read_bytes() == (tmp_path / f"{at}.raw").read_bytes()
    assert (tmp_path / "None.raw").read_bytes() == recorded.with_suffix(".raw").read_bytes()


def test_clients_see_a_read_only_sparse_disk(recorded: Path, tmp_path: Path) -> None:
    need("nbdinfo", "qemu-io")
    told = json.loads(
        trace("serve", recorded, "--", "nbdinfo", "--json", "{nbd}", cwd=tmp_path).stdout
    )
    export = told["exports"][0]
    assert export["is_read_only"]
    assert export["export-size"] == 4 << 20
    mapped = trace("serve", recorded, "--", "nbdinfo", "--map", "{nbd}", cwd=tmp_path).stdout
    assert mapped.split("\n")[-2].split() == ["2162688", "2031616", "3", "hole,zero"]
    writer = ("qemu-io", "-f", "raw", "-c", "write 0 512", "{nbd}")
    assert "denied" in trace("serve", recorded, "--", *writer, cwd=tmp_path, expect=1).stderr


def test_a_scratch_copy_takes_writes_and_forgets_them(recorded: Path, tmp_path: Path) -> None:
    need("qemu-io")
    before = recorded.read_bytes()
    reads = ("-c", "read -P 9 64k 4k", "-c", "read -P 1 0 4k", "-c", "read -P 0 1M 64k")
    scratch = ("--scratch", "--", "qemu-io", "-f", "raw")
    trace(
        "serve", recorded, *scratch, "-c", "write -P 9 64k 4k", "-c", "discard 1088k 4k", *reads,
        "-c", "read -P 0 1088k 4k", "-c", "read -P 4 1092k 4k", "{nbd}", cwd=tmp_path,
    )  # fmt: skip
    trace("serve", recorded, *scratch, "-c", "read -P 0 64k 4k", "{nbd}", cwd=tmp_path)
    assert recorded.read_bytes() == before
    assert entries(tmp_path) == []


def test_several_clients_share_it(recorded: Path, tmp_path: Path) -> None:
    need("nbdsh")
    with serving(recorded, "--scratch", cwd=tmp_path) as (process, uri):
        nbdsh(
            f"a, b = nbd.NBD(), nbd.NBD()\n"
            f"a.connect_uri({uri!r}); b.connect_uri({uri!r})\n"
            "a.pwrite(b'x' * 4096, 8192)\n"
            "assert b.pread(4096, 8192) == b'x' * 4096\n"
            "assert a.can_multi_conn()"
        )
        assert finish(process)[0] == 0


def test_the_commands_exit_code_is_ours(recorded: Path, tmp_path: Path) -> None:
    trace("serve", recorded, "--", "sh", "-c", "exit 3", cwd=tmp_path, expect=3)
    trace("serve", recorded, "--", "sh", "-c", "kill -9 $$", cwd=tmp_path, expect=137)
    told = trace("serve", recorded, "--", "/no/such", "{nbd}", cwd=tmp_path, expect=200).stderr
    assert told == "trace: cannot run /no/such: No such file or directory\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_nothing_is_left(
    recorded: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(recorded, "--scratch", cwd=tmp_path) as (process, uri):
        folder = Path(uri.partition("socket=")[2]).parent
        assert folder.is_dir()
        code, out, err = finish(process, number)
    assert (code, out, err) == (0, "", "")
    assert not folder.exists()


def test_a_trace_without_payloads_says_that_its_data_is_made_up(
    recorded: Path, tmp_path: Path
) -> None:
    trace("strip", recorded, "-o", tmp_path / "s.trace", cwd=tmp_path)
    told = trace("serve", "s.trace", "--", "true", cwd=tmp_path).stderr
    assert told == (
        "blkbox: the trace has no payloads: the data is made from digests, not the guest's\n"
    )


def test_a_damaged_payload_is_an_error_of_the_read(recorded: Path, tmp_path: Path) -> None:
    need("qemu-io")
    for suffix in (".trace", ".payloads"):
        (tmp_path / f"bad{suffix}").write_bytes(recorded.with_suffix(suffix).read_bytes())
    path = tmp_path / "bad.payloads"
    os.truncate(path, path.stat().st_size - 1)  # the last block is torn
    done = trace(
        "serve", "bad.trace", "--", "qemu-io", "-r", "-f", "raw", "-c", "read 1088k 4k", "{nbd}",
        cwd=tmp_path, expect=1,
    )  # fmt: skip
    assert "bad.payloads: the payload at" in done.stderr


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["--at", "99"], 200, "has no op #99: the last is #"),
        (["--at", "nosuch"], 200, "has no mark 'nosuch'; it has none"),
        (["--listen", "tcp:0.0.0.0:0"], 200, "can be reached from other machines"),
        (["--listen", "carrier:pigeon"], 200, "write unix:PATH or tcp:HOST:PORT"),
    ],
)
def test_refusals(recorded: Path, tmp_path: Path, argv: list[str], code: int, told: str) -> None:
    assert told in trace("serve", recorded, *argv, cwd=tmp_path, expect=code).stderr


def test_json_comes_first_and_at_once(recorded: Path, tmp_path: Path) -> None:
    need("nbdinfo")
    command = [sys.executable, "-m", "blkbox", "serve", recorded, "--at", "2", "--json"]
    with background(*command, cwd=tmp_path) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert int(peer("nbdinfo", "--size", told["uri"])) == told["size"]
        code, out, err = finish(process, signal.SIGINT)
    assert (code, out, err) == (0, "", "")
    del told["uri"]
    assert told == {
        "trace": str(recorded), "size": 4 << 20, "before": 3, "scratch": False, "schema": 1,
    }  # fmt: skip


def test_json_comes_before_what_the_command_prints(recorded: Path, tmp_path: Path) -> None:
    done = trace("serve", recorded, "--json", "--", "echo", "{nbd}", cwd=tmp_path)
    first, second = done.stdout.splitlines()
    assert json.loads(first)["uri"] == second


def test_a_program_serves_while_its_block_runs(recorded: Path, tmp_path: Path) -> None:
    need("nbdcopy", "qemu-io")
    with blkbox.serve(recorded, at="2") as disk, blkbox.serve(recorded, scratch=True) as other:
        assert (disk.size, disk.before) == (4 << 20, 3)
        peer("nbdcopy", disk.uri, tmp_path / "copy.raw")
        peer("qemu-io", "-f", "raw", "-c", "write -P 9 0 4k", "-c", "read -P 9 0 4k", other.uri)
    blkbox.checkout(recorded, tmp_path / "two.raw", at="2")
    assert (tmp_path / "copy.raw").read_bytes() == (tmp_path / "two.raw").read_bytes()
    for uri in (disk.uri, other.uri):
        assert not Path(uri.partition("socket=")[2]).parent.exists()


def test_a_program_is_told_what_is_wrong(recorded: Path) -> None:
    with pytest.raises(UsageError, match="has no op #99"), blkbox.serve(recorded, at="99"):
        pass


def test_an_error_of_the_block_ends_the_service(recorded: Path) -> None:
    uris = []

    def fail() -> None:
        with blkbox.serve(recorded) as disk:
            uris.append(disk.uri)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not Path(uris[0].partition("socket=")[2]).parent.exists()
