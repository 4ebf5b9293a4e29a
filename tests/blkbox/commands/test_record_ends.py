"""How ``trace record`` ends with its guest, and with a signal."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import SIZE, summary
from tests.kit.command import finish, recording, trace
from tests.kit.data import MIB, pattern
from tests.kit.guests import shell
from tests.kit.peers import background, need, peer
from tests.kit.processes import children, is_gone
from tests.kit.system import entries, wait_until
from tests.kit.traces import read_trace
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.errors import Exit
from tracer.nbd.uri import parse_uri
from tracer.op import Kind
from tracer.recording.connection import MAX_UNSENT

# ---------------------------------------------------------------- the guest


def test_a_guest_that_fails_says_nothing_of_the_driver(tmp_path: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", SIZE, "--json", "--", *shell("exit 3"),
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
    need("qemu-io")
    guest = shell(
        f"trap 'echo got it >got; exit 0' {number.name[3:]}; qemu-io -f raw -c 'read 0 512' $1; "
        "echo >up; while :; do sleep 0.05; done"
    )
    # a shell cannot trap a signal that is ignored when it starts: nohup and "&" leave us such
    command = ["env", "--default-signal", sys.executable, "-m", "blkbox"]
    command += ["record", "t.trace", "--driver", "raw", "--size", "1M", "--", *guest]
    with background(*command, cwd=tmp_path) as process:
        wait_until((tmp_path / "up").exists)
        code, out, err = finish(process, number)
    assert code == 0, out + err
    assert (tmp_path / "got").exists()
    end = read_trace(tmp_path / "t.trace")[0].end
    assert end is not None


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        ("exit 0", "; is {nbd} in the guest's command?"),
        ("exit 3", "; the guest's exit status is 3; is {nbd} in the guest's command?"),
        ("kill -HUP $$", "; the guest was killed by SIGHUP; is {nbd} in the guest's command?"),
        ("exit 0; : {nbd}", "; sh did not open the disk, or went to the background"),
        ("nbdinfo --size $NBD_URI >info", ""),
    ],
)
def test_a_guest_without_an_op_tests_nothing(tmp_path: Path, guest: str, why: str) -> None:
    need("nbdinfo")
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", SIZE, "--json", "--", "sh", "-c", guest,
        cwd=tmp_path, expect=Exit.UNDECIDABLE,
    )  # fmt: skip
    result = summary(done.stdout)
    assert result["reason"] == f"no guest op: nothing was tested{why}"
    trace("verify", "t.trace", cwd=tmp_path)
    done = trace("replay", "t.trace", "--driver", "raw", cwd=tmp_path, expect=Exit.UNDECIDABLE)
    assert "trace: the trace has no op to replay: nothing was tested\n" in done.stderr


def test_a_guest_in_the_background_is_cut_off_with_a_word(tmp_path: Path) -> None:
    need("nbdsh")
    script = "h.pwrite(b'x' * 512, 0); open('up', 'w').close(); h.poll(20000)"
    guest = shell(f'nbdsh -u "$1" -c "{script}" & until test -e up; do sleep 0.01; done')
    done = trace("record", "t.trace", "--driver", "raw", "--size", SIZE, "--", *guest, cwd=tmp_path)
    assert "blkbox: sh ended with the disk still open" in done.stderr


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_guest_that_does_not_fetch_its_replies_is_not_the_driver_s_fault(
    tmp_path: Path, driver: str
) -> None:
    need("qemu-nbd", "qemu-img")
    options = ["t.trace", "--driver", driver, "--size", "32M"]
    with (
        recording(*options, cwd=tmp_path) as (process, uri),
        Loop() as loop,
        NbdDevice.connect(loop, parse_uri(uri)) as device,
    ):
        for _ in range(200):  # far more than the recorder keeps for a guest
            device.submit(Kind.READ, 0, 0, MIB, None, lambda *_: None)
        device.kick()
        enough = MAX_UNSENT // MIB
        wait_until(lambda: len(read_trace(tmp_path / "t.trace")[1]) >= enough)
        code, out, err = finish(process)
    assert code == Exit.CLEAN, err
    assert "verdict:  clean" in out


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
    # nobody is left to remove the guest's socket, but for the next run, which may be another test
    shutil.rmtree(Path(parse_uri(uri).path).parent, ignore_errors=True)
    peer("qemu-img", "check", "-q", "-f", "qcow2", tmp_path / "t.test.qcow2")
