"""``trace record`` with drivers that do not start, or go away."""

import errno
from pathlib import Path

import pytest

from blkbox.main import run
from tests.blkbox.commands.recorded import SIZE, summary
from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.drivers import IN_MEMORY, NBDKIT, serve, toml
from tests.kit.guests import qemu_io, shell
from tests.kit.peers import background, need
from tests.kit.processes import is_gone
from tests.kit.system import entries, wait_until
from tests.kit.traces import kinds, read_trace
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.driver import driver as driver_module
from tracer.errors import Exit
from tracer.nbd.uri import Address

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
    assert err.startswith("trace: mine did not start: killed by SIGSEGV\noh no\n")


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
    err = undecidable(tmp_path, toml(tmp_path, create=create, serve=serve(IN_MEMORY)))
    assert err == "trace: mine: creating the image failed: exit status 4\nout of ink\n"


def test_a_driver_that_makes_no_image(tmp_path: Path) -> None:
    err = undecidable(tmp_path, toml(tmp_path, create=["true"], serve=serve(IN_MEMORY)))
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
            "record", "t.trace", "--driver", f"nbd+unix:///other?socket={tmp_path / 's'}", "--",
            "true",
            cwd=tmp_path, expect=Exit.UNDECIDABLE,
        )  # fmt: skip
    assert "refuses the export 'other'" in done.stderr
    assert [name for name in entries(tmp_path) if name.startswith("t.")] == []


def in_process(folder: Path, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as ``undecidable``, in this process."""
    monkeypatch.chdir(folder)
    before = entries(folder)
    code = run(["record", "t.trace", "--driver", driver, "--size", str(SIZE), "--", "true"])
    assert code == Exit.UNDECIDABLE
    assert [name for name in entries(folder) if name != "pid"] == before
    wait_until(lambda: is_gone(int((folder / "pid").read_text())))


def test_a_driver_that_never_opens_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver_module, "START_TIMEOUT", 2.0)
    driver = toml(tmp_path, serve=serve("echo $$ >pid; echo thinking >&2; exec sleep 1000"))
    in_process(tmp_path, driver, monkeypatch)
    assert capfd.readouterr().err == "trace: mine did not open its socket within 2 s\nthinking\n"


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


def test_a_driver_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    connect = NbdDevice.connect

    def impatient(loop: Loop, address: Address, timeout: float) -> NbdDevice:
        assert timeout == driver_module.START_TIMEOUT
        return connect(loop, address, 0.5)

    # the socket may take as long as ever to appear: on a busy machine it does
    monkeypatch.setattr(NbdDevice, "connect", impatient)
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
    assert "did not finish negotiating within 0.5 s" in capfd.readouterr().err


# ---------------------------------------------------------------- drivers that go away


def test_a_driver_that_is_killed(tmp_path: Path) -> None:
    need("nbdkit", "nbdsh")
    driver = toml(tmp_path, serve=serve("echo $$ >pid; echo last words >&2; " + IN_MEMORY))
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
    assert result["reason"] == "the driver went away: killed by SIGKILL"
    assert result["guest_exit"] == 0
    assert "blkbox: the driver went away: killed by SIGKILL\nlast words\n" in done.stderr
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.end is not None
    assert opened.end.verdict == "failed"
    assert kinds(ops)[0] == "write"


def test_a_driver_that_crashes_when_it_is_asked_to_stop(tmp_path: Path) -> None:
    need("nbdkit")
    text = 'trap "kill $!; exec kill -SEGV $$" TERM; '
    text += 'nbdkit --foreground --unix="$1" memory "$3" & wait'
    done = trace(
        "record", "t.trace", "--driver", toml(tmp_path, serve=serve(text)), "--size", SIZE, "--",
        "true",
        cwd=tmp_path, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    why = "the driver: asked to stop, it failed: killed by SIGSEGV"
    assert f"verdict:  failed (mine): {why}" in done.stdout


def test_nothing_that_a_driver_started_outlives_it(tmp_path: Path) -> None:
    need("nbdkit")
    text = "sleep 1000 & echo $! >pid; " + IN_MEMORY
    trace(
        "record", "t.trace", "--driver", toml(tmp_path, serve=serve(text)), "--size", SIZE, "--",
        *qemu_io("read 0 512"), cwd=tmp_path,
    )  # fmt: skip
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_a_store_may_be_full_if_that_is_allowed(tmp_path: Path) -> None:
    """The guest gets the errors and goes on; what comes after them is judged."""
    need("nbdkit", "qemu-io")
    writes = " ".join(f"-c 'write -P {number + 1} {number * 64}k 64k'" for number in range(16))
    guest = shell(f"qemu-io -f raw {writes} -c 'read 0 1M' $1 >/dev/null || true")
    driver = toml(
        tmp_path,
        create=["truncate", "-s", "{size}", "{image}"],
        serve=[
            *NBDKIT, "--filter=error", "file", "{image}", "error=ENOSPC", "error-pwrite-rate=50%",
        ],
    )  # fmt: skip
    record = ("record", "t.trace", "--driver", driver, "--size", "1M", "--force")
    done = trace(*record, "--", *guest, cwd=tmp_path, expect=1)
    assert "an op failed on one side and succeeded on the other" in done.stdout
    for image in ("t.raw", "t.test.img"):
        (tmp_path / image).unlink()
    trace(*record, "--allow-errno", "ENOSPC", "--", *guest, cwd=tmp_path)
    trace("verify", "t.trace", cwd=tmp_path)
    failed = [op for op in read_trace(tmp_path / "t.trace")[1] if op.test_status]
    assert failed
    assert all(op.test_status == op.reference_status == errno.ENOSPC for op in failed)
