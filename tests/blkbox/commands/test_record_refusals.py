"""What ``trace record`` refuses, and that it leaves nothing behind."""

from pathlib import Path

import pytest

from blkbox.main import run
from tests.kit.command import finish, recording, trace
from tests.kit.guests import qemu_io
from tests.kit.system import entries
from tests.kit.traces import kinds, read_trace
from tracer.errors import Exit


@pytest.mark.parametrize("name", ["t.trace", "t.payloads"])
def test_what_exists_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", "1M", "--", "true",
        cwd=tmp_path, expect=Exit.USAGE,
    )  # fmt: skip
    assert f"{name} exists: name another file, or give --force" in done.stderr
    assert (tmp_path / name).read_text() == "precious"
    assert entries(tmp_path) == [name]


def test_what_exists_is_replaced_by_force(tmp_path: Path) -> None:
    for name in ("t.trace", "t.payloads"):
        (tmp_path / name).write_text("old" * 10_000)
    trace(
        "record", "t.trace", "--driver", "raw", "--size", "1M", "--force", "--",
        *qemu_io("write 0 512"),
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


@pytest.mark.parametrize("size", ["-512", "abc", "", "8192P", "99999999999P"])
def test_sizes_that_no_disk_has(refused: Refused, size: str) -> None:
    refused("t.trace", "--driver", "raw", f"--size={size}")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--driver", "qcow3"], "unknown driver 'qcow3'"),
        (["--driver", "nbd+vsock://1"], "nbd+vsock:// is not supported"),
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
        finish(process)


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    options = ["--driver", "raw", "--size", "1M", "--listen", f"unix:{tmp_path / 's'}"]
    with recording("a.trace", *options, cwd=tmp_path) as (process, _):
        done = trace("record", "b.trace", *options, "--", "true", cwd=tmp_path, expect=Exit.USAGE)
        assert "Address already in use" in done.stderr
        assert (tmp_path / "s").exists()  # the other's
        assert not [name for name in entries(tmp_path) if name.startswith("b.")]
        assert "verdict:" in finish(process)[1]
