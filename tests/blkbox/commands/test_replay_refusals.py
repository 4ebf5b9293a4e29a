"""What ``trace replay`` and others that read a trace refuse: bad traces and bad options."""

import json
import shutil
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.peers import need
from tracer.files import is_ours
from tracer.op import Kind


@pytest.mark.parametrize("verb", [["replay", "--driver", "raw"], ["show"], ["verify"]])
def test_no_such_trace(tmp_path: Path, verb: list[str]) -> None:
    done = trace(*verb, "none.trace", cwd=tmp_path, expect=201)
    assert done.stderr == "trace: cannot open none.trace: No such file or directory\n"


@pytest.mark.parametrize("verb", [["replay", "--driver", "raw"], ["show"], ["verify"]])
@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 5000, b"not a trace at all\n", b"\xc1\xff" * 999]
)
def test_random_bytes(tmp_path: Path, verb: list[str], content: bytes) -> None:
    (tmp_path / "bad.trace").write_bytes(content)
    done = trace(*verb, "bad.trace", cwd=tmp_path, expect=201)
    assert done.stderr == "trace: bad.trace is not a trace: it has no header\n"


def test_a_truncated_trace_replays_as_far_as_it_goes(tmp_path: Path, workload: Path) -> None:
    workload.write_bytes(workload.read_bytes()[:-150])
    done = trace("verify", "w.trace", cwd=tmp_path, expect=201)
    assert "not closed" in done.stdout
    assert "cut off" in done.stdout
    verdict = json.loads(
        trace("replay", "w.trace", "--driver", "raw", "--json", cwd=tmp_path).stdout
    )
    assert (verdict["verdict"], verdict["ops"], verdict["replayed_ops"]) == ("clean", 27, 27)


def test_a_damaged_record_is_named_by_its_place(tmp_path: Path, workload: Path) -> None:
    content = bytearray(workload.read_bytes())
    content[-108 * 5] ^= 0xFF
    workload.write_bytes(content)
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert f"at byte {len(content) - 108 * 5}" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_payloads(tmp_path: Path, workload: Path) -> None:
    (tmp_path / "w.payloads").unlink()
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert done.stderr.startswith("trace: cannot open the payloads w.payloads")
    done = trace("verify", "w.trace", cwd=tmp_path, expect=201)
    assert "cannot open the payloads" in done.stdout


def test_cut_payloads(tmp_path: Path, workload: Path) -> None:
    store = tmp_path / "w.payloads"
    store.write_bytes(store.read_bytes()[:-10])
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert "missing" in done.stderr
    done = trace("verify", "w.trace", "--json", cwd=tmp_path, expect=201)
    assert json.loads(done.stdout)["missing"] > 0


def test_payloads_of_another_trace(tmp_path: Path, workload: Path) -> None:
    other = make_trace(tmp_path / "other.trace", WORKLOAD)
    shutil.copy(other.with_suffix(".payloads"), tmp_path / "w.payloads")
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert "belongs to another trace" in done.stderr


def test_a_trace_that_contradicts_itself_is_a_bad_trace_not_a_bad_driver(tmp_path: Path) -> None:
    path = make_trace(tmp_path / "w.trace", [(Kind.READ, 0, 512, 0)])
    content = bytearray(path.read_bytes())
    content[-108 - 1] ^= 1  # the digest of what the read returned
    path.write_bytes(content)
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert "the trace is not complete" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--driver", "nosuch"],
        ["--driver", "raw", "--depth", "0"],
        ["--driver", "raw", "--depth", "deep"],
        ["--driver", "raw", "--timeout", "0"],
        ["--driver", "raw", "--plot", "p.gif"],
        ["--driver", "raw", "--plot", "nowhere/p.png"],
        ["--driver", "raw", "--plot", "w.png", "--no-plot"],
        ["--driver", "none.toml"],
        ["--driver", "http://localhost/"],
        ["--driver", "nbd+unix:///"],
        ["--driver", "raw", "--bogus"],
    ],
)
def test_usage_errors_are_one_line(tmp_path: Path, workload: Path, arguments: list[str]) -> None:
    done = trace("replay", "w.trace", *arguments, cwd=tmp_path, expect=200)
    assert done.stderr.startswith("trace: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_the_plot_is_beside_the_trace_and_the_next_replay_replaces_it(
    tmp_path: Path, workload: Path
) -> None:
    need("nbdkit")
    driver = write_driver(tmp_path, "write-lost")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture = tmp_path / "w.damage.png"
    arguments = ("replay", "../w.trace", "--driver", driver, "--json", "--no-locate")
    for _ in range(2):
        found = json.loads(trace(*arguments, cwd=elsewhere, expect=1).stdout)
        assert found["plot"] == "../w.damage.png"
        assert is_ours(picture)
        first = picture.stat().st_ino
    picture.write_bytes(b"\x89PNG and not ours")
    trace(*arguments, cwd=elsewhere, expect=200)
    assert picture.read_bytes() == b"\x89PNG and not ours"
    trace(*arguments, "--force", cwd=elsewhere, expect=1)
    assert picture.stat().st_ino != first
    assert list(elsewhere.iterdir()) == []


def test_an_existing_plot_is_kept(tmp_path: Path, workload: Path) -> None:
    (tmp_path / "p.png").write_text("precious")
    done = trace(
        "replay", "w.trace", "--driver", "raw", "--plot", "p.png", cwd=tmp_path, expect=200
    )
    assert "p.png exists" in done.stderr
    assert (tmp_path / "p.png").read_text() == "precious"
