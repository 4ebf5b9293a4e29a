"""``trace report`` as a command: where its page goes, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.peers import PEER_ENV, need
from tests.kit.reports import LOST, lost_write
from tests.kit.system import entries
from tracer.text import shell


@pytest.mark.slow
def test_the_page_says_where_it_is_and_is_always_the_same(tmp_path: Path) -> None:
    lost_write(tmp_path)
    done = trace("report", "verdict.json", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {
        "schema": 1, "source": "verdict.json", "trace": "w.trace", "report": "verdict.report.html",
    }  # fmt: skip
    first = (tmp_path / "verdict.report.html").read_bytes()
    assert trace("report", "verdict.json", "--force", cwd=tmp_path).stdout == (
        "report: verdict.report.html\n"
    )
    assert (tmp_path / "verdict.report.html").read_bytes() == first


@pytest.mark.slow
def test_a_verdict_finds_its_trace_beside_it(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    lost_write(bundle, trace="../elsewhere/w.trace")
    assert "bundle/w.trace" in trace("report", "bundle/verdict.json", "--json", cwd=tmp_path).stdout
    (bundle / "w.trace").rename(tmp_path / "other")
    done = trace("report", "bundle/verdict.json", "--force", cwd=tmp_path, expect=200)
    assert done.stderr == (
        "trace: there is no trace ../elsewhere/w.trace: say where it is with --trace\n"
    )
    trace("report", "bundle/verdict.json", "--trace", "other", "--force", cwd=tmp_path)


def test_nothing_is_replaced_unless_asked_for(tmp_path: Path) -> None:
    lost_write(tmp_path)
    (tmp_path / "page.html").write_text("mine")
    done = trace("report", "verdict.json", "-o", "page.html", cwd=tmp_path, expect=200)
    assert "page.html exists" in done.stderr
    (tmp_path / "w.trace").write_bytes((tmp_path / "w.trace").read_bytes()[:200] + b"x" * 200)
    trace("report", "verdict.json", "-o", "page.html", "--force", cwd=tmp_path, expect=201)
    assert (tmp_path / "page.html").read_text() == "mine"
    assert entries(tmp_path) == ["page.html", "verdict.json", "w.payloads", "w.trace"]


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["none.json"], 200, "cannot read none.json: No such file or directory"),
        (["."], 200, "is not a file"),
        (["verdict.json", "-o", "page.pdf"], 200, "must end in .html"),
        (["verdict.json", "-o", "nowhere/page.html"], 200, "there is no folder nowhere"),
        (["w.trace", "--trace", "w.trace"], 200, "--trace goes with a verdict"),
        (
            ["verdict.json", "--trace", "other.trace"],
            200,
            "is not the trace of this verdict: op #1",
        ),
        (
            ["verdict.json", "--trace", "small.trace"],
            200,
            "the verdict is about a disk of 4194304 bytes",
        ),
        (["half.json"], 200, "half.json is not a verdict: it is not JSON, or torn"),
        (["future.json"], 200, "has schema 2"),
        (["w.payloads"], 201, "is not a trace"),
        (["pipe"], 200, "is not a file"),
        (["piped.json"], 200, "there is no trace pipe"),
    ],
)
def test_what_is_refused_is_refused_in_one_line(
    tmp_path: Path, argv: list[str], code: int, told: str
) -> None:
    found = lost_write(tmp_path)
    make_trace(tmp_path / "other.trace", WORKLOAD)
    make_trace(tmp_path / "small.trace", LOST, size=2 << 20)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "half.json").write_text(json.dumps(found)[:100])
    (tmp_path / "future.json").write_text(json.dumps(found | {"schema": 2}))
    (tmp_path / "piped.json").write_text(json.dumps(found | {"trace": "pipe"}))
    before = entries(tmp_path)
    done = trace("report", *argv, cwd=tmp_path, expect=code)
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert entries(tmp_path) == before


WRONG: list[dict[str, Any]] = [
    {"culprit": {"seq": 1}},
    {"damage": [{"sector": 8190, "sectors": 3}]},
    {"damage": "all"},
    {"log": 5},
    {"log": "\ud800"},
    {"runs": -1},
    {"seed": 1 << 64},
    {"confirmed": 1},
    {"command": "trace replay"},
    {"environment": []},
    {"bytes": {"sector": 0, "offset": 0, "expected": "00", "actual": "0"}},
    {"bytes": {"sector": 0, "offset": 0, "expected": "00" * 513, "actual": "00" * 513}},
    {"bytes": {"sector": 0, "offset": 0, "expected": "0000", "actual": "00"}},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
def test_a_verdict_that_is_none_is_refused_by_name(tmp_path: Path, wrong: dict[str, Any]) -> None:
    lost_write(tmp_path, **wrong)
    done = trace("report", "verdict.json", cwd=tmp_path, expect=200)
    assert f"verdict.json is not a verdict: {next(iter(wrong))}" in done.stderr


@pytest.mark.slow
def test_the_style_is_installed_with_the_package(tmp_path: Path) -> None:
    """In a copy: building leaves files beside the source."""
    root = Path(__file__).parents[3]
    for name in ("blkbox", "tracer", "replay", "analysis"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "analysis/report/report.css" in zipfile.ZipFile(wheel).namelist()


def test_a_command_line_comes_back_from_a_shell(tmp_path: Path) -> None:
    need("bash")
    words = [
        "plain",
        "two words",
        "$HOME `id` $(id)",
        "it's",
        '\\ "',
        "\n\t\x1b[31m\x7f",
        "é中",
        "",
    ]
    words += ["\u202egnp'\\", "a\udcffb", "-n", "1\n2"]
    line = shell(words)
    assert line.isprintable()
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, env=PEER_ENV
    )
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == words
