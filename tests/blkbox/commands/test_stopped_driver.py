"""A driver or a guest that is stopped (SIGSTOP), and a user who wants the end."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired

import pytest

from tests.kit.command import recording
from tests.kit.drivers import NBDKIT, toml
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.guests import nbdsh, qemu_io
from tests.kit.peers import background, need
from tests.kit.processes import children, is_gone
from tests.kit.system import PATIENCE, entries, wait_until
from tests.kit.traces import read_trace
from tracer.driver.spec import parse_driver
from tracer.recording import ending
from tracer.recording.options import RecordOptions
from tracer.recording.session import STUCK, record
from tracer.recording.signals import BURST

pytestmark = pytest.mark.slow

SIZE = 1 << 20


def driver(folder: Path, *, seconds: int = 0) -> str:
    """A driver, whose writes take so long."""
    need("nbdkit")
    create = ["truncate", "-s", "{size}", "{image}"]
    words = ["--filter=delay", "file", "{image}", f"delay-write={seconds}"]
    return toml(folder, create=create, serve=[*NBDKIT, *words])


@contextmanager
def stopped(name: str, parent: int) -> Iterator[int]:
    """Stop the child of a process that runs a program, once there is one."""

    def found() -> list[int]:
        pids = []
        for pid in children(parent):
            with suppress(OSError):  # it has ended
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if Path(words[0]).name == name and "--version" not in words:
                    pids.append(pid)
        return pids

    wait_until(found)
    [pid] = found()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)


def interrupt_twice(process: Popen[str], after: float) -> tuple[str, str]:
    """Send SIGINT, and again unless it ends within some seconds. Return stdout and stderr."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=after)
    except TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=PATIENCE)


def test_a_recording_ends_after_two_signals(tmp_path: Path) -> None:
    words = ("t.trace", "--driver", driver(tmp_path), "--size", SIZE, "--json")
    with (
        recording(*words, cwd=tmp_path) as (process, uri),
        stopped("nbdkit", process.pid) as pid,
    ):
        out, _ = interrupt_twice(process, 3 * BURST)
        assert is_gone(pid)
    found = json.loads(out)
    assert (found["verdict"], found["interrupted"]) == ("undecidable", "SIGINT")
    assert not Path(uri.partition("socket=")[2]).parent.exists()
    assert read_trace(tmp_path / "t.trace")[0].end is not None


def test_a_recording_ends_after_two_signals_though_its_guest_does_not(tmp_path: Path) -> None:
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); h.pwrite(bytes(512), 0)"
    guest = nbdsh(f"{script}\nopen('once', 'w')\nwhile True: h.pwrite(bytes(512), 512)")
    command = [sys.executable, "-m", "blkbox", "record", "t.trace", "--driver", driver(tmp_path)]
    command += ["--size", str(SIZE), "--json", "--", *guest]
    with background("env", "--default-signal", *command, cwd=tmp_path) as process:
        wait_until((tmp_path / "once").exists)
        offspring = children(process.pid)
        with stopped("nbdkit", process.pid):
            out, _ = interrupt_twice(process, 2 * STUCK)
            assert all(map(is_gone, offspring))
    found = json.loads(out)
    assert (found["verdict"], found["interrupted"]) == ("undecidable", "SIGINT")
    assert read_trace(tmp_path / "t.trace")[0].end is not None


def test_a_driver_that_is_stopped_at_the_end_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(ending, "HURRY", 0.5)
    monkeypatch.chdir(tmp_path)
    write = " ".join(qemu_io("write 0 4k")).replace("write 0 4k", "'write 0 4k'")
    guest = f"{write} >/dev/null && kill -STOP $(pgrep -P {os.getpid()} -x nbdkit)"
    build = parse_driver(driver(tmp_path))
    found = record(
        RecordOptions(Path("t.trace"), build, size=SIZE, command=("sh", "-c", guest)),
        lambda _: None,
    )
    assert (found.verdict, found.reason) == ("failed", "no answer to a flush for 0.5 s")
    assert found.guest_exit == 0
    assert children(os.getpid()) == []


def test_a_replay_ends_at_the_first_signal(tmp_path: Path, runtime: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    name = driver(tmp_path, seconds=60)
    command = [sys.executable, "-m", "blkbox", "replay", "w.trace", "--driver", name]
    with (
        background("env", "--default-signal", *command, cwd=tmp_path) as process,
        stopped("nbdkit", process.pid) as pid,
    ):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert is_gone(pid)
    assert (process.returncode, err) == (130, "trace: interrupted by SIGINT\n")
    assert not list(runtime.parent.glob("blkbox-replay-*"))
    assert entries(tmp_path) == ["mine.toml", "w.payloads", "w.trace"]


@pytest.mark.parametrize("verb", ["record", "serve"])
def test_a_guest_that_is_stopped_takes_the_signal(tmp_path: Path, verb: str) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    words = {"record": ["t.trace", "--driver", "raw", "--size", "1M"], "serve": ["w.trace"]}
    command = [sys.executable, "-m", "blkbox", verb, *words[verb], "--", "sleep", "1000"]
    with (
        background("env", "--default-signal", *command, cwd=tmp_path) as process,
        stopped("sleep", process.pid) as pid,
    ):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert is_gone(pid)
