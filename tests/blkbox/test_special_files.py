"""Pipes, devices and folders where a file belongs: refused at once, and untouched."""

import os
import stat
from pathlib import Path

import pytest

from blkbox.main import run as trace
from tests.kit.small_disk import write
from tests.kit.system import entries
from tracer.op import Kind, Op

READS = (
    "show {x}", "verify {x}", "history {x} --sector 0", "replay {x} --driver raw", "report {x}",
    "plot timeline {x}", "diff {x} t.trace", "diff t.trace {x}", "cut {x} --to 0 -o new.trace",
    "strip {x} -o new.trace", "checkout {x} -o new.raw", "export {x} -o new.json", "serve {x}",
    "import {x} -o new.trace", "replay t.trace --driver {x}.toml",
)  # fmt: skip

WRITES = (
    "plot timeline t.trace --force -o {x}.png", "report t.trace --force -o {x}.html",
    "cut t.trace --to 0 --force -o {x}", "strip t.trace --force -o {x}",
    "checkout t.trace --force -o {x}", "export t.trace --format perfetto --force -o {x}",
    "generate --force -o {x}",
    "record {x} --driver raw --size 1M --force -- true", "replay t.trace --driver raw --json={x}",
    "record new.trace --driver raw --size 1M --raw {x} -- true",
    "record new.trace --driver raw --size 1M --image {x} -- true",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trace, and a pipe under every name that a verb may ask for."""
    write(tmp_path / "t.trace", [(Op(0, int(Kind.FLUSH)), b"")])
    for suffix in ("", ".png", ".html", ".toml"):
        os.mkfifo(tmp_path / f"pipe{suffix}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it says on stderr."""
    code = trace(line.split())
    return code, capsys.readouterr().err


@pytest.mark.parametrize("line", [*READS, *WRITES])
def test_a_pipe_is_refused_at_once(
    folder: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = entries(folder)
    code, told = run(line.format(x="pipe"), capsys)
    assert code in (200, 201), told
    assert "not a file" in told
    assert told.count("\n") == 1
    assert entries(folder) == before
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_a_device_is_not_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a link to it: a mistake here must not harm the machine."""
    (folder / "device.trace").symlink_to(os.devnull)
    code, told = run("record device.trace --driver raw --size 1M --force -- true", capsys)
    assert (code, told) == (200, "trace: device.trace is not a file: name another file\n")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_payloads_that_are_a_pipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.unlink("t.payloads")
    os.mkfifo("t.payloads")
    code, told = run("checkout t.trace -o new.raw", capsys)
    assert (code, told) == (
        201, "trace: cannot open the payloads t.payloads: it is not a file\n"
    )  # fmt: skip
