"""What a command prints, and that its exit code is the verdict's whoever reads it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.drivers import NBDKIT, toml
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.peers import PEER_ENV, background, need
from tests.kit.processes import children, is_gone
from tests.kit.system import PATIENCE, entries, wait_until
from tracer.errors import Exit

REPLAY = "replay w.trace --driver raw"
BAD = "replay w.trace --driver raw --upto 99"
DIFFERENT = "diff w.trace v.trace"
RECORD = "record r.trace --driver raw --size 1M -- true"

CODES = {
    REPLAY: Exit.CLEAN,
    f"{REPLAY} --json": Exit.CLEAN,
    "verify w.trace": Exit.CLEAN,
    "verify torn.trace": Exit.BAD_TRACE,
    "show w.trace --ops": Exit.CLEAN,
    "--help": Exit.CLEAN,
    DIFFERENT: Exit.DIFFERENT,
    f"{DIFFERENT} --json": Exit.DIFFERENT,
    BAD: Exit.USAGE,
    RECORD: Exit.UNDECIDABLE,
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    make_trace(tmp_path / "v.trace", WORKLOAD[1:])
    (tmp_path / "torn.trace").write_bytes((tmp_path / "w.trace").read_bytes()[:-1])
    (tmp_path / "torn.payloads").write_bytes((tmp_path / "w.payloads").read_bytes())


def run(line: str, redirection: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, with its streams redirected."""
    script = f'exec "$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "blkbox", *line.split()],
        cwd=folder, env=PEER_ENV, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("line", CODES)
def test_a_closed_pipe_changes_no_exit_code(tmp_path: Path, line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "blkbox", *line.split()], cwd=tmp_path, env=PEER_ENV,
            stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.returncode == CODES[line]


@pytest.mark.slow
@pytest.mark.parametrize("line", CODES)
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_change_no_exit_code(tmp_path: Path, line: str, closed: str) -> None:
    done = run(line, closed, tmp_path)
    assert done.returncode == CODES[line], done.stderr
    if line == BAD:  # a message does not become a result
        assert done.stdout == ""


@pytest.mark.parametrize("line", [REPLAY, f"{DIFFERENT} --json", "--version", RECORD])
def test_output_that_is_lost_is_trouble_of_ours(tmp_path: Path, line: str) -> None:
    done = run(line, ">/dev/full", tmp_path)
    assert done.returncode == Exit.STORAGE
    assert done.stderr == "trace: cannot write the output: No space left on device\n"


def test_what_fails_without_output_says_only_that(tmp_path: Path) -> None:
    done = run(BAD, ">/dev/full", tmp_path)
    assert done.returncode == Exit.USAGE
    assert "w.trace has no op #99" in done.stderr


def test_a_guest_s_output_goes_into_no_file_of_ours(tmp_path: Path) -> None:
    """Where stdout is closed, the next file that is opened would get its number."""
    line = "record r.trace --driver raw --size 1M -- echo hello"
    done = run(line, "<&- >&- 2>&-", tmp_path)
    assert done.returncode == Exit.UNDECIDABLE
    for name in ("r.trace", "r.payloads", "r.raw", "r.test.raw"):
        assert b"hello" not in (tmp_path / name).read_bytes()


def test_a_name_that_the_terminal_cannot_show_is_no_bug(tmp_path: Path) -> None:
    os.rename(tmp_path / "w.trace", os.fsencode(tmp_path) + b"/\xff.trace")
    os.rename(tmp_path / "w.payloads", os.fsencode(tmp_path) + b"/\xff.payloads")
    done = subprocess.run(
        [sys.executable, "-m", "blkbox", "strip", b"\xff.trace", "-o", "out.trace"],
        cwd=tmp_path, env={**PEER_ENV, "PYTHONIOENCODING": "ascii"}, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- signals


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    need("nbdkit")
    serve = [*NBDKIT, "--filter=delay", "memory", "{size}", "delay-write=100"]
    driver = toml(tmp_path, create=["touch", "{image}"], serve=serve)
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "blkbox", "replay", "w.trace", "--driver", driver, "--no-plot"]
    environment = {**PEER_ENV, "TMPDIR": str(tmp_path / "tmp")}
    before = entries(tmp_path)
    with subprocess.Popen(
        ["env", f"--default-signal={number.name[3:]}", *command], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_until(lambda: len(children(process.pid)) == 2)  # the driver and its guard
        offspring = children(process.pid)
        process.send_signal(number)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert (out, err) == ("", f"trace: interrupted by {number.name}\n")
    assert entries(tmp_path / "tmp") == []
    assert entries(tmp_path) == before
    assert all(map(is_gone, offspring))


def test_a_reader_that_does_not_read_does_not_hold_us(tmp_path: Path) -> None:
    make_trace(tmp_path / "long.trace", WORKLOAD * 100)
    command = [sys.executable, "-m", "blkbox", "show", "long.trace", "--ops", "--json"]
    with background("env", "--default-signal", *command, cwd=tmp_path) as process:
        assert process.stdout is not None
        start = process.stdout.read(1)  # it writes now, and the pipe is too small for all
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        assert process.returncode == Exit.INTERRUPTED
        rest = process.stdout.read()
    with pytest.raises(json.JSONDecodeError):
        json.loads(start + rest)
