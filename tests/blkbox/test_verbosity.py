"""``-q`` and ``-v``: what stderr has beside the result."""

from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.drivers import toml
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.peers import need


def test_quiet_shows_the_result_and_no_steps(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "write-lost")
    replay = ("replay", "w.trace", "--driver", driver, "--no-plot")
    loud = trace(*replay, cwd=tmp_path, expect=1)
    quiet = trace(*replay, "-q", cwd=tmp_path, expect=1)
    assert "trace: looking at a fresh image\n" in loud.stderr
    assert quiet.stderr == ""
    assert quiet.stdout.splitlines()[0] == loud.stdout.splitlines()[0]


def test_quiet_shows_errors(tmp_path: Path) -> None:
    done = trace("verify", "none.trace", "--quiet", cwd=tmp_path, expect=201)
    assert done.stderr == "trace: cannot open none.trace: No such file or directory\n"


def test_verbose_shows_commands_runs_and_the_driver_s_words(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    serve = [
        "sh",
        "-c",
        "echo 'h\x1b[2Ji' >&2; exec nbdkit -f -U $1 file $0",
        "{image}",
        "{socket}",
    ]
    driver = toml(tmp_path, create=["truncate", "-s", "{size}", "{image}"], serve=serve)
    done = trace("replay", "w.trace", "--driver", driver, "-v", cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert all(line.startswith("trace: ") for line in lines)
    assert any(line.startswith("trace: truncate -s") and "exit status 0" in line for line in lines)
    assert any("nbdkit -f -U" in line for line in lines)
    assert any(line.startswith("trace: run 1 (full): 28 ops, ") for line in lines)
    assert any(line.endswith(" printed: h\\x1b[2Ji") for line in lines)


@pytest.mark.parametrize("verb", ["record", "replay", "show", "doctor", "serve"])
def test_every_verb_takes_them(tmp_path: Path, verb: str) -> None:
    shown = trace(verb, "--help", cwd=tmp_path).stdout
    assert "-v, --verbose" in shown
    assert "-q, --quiet" in shown


def test_both_contradict_each_other(tmp_path: Path) -> None:
    assert "contradict" in trace("doctor", "-q", "-v", cwd=tmp_path, expect=200).stderr
