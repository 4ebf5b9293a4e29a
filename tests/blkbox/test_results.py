"""One run gives text, JSON, a report and a picture; an error is JSON too."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.peers import need
from tracer.problem import Failure
from tracer.verdict import Recording, Verdict
from tracer.verdict_schema import schema


def test_a_replay_gives_text_and_files(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "write-lost")
    arguments = ("--json", "v.json", "--report", "r.html", "--no-locate")
    done = trace("replay", "w.trace", "--driver", driver, *arguments, cwd=tmp_path, expect=1)
    assert done.stdout.startswith("verdict:  damaged")
    assert done.stdout.endswith("json:     v.json\nreport:   r.html\n")
    found = json.loads((tmp_path / "v.json").read_text())
    jsonschema.validate(found, schema(Verdict))
    assert (found["verdict"], found["plot"]) == ("damaged", "w.damage.png")
    assert "<html" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "w.damage.png").exists()


def test_a_recording_gives_text_and_files(tmp_path: Path) -> None:
    need("qemu-io")
    done = trace(
        *("record", "t.trace", "--driver", "raw", "--size", "1M"),
        *("--json=found", "--report", "r.html"),
        *("--", "qemu-io", "-f", "raw", "-c", "write 0 4k", "{nbd}"),
        cwd=tmp_path,
    )
    assert "verdict:  clean" in done.stdout
    jsonschema.validate(json.loads((tmp_path / "found").read_text()), schema(Recording))
    assert "<html" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    "files",
    [
        ["--json", "taken.json"],
        ["--json=w.trace"],
        ["--json", "same.json", "--report", "same.json"],
        ["--json=same.html", "--report", "same.html"],
        ["--json=w.damage.png", "--force"],
        ["--json=w.payloads", "--force"],
        ["--report", "r.pdf"],
        ["--report", "nowhere/r.html"],
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_the_replay(
    tmp_path: Path, files: list[str]
) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    (tmp_path / "taken.json").write_text("precious")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = trace("replay", "w.trace", "--driver", "raw", *files, cwd=tmp_path, expect=200)
    assert done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_cannot_be_written_does_not_lose_the_verdict(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    arguments = ("--json", "gone/v.json", "--report", "r.html")
    (tmp_path / "gone").mkdir()
    watcher = tmp_path / "driver.toml"
    need("nbdkit")
    # the driver removes the folder while the replay runs
    watcher.write_text(
        'create = ["sh", "-c", "truncate -s $1 $0; rmdir gone", "{image}", "{size}"]\n'
        'serve = ["nbdkit", "--foreground", "--unix", "{socket}", "file", "{image}"]\n'
    )
    done = trace("replay", "w.trace", "--driver", watcher, *arguments, cwd=tmp_path, expect=202)
    assert done.stdout.startswith("verdict:  clean")
    assert "cannot write gone/v.json" in done.stderr
    assert "<html" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("argv", "code", "kind", "hint"),
    [
        (["replay", "--json"], 200, "usage", "trace replay --help"),
        (["verify", "none.trace", "--json"], 201, "bad-trace", None),
        (["replay", "w.trace", "--driver", "qcow2@/nowhere", "--json"], 125, "undecidable", None),
        (["show", "--json", "--bogus"], 200, "usage", "trace show --help"),
    ],
)
def test_an_error_is_json_too(
    tmp_path: Path, argv: list[str], code: int, kind: str, hint: str | None
) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    done = trace(*argv, cwd=tmp_path, expect=code)
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema(Failure))
    error = found["error"]
    assert (error["code"], error["exit"], error["hint"]) == (kind, code, hint)
    assert done.stderr.startswith(f"trace: {error['message']}")


def test_an_error_without_json_prints_nothing_on_stdout(tmp_path: Path) -> None:
    done = trace("replay", "none.trace", "--driver", "raw", "--json", "v.json",
                 cwd=tmp_path, expect=201)  # fmt: skip
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
