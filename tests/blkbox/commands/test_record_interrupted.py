"""``trace record``, interrupted before its guests are served or after they are done."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.drivers import toml
from tests.kit.guests import qemu_io
from tests.kit.peers import background, need
from tests.kit.processes import children, is_gone
from tests.kit.system import PATIENCE, entries, wait_until
from tests.kit.traces import read_trace
from tracer.driver.spec import parse_driver
from tracer.errors import Exit
from tracer.mirror.reads import Reads
from tracer.op import Kind
from tracer.recording.options import RecordOptions
from tracer.recording.session import record

pytestmark = pytest.mark.slow

SIZE = 1024 * MIB

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def driver(folder: Path) -> str:
    """A driver that takes minutes to read its disk."""
    need("nbdkit")
    serve = ["nbdkit", "--foreground", "--unix={socket}", "--filter=delay", "file", "{image}"]
    create = ["truncate", "-s", "{size}", "{image}"]
    return toml(folder, create=create, serve=[*serve, "delay-read=3"])


@contextmanager
def comparing(
    folder: Path, *options: str, guest: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A recording whose guest is done; it has written 4 KiB, if no other is given."""
    command = [sys.executable, "-m", "blkbox", "record", "t.trace", "--driver", driver(folder)]
    command += ["--size", str(SIZE), "--trust-start", "--json", *options]
    command += ["--", *(guest or qemu_io("write -P 1 0 4k"))]
    with background("env", "--default-signal", *command, cwd=folder) as process:

        def flushed() -> bool:
            path = folder / "t.trace"
            ops = read_trace(path)[1] if path.exists() and path.stat().st_size else []
            return any(op.kind == Kind.FLUSH and not op.connection for op in ops)

        wait_until(flushed)  # by the recorder, which compares the images next
        yield process


def end(process: subprocess.Popen[str]) -> tuple[int, dict[str, object]]:
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, json.loads(out[out.index("{\n") :])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_comparison_that_is_interrupted_gives_a_verdict_for_what_was_compared(
    tmp_path: Path, number: signal.Signals
) -> None:
    with comparing(tmp_path) as process:
        offspring = children(process.pid)
        process.send_signal(number)
        process.send_signal(number)
        code, found = end(process)
    assert code == 128 + number, found
    assert (found["verdict"], found["interrupted"]) == ("undecidable", number.name)
    reason = str(found["reason"])
    assert reason.startswith(f"interrupted by {number.name} at the end: ")
    assert "compared" in reason
    assert reason.endswith(", no difference")
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.end is not None
    assert (opened.end.verdict, opened.end.ops) == ("undecidable", len(ops))
    trace("verify", "t.trace", cwd=tmp_path)
    assert all(map(is_gone, offspring))


def test_a_difference_from_before_the_interruption_counts(tmp_path: Path) -> None:
    with (tmp_path / "t.test.img").open("wb") as image:
        image.write(b"x" * 4096)
        image.truncate(SIZE)
    guest = qemu_io("write -P 1 64k 4k", "read 0 4k")
    with comparing(tmp_path, "--on-mismatch", "continue", guest=guest) as process:
        process.send_signal(signal.SIGTERM)
        code, found = end(process)
    assert (code, found["verdict"], found["interrupted"]) == (1, "damaged", "SIGTERM")
    reason = "the test image differs from the reference; interrupted by SIGTERM at the end: "
    assert str(found["reason"]).startswith(reason)


def test_a_difference_that_the_comparison_had_found_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 16 << 20  # more reads than are in flight at a time
    (tmp_path / "t.test.raw").write_bytes(b"x" * 4096 + bytes(size - 4096))
    done, seen = Reads._done, []

    def interrupt(self: Reads, piece: tuple[int, int, bool], *answer: Any) -> None:
        done(self, piece, *answer)
        seen.append(piece)
        if piece[0] == 0:  # where the difference is
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Reads, "_done", interrupt)
    options = RecordOptions(
        tmp_path / "t.trace", parse_driver("raw"), size=size, trust_start=True,
        command=tuple(qemu_io("write 64k 4k")), handle_signals=True,
    )  # fmt: skip
    found = record(options, lambda _: None)
    assert (found.exit_code, found.verdict, found.interrupted) == (1, "damaged", "SIGINT")
    assert [(one.sector, one.sectors) for one in found.damage] == [(0, 8)]
    assert max(end for _, end, _ in seen) < size
    assert len(read_trace(tmp_path / "t.trace")[0].mismatches) == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_a_recording_that_is_interrupted_before_it_serves_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "blkbox", "record", "t.trace", "--driver", driver(tmp_path)]
    command += ["--size", str(SIZE), "--", "true"]
    with background("env", "--default-signal", *command, cwd=tmp_path) as process:
        wait_until(lambda: len(children(process.pid)) == 2)  # the driver and its guard
        offspring = children(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert (out, err) == ("", f"trace: interrupted by {number.name}\n")
    assert entries(tmp_path) == ["mine.toml"]
    assert all(map(is_gone, offspring))


def test_an_old_trace_survives_a_start_that_is_interrupted(tmp_path: Path) -> None:
    for name in ("t.trace", "t.payloads"):
        (tmp_path / name).write_text("old")
    command = [sys.executable, "-m", "blkbox", "record", "t.trace", "--driver", driver(tmp_path)]
    command += ["--size", str(SIZE), "--force", "--", "true"]
    with background("env", "--default-signal", *command, cwd=tmp_path) as process:
        wait_until(lambda: len(children(process.pid)) == 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == Exit.INTERRUPTED
    assert [(tmp_path / name).read_text() for name in ("t.trace", "t.payloads")] == ["old", "old"]
