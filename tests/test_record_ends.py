"""How ``trace record`` ends: what it finds, what it refuses, and what is left when something fails."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blkbox.main import run
from tests.support import (
    MIB,
    background,
    entries,
    finish,
    kinds,
    need,
    pattern,
    peer,
    read_trace,
    recording,
    trace,
    wait_until,
)
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.driver import driver as driver_module
from tracer.errors import Exit
from tracer.nbd.uri import parse_uri
from tracer.op import Fault, Kind

SIZE = 8 * MIB
FILES = ["t.payloads", "t.raw", "t.test.raw", "t.trace"]


def qemu_io(*commands: str) -> list[str]:
    need("qemu-io")
    words = [word for command in commands for word in ("-c", command)]
    return ["qemu-io", "-f", "raw", "-t", "writeback", *words, "{nbd}"]


def script(text: str) -> list[str]:
    """A guest in shell; $1 is the disk."""
    return ["sh", "-c", text, "sh", "{nbd}"]


def toml(folder: Path, **keys: list[str]) -> str:
    path = folder / "mine.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return path.name


def serve(text: str) -> list[str]:
    """A driver in shell; $1 is the socket, $2 the image, $3 the size."""
    return ["sh", "-c", text, "sh", "{socket}", "{image}", "{size}"]


NBDKIT = 'exec nbdkit --foreground --unix="$1" memory "$3"'


def summary(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out[out.index("{\n") :])
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended (perhaps nobody has reaped it yet)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---------------------------------------------------------------- differences


@pytest.fixture
def unlike(tmp_path: Path) -> Path:
    """blkverify's example: a raw image whose first sector is 0xcd, and a test image of zeroes."""
    (tmp_path / "t.raw").write_bytes(b"\xcd" * 512 + bytes(SIZE - 512))
    (tmp_path / "t.test.raw").write_bytes(bytes(SIZE))
    return tmp_path


MISMATCH = "blkbox: read sector_num=0 nb_sectors=1 contents mismatch in sector 0"


def test_images_that_differ_at_the_start_are_refused(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--", "true", cwd=unlike, expect=Exit.USAGE
    )
    assert "differ, first in sector 0" in done.stderr
    assert entries(unlike) == ["t.raw", "t.test.raw"]
    assert (unlike / "t.raw").read_bytes()[:512] == b"\xcd" * 512


def test_the_sector_where_images_differ_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.raw").write_bytes(bytes(SIZE))
    (tmp_path / "t.test.raw").write_bytes(bytes(5 * MIB + 700) + b"x" + bytes(3 * MIB - 701))
    done = trace(
        "record", "t.trace", "--driver", "raw", "--", "true", cwd=tmp_path, expect=Exit.USAGE
    )
    assert "first in sector 10241:" in done.stderr


def test_blkverifys_example(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--", *qemu_io("read 0 512"),
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    assert MISMATCH in done.stderr.splitlines()
    assert "verdict:  damaged (raw)" in done.stdout
    assert "read failed: Input/output error" in done.stdout
    opened, ops = read_trace(unlike / "t.trace")
    first, last = opened.mismatches
    assert (first.fault, first.offset, first.length) == (Fault.DATA, 0, 512)
    assert ops[first.seq - ops[0].seq].kind == Kind.READ
    assert (last.fault, last.offset, last.length) == (Fault.FINAL, 0, 512)
    assert opened.end is not None
    assert (opened.end.verdict, opened.end.mismatches) == ("damaged", 2)


def test_the_first_mismatch_ends_the_recording(unlike: Path) -> None:
    guest = script(
        'qemu-io -f raw -t writeback -c "write -P 1 4k 512" -c "read 0 512" -c "write -P 2 8k 512" "$1"'
    )
    need("qemu-io")
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--json", "--", *guest,
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    assert summary(done.stdout)["ops"]["write"] == 1


def test_it_can_go_on_after_a_mismatch(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--on-mismatch", "continue", "--json",
        "--", *qemu_io("read -P 0xcd 0 512", "write -P 1 4k 512", "read 0 1k"),
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    result = summary(done.stdout)
    assert result["guest_exit"] == 0
    assert result["verdict"] == "damaged"
    assert [(one["fault"], one["sector"], one["sectors"]) for one in result["mismatches"]] == [
        ("data", 0, 1),
        ("data", 0, 1),
        ("final", 0, 1),
    ]
    assert result["damage"] == [{"sector": 0, "sectors": 1}]
    assert done.stderr.count("contents mismatch in sector 0") == 2
    assert "write" in result["ops"]


def test_damage_that_no_read_met_is_found_at_the_end(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--json", "--", "true",
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    assert summary(done.stdout)["mismatches"] == [
        {"seq": None, "fault": "final", "sector": 0, "sectors": 1}
    ]
    assert "blkbox: images differ after the run, first in sector 0" in done.stderr


def test_damage_that_was_overwritten_is_none(unlike: Path) -> None:
    trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--", *qemu_io("write -P 1 0 512"),
        cwd=unlike,
    )  # fmt: skip


def test_a_wrong_errno_is_a_failed_driver(tmp_path: Path) -> None:
    need("nbdkit")
    serve_ = ["nbdkit", "--foreground", "--unix={socket}", "--filter=error", "memory", "{size}",
              "error-pwrite=ENOSPC", "error-pwrite-rate=100%"]  # fmt: skip
    done = trace(
        "record", "t.trace", "--driver", toml(tmp_path, serve=serve_), "--size", SIZE, "--",
        *qemu_io("write 512 1k"), cwd=tmp_path, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    line = "blkbox: write sector_num=1 nb_sectors=2 status mismatch: reference success, test ENOSPC"
    assert line in done.stderr.splitlines()
    assert "verdict:  failed (mine)" in done.stdout


def test_junk_after_a_trim_is_wrong_by_the_strict_rule_alone(tmp_path: Path) -> None:
    """A driver whose trim leaves junk, made of nbdkit's sh plugin."""
    need("nbdkit", "qemu-io")
    plugin = tmp_path / "plugin.sh"
    plugin.write_text(
        """#!/bin/sh
case "$1" in
get_size) stat -c %s "$IMAGE" ;;
pread) dd if="$IMAGE" iflag=skip_bytes,count_bytes skip="$4" count="$3" status=none ;;
pwrite) dd of="$IMAGE" oflag=seek_bytes conv=notrunc seek="$4" status=none ;;
can_write|can_trim) exit 0 ;;
trim) head -c "$3" /dev/zero | tr '\\0' '?' |
      dd of="$IMAGE" oflag=seek_bytes conv=notrunc seek="$4" status=none ;;
*) exit 2 ;;
esac
"""
    )
    plugin.chmod(0o755)
    driver = toml(
        tmp_path,
        serve=serve('IMAGE="$2" exec nbdkit --foreground --unix="$1" sh ./plugin.sh'),
    )
    guest = [
        "--",
        "qemu-io",
        "-f",
        "raw",
        "-d",
        "unmap",
        "-c",
        "write 0 4k",
        "-c",
        "discard 0 4k",
        "{nbd}",
    ]
    for rule, expect in (("any", Exit.CLEAN), ("old-or-zero", Exit.BAD_DRIVER)):
        options = ["--size", "64k", "--trim", rule]
        trace(
            "record",
            f"{rule}.trace",
            "--driver",
            driver,
            *options,
            *guest,
            cwd=tmp_path,
            expect=expect,
        )
        assert read_trace(tmp_path / f"{rule}.trace")[0].header.trim == rule


# ---------------------------------------------------------------- the guest


def test_a_guest_that_fails_says_nothing_of_the_driver(tmp_path: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", SIZE, "--json", "--", *script("exit 3"),
        cwd=tmp_path, expect=Exit.UNDECIDABLE,
    )  # fmt: skip
    result = summary(done.stdout)
    assert (result["verdict"], result["guest_exit"]) == ("undecidable", 3)
    end = read_trace(tmp_path / "t.trace")[0].end
    assert end is not None
    assert end.verdict == "undecidable"


def test_a_guest_that_cannot_be_run_leaves_nothing_behind(tmp_path: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", SIZE, "--", "./no-such-guest",
        cwd=tmp_path, expect=Exit.USAGE,
    )  # fmt: skip
    assert done.stderr == "trace: cannot run ./no-such-guest: No such file or directory\n"
    assert entries(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_to_the_guest(tmp_path: Path, number: signal.Signals) -> None:
    guest = script(
        f"trap 'echo got it >got; exit 0' {number.name[3:]}; echo >up; while :; do sleep 0.05; done"
    )
    command = ["-m", "blkbox", "record", "t.trace", "--driver", "raw", "--size", "1M", "--", *guest]
    with background(sys.executable, *command, cwd=tmp_path) as process:
        wait_until((tmp_path / "up").exists)
        code, out, err = finish(process, number)
    assert code == 0, out + err
    assert (tmp_path / "got").exists()
    end = read_trace(tmp_path / "t.trace")[0].end
    assert end is not None


# ---------------------------------------------------------------- signals without a guest command


@pytest.mark.parametrize(
    ("driver", "number"),
    [
        ("raw", signal.SIGINT),
        ("raw", signal.SIGTERM),
        ("raw", signal.SIGHUP),
        ("qcow2", signal.SIGINT),
    ],
)
def test_a_signal_ends_a_recording_cleanly(tmp_path: Path, number: int, driver: str) -> None:
    need("qemu-io", "qemu-nbd", "qemu-img")
    options = ["t.trace", "--driver", driver, "--size", "1M"]
    with recording(*options, cwd=tmp_path) as (process, uri):
        peer("qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", uri)
        code, out, _ = finish(process, number)
    assert code == Exit.CLEAN
    assert "verdict:  clean" in out
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.end is not None
    assert opened.end.ops == len(ops)


def test_a_kill_loses_nothing_that_a_guest_saw_done(tmp_path: Path) -> None:
    """Every write that was acknowledged is in the trace, and the driver does not outlive us."""
    need("qemu-nbd", "qemu-img")
    done: list[int] = []
    with recording("t.trace", "--driver", "qcow2", "--size", "1M", cwd=tmp_path) as (process, uri):
        offspring = children(process.pid)
        assert len(offspring) == 2  # the driver, and what ends it if we cannot
        socket = next(
            word.partition("=")[2]
            for pid in offspring
            for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if word.startswith("--socket=")
        )
        with Loop() as loop, NbdDevice.connect(loop, parse_uri(uri)) as device:

            def write(at: int) -> None:
                def acknowledged(error: int, *_: object) -> None:
                    if not error:
                        done.append(at)

                offset = at * 512 % MIB
                device.submit(Kind.WRITE, 0, offset, 512, pattern(512, at), acknowledged)

            sent = 0
            while device.lost is None:
                while sent < len(done) + 16 and device.lost is None:
                    write(sent)
                    sent += 1
                device.kick()
                loop.poll(1)
                if len(done) > 500 and process.returncode is None:
                    process.kill()
                    process.wait()
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.end is None
    recorded = {op.seq for op in ops if op.kind == Kind.WRITE}
    assert len(done) > 500
    assert set(done) <= recorded
    wait_until(lambda: all(map(is_gone, offspring)))
    wait_until(lambda: not Path(socket).parent.exists())
    shutil.rmtree(Path(parse_uri(uri).path).parent)  # nobody is left to remove the guest's socket
    peer("qemu-img", "check", "-q", "-f", "qcow2", tmp_path / "t.test.qcow2")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["t.trace", "t.payloads"])
def test_what_exists_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", "1M", "--", "true",
        cwd=tmp_path, expect=Exit.USAGE,
    )  # fmt: skip
    assert f"{name} exists: name another, or give --force" in done.stderr
    assert (tmp_path / name).read_text() == "precious"
    assert entries(tmp_path) == [name]


def test_what_exists_is_replaced_by_force(tmp_path: Path) -> None:
    for name in ("t.trace", "t.payloads"):
        (tmp_path / name).write_text("old" * 10_000)
    trace(
        "record", "t.trace", "--driver", "raw", "--size", "1M", "--force", "--", *qemu_io("write 0 512"),
        cwd=tmp_path,
    )  # fmt: skip
    opened, ops = read_trace(tmp_path / "t.trace")
    assert kinds(ops)[0] == "write"
    assert opened.end is not None


class Refused:
    """Runs ``trace record``, in this process for speed, where it must refuse and touch nothing."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *argv: str) -> str:
        before = entries(self.folder)
        code = run(["record", *argv, "--", "true"])
        out, err = self.capsys.readouterr()
        assert code == Exit.USAGE, err
        assert entries(self.folder) == before
        assert out == ""
        assert err.startswith("trace: ")
        assert err.count("\n") == 1
        return err


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    monkeypatch.chdir(tmp_path)
    return Refused(tmp_path, capsys)


@pytest.mark.parametrize("size", ["0", "100", "-512", "abc", "", "513", "8192P", "99999999999P"])
def test_sizes_that_no_disk_has(refused: Refused, size: str) -> None:
    refused("t.trace", "--driver", "raw", f"--size={size}")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--driver", "qcow3"], "unknown driver 'qcow3'"),
        (["--driver", "nbds://host"], "nbds:// is not supported"),
        (["--driver", "no.toml"], "cannot open no.toml"),
        ([], "Missing option '--driver'"),
        (["--driver", "raw", "--listen", "udp:1"], "write unix:PATH or tcp:HOST:PORT"),
        (["--driver", "raw", "--listen", "tcp:0.0.0.0:0"], "give --allow-remote"),
        (["--driver", "raw", "--listen", "tcp:[::]:0"], "give --allow-remote"),
        (["--driver", "raw", "--listen", "tcp:192.0.2.1:0"], "give --allow-remote"),
        (["--driver", "raw", "--listen", "unix:no/folder/s"], "cannot listen on"),
        (["--driver", "raw", "--listen", "unix:" + "s" * 200], "path too long"),
        (["--driver", "raw", "--trim", "sometimes"], "'sometimes'"),
        (["--driver", "raw", "--payloads", "some"], "'some'"),
        (["--driver", "raw", "--on-mismatch", "shrug"], "'shrug'"),
        (["--driver", "raw", "--mood", "sunny"], "No such option: --mood"),
        (["--driver", "raw", "--raw", "t.trace"], "t.trace"),
        (["--driver", "raw", "--raw", "t.payloads"], "t.payloads"),
        (["--driver", "raw", "--image", "t.trace"], "t.trace"),
        (["--driver", "raw", "--image", "t.raw"], "cannot be both the raw and the test image"),
    ],
)
def test_options_that_are_refused_leave_nothing_behind(
    refused: Refused, options: list[str], why: str
) -> None:
    assert why in refused("t.trace", *options, "--size", "1M")


@pytest.mark.parametrize("out", ["t.raw", "t.payloads", "t.test.raw", "no/folder/t.trace"])
def test_traces_that_cannot_be(refused: Refused, out: str) -> None:
    """Named like one of the images that it would make, or where nothing can be made."""
    refused(out, "--driver", "raw", "--size", "1M")


def test_others_than_loopback_on_demand(tmp_path: Path) -> None:
    options = ["--driver", "raw", "--size", "1M", "--listen", "tcp:0.0.0.0:0", "--allow-remote"]
    with recording("t.trace", *options, cwd=tmp_path) as (process, uri):
        assert uri.startswith("nbd://0.0.0.0:")
        assert finish(process)[0] == 0


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    options = ["--driver", "raw", "--size", "1M", "--listen", f"unix:{tmp_path / 's'}"]
    with recording("a.trace", *options, cwd=tmp_path) as (process, _):
        done = trace("record", "b.trace", *options, "--", "true", cwd=tmp_path, expect=Exit.USAGE)
        assert "Address already in use" in done.stderr
        assert (tmp_path / "s").exists()  # the other's
        assert not [name for name in entries(tmp_path) if name.startswith("b.")]
        assert finish(process)[0] == 0


# ---------------------------------------------------------------- drivers that do not start


def undecidable(folder: Path, driver: str) -> str:
    """A recording that cannot start; nothing is left behind. Returns stderr."""
    before = entries(folder)
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", SIZE, "--", "true",
        cwd=folder, expect=Exit.UNDECIDABLE,
    )  # fmt: skip
    assert entries(folder) == before
    return done.stderr


def test_a_driver_whose_program_is_missing(tmp_path: Path) -> None:
    err = undecidable(tmp_path, toml(tmp_path, serve=["./no-such-server", "{socket}"]))
    assert err == "trace: mine: cannot run ./no-such-server: No such file or directory\n"


def test_a_driver_that_exits_at_once(tmp_path: Path) -> None:
    err = undecidable(tmp_path, toml(tmp_path, serve=serve("echo no disk today >&2; exit 3")))
    assert err == "trace: mine did not start: exit status 3\nno disk today\n"


def test_a_driver_that_crashes_at_once(tmp_path: Path) -> None:
    err = undecidable(tmp_path, toml(tmp_path, serve=serve("echo oh no; kill -SEGV $$")))
    assert err.startswith("trace: mine did not start: signal SIGSEGV\noh no\n")


def test_only_the_tail_of_what_a_driver_said_is_shown(tmp_path: Path) -> None:
    err = undecidable(tmp_path, toml(tmp_path, serve=serve("seq 100000 >&2; exit 1")))
    assert err.endswith("\n99999\n100000\n")
    assert len(err) < 2200


def test_a_driver_that_serves_another_size(tmp_path: Path) -> None:
    need("nbdkit")
    driver = toml(tmp_path, serve=serve('exec nbdkit --foreground --unix="$1" memory 4M'))
    assert f"mine serves {4 * MIB} bytes where {SIZE} were asked for" in undecidable(
        tmp_path, driver
    )


def test_a_driver_that_cannot_make_its_image(tmp_path: Path) -> None:
    create = ["sh", "-c", "touch $0; echo out of ink >&2; exit 4", "{image}"]
    err = undecidable(tmp_path, toml(tmp_path, create=create, serve=serve(NBDKIT)))
    assert err == "trace: mine: creating the image failed with exit status 4\nout of ink\n"


def test_a_driver_that_makes_no_image(tmp_path: Path) -> None:
    err = undecidable(tmp_path, toml(tmp_path, create=["true"], serve=serve(NBDKIT)))
    assert "the create command made no image at t.test.img" in err


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    err = undecidable(tmp_path, "nbd+unix:///?socket=/nonexistent")
    assert "cannot connect to nbd+unix:///?socket=/nonexistent: No such file or directory" in err


def test_an_export_that_is_not_there(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    (tmp_path / "disk").write_bytes(bytes(MIB))
    command = ["qemu-nbd", "-k", tmp_path / "s", "-x", "mine", "-f", "raw", "disk"]
    with background(*command, cwd=tmp_path):
        wait_until((tmp_path / "s").exists)
        done = trace(
            "record", "t.trace", "--driver", f"nbd+unix:///other?socket={tmp_path / 's'}", "--", "true",
            cwd=tmp_path, expect=Exit.UNDECIDABLE,
        )  # fmt: skip
    assert "refuses the export 'other'" in done.stderr
    assert [name for name in entries(tmp_path) if name.startswith("t.")] == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "START_TIMEOUT", 0.5)


def in_process(folder: Path, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as ``undecidable``, in this process."""
    monkeypatch.chdir(folder)
    before = entries(folder)
    code = run(["record", "t.trace", "--driver", driver, "--size", str(SIZE), "--", "true"])
    assert code == Exit.UNDECIDABLE
    assert [name for name in entries(folder) if name != "pid"] == before
    wait_until(lambda: is_gone(int((folder / "pid").read_text())))


@pytest.mark.usefixtures("impatient")
def test_a_driver_that_never_opens_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    driver = toml(tmp_path, serve=serve("echo $$ >pid; echo thinking >&2; exec sleep 1000"))
    in_process(tmp_path, driver, monkeypatch)
    assert capfd.readouterr().err == "trace: mine did not open its socket within 0.5 s\nthinking\n"


@pytest.mark.usefixtures("impatient")
def test_a_driver_that_does_not_speak_nbd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.py").write_text(
        "import os, socket, sys\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "server = socket.socket(socket.AF_UNIX)\n"
        "server.bind(sys.argv[1])\n"
        "server.listen()\n"
        "while True:\n"
        "    server.accept()[0].sendall(b'220 smtp.example.com ESMTP ready')\n"
    )
    driver = toml(tmp_path, serve=serve('exec python3 server.py "$1"'))
    in_process(tmp_path, driver, monkeypatch)
    assert "it does not speak newstyle NBD" in capfd.readouterr().err


@pytest.mark.usefixtures("impatient")
def test_a_driver_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.py").write_text(
        "import os, socket, sys, time\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "server = socket.socket(socket.AF_UNIX)\n"
        "server.bind(sys.argv[1])\n"
        "server.listen()\n"
        "time.sleep(1000)\n"
    )
    driver = toml(tmp_path, serve=serve('exec python3 server.py "$1"'))
    in_process(tmp_path, driver, monkeypatch)
    assert "did not finish negotiating in 0.5 s" in capfd.readouterr().err


# ---------------------------------------------------------------- drivers that go away


def test_a_driver_that_is_killed(tmp_path: Path) -> None:
    need("nbdkit", "nbdsh")
    driver = toml(tmp_path, serve=serve("echo $$ >pid; echo last words >&2; " + NBDKIT))
    guest = """
import os, signal
h.pwrite(b"a" * 512, 0)
os.kill(int(open("pid").read()), signal.SIGKILL)
try:
    while True:
        h.pread(512, 0)
except nbd.Error as error:
    assert error.errno == "EIO", error
"""
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", SIZE, "--json", "--",
        "nbdsh", "-u", "{nbd}", "-c", guest, cwd=tmp_path, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    result = summary(done.stdout)
    assert result["verdict"] == "failed"
    assert result["reason"] == "the driver went away: signal SIGKILL"
    assert result["guest_exit"] == 0
    assert "blkbox: the driver went away: signal SIGKILL\nlast words\n" in done.stderr
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.end is not None
    assert opened.end.verdict == "failed"
    assert kinds(ops)[0] == "write"


def test_a_driver_that_crashes_when_it_is_asked_to_stop(tmp_path: Path) -> None:
    need("nbdkit")
    text = 'trap "kill $!; exec kill -SEGV $$" TERM; nbdkit --foreground --unix="$1" memory "$3" & wait'
    done = trace(
        "record", "t.trace", "--driver", toml(tmp_path, serve=serve(text)), "--size", SIZE, "--", "true",
        cwd=tmp_path, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    assert "verdict:  failed (mine): the driver: it ended with signal SIGSEGV" in done.stdout


def test_nothing_that_a_driver_started_outlives_it(tmp_path: Path) -> None:
    need("nbdkit")
    text = "sleep 1000 & echo $! >pid; " + NBDKIT
    trace(
        "record", "t.trace", "--driver", toml(tmp_path, serve=serve(text)), "--size", SIZE, "--", "true",
        cwd=tmp_path,
    )  # fmt: skip
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())))


# ---------------------------------------------------------------- our own disk is full


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: that takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


WRITES = """
import random
random.seed(1)
done = 0
try:
    for at in range(8000):
        h.pwrite(random.randbytes(512), at * 512)
        done += 1
except nbd.Error as error:
    print(done, error.errno)
"""


@pytest.mark.parametrize("payloads", ["full", "hash"])
def test_a_full_trace_disk(tmp_path: Path, small: Path, payloads: str) -> None:
    need("nbdsh")
    done = trace(
        "record", small / "t.trace", "--driver", "raw", "--size", SIZE, "--raw", "good.raw",
        "--image", "test.raw", "--payloads", payloads, "--", "nbdsh", "-u", "{nbd}", "-c", WRITES,
        cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"trace: cannot write {small}/t.")
    assert "No space left on device" in done.stderr
    acknowledged, error = done.stdout.split()
    assert error == "EIO"
    opened, ops = read_trace(small / "t.trace")
    assert 0 < int(acknowledged) <= len([op for op in ops if op.kind == Kind.WRITE])
    assert opened.torn_bytes == 0


def test_a_full_disk_for_the_reference_is_not_the_drivers_fault(
    tmp_path: Path, small: Path
) -> None:
    need("nbdsh")
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", SIZE, "--raw", small / "good.raw", "--",
        "nbdsh", "-u", "{nbd}", "-c", WRITES, cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    assert f"failed on {small}/good.raw: No space left on device" in done.stderr
    assert done.stdout.split()[1] == "EIO"
    opened, _ = read_trace(tmp_path / "t.trace")
    assert opened.mismatches == []


def test_an_image_that_cannot_be_made_is_not_the_drivers_fault(tmp_path: Path) -> None:
    options = ["--driver", "raw", "--size", "1M", "--raw", "no/folder/x.raw"]
    done = trace("record", "t.trace", *options, "--", "true", cwd=tmp_path, expect=Exit.STORAGE)
    assert done.stderr == "trace: cannot create no/folder/x.raw: No such file or directory\n"
    assert entries(tmp_path) == []


def test_a_trace_that_cannot_even_begin_leaves_nothing_behind(tmp_path: Path, small: Path) -> None:
    (small / "filler").write_bytes(bytes(256 << 10))
    done = trace(
        "record", small / "t.trace", "--driver", "raw", "--size", "1M", "--raw", "good.raw", "--image",
        "test.raw", "--", "true", cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    assert "No space left on device" in done.stderr
    assert entries(tmp_path) == ["small"]
    assert entries(small) == ["filler"]
