"""``trace generate``: a seed becomes a trace that every verb takes."""

import inspect
import json
from pathlib import Path

import pytest

import blkbox
from blkbox.commands.generate import generate
from blkbox.main import run
from replay.generate.profiles import PROFILES
from tests.kit.command import trace
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.op import Conflicts
from tracer.trace.file import Trace


def test_a_trace_is_whole_has_digests_alone_and_says_how_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    made = blkbox.generate(path, seed=8, ops=300, size=1 << 20, profile="conflicts")
    assert entries(tmp_path) == ["t.trace"]
    found, ops = read_trace(path)
    header = found.header
    assert (header.size, header.payloads, header.start_image) == (1 << 20, "hash", "blank")
    assert header.conflicts is Conflicts.SENT
    assert {key: header.profile[key] for key in ("generator", "name", "seed", "ops")} == {
        "generator": 1, "name": "conflicts", "seed": 8, "ops": 300,
    }  # fmt: skip
    assert header.profile["features"] == json.loads(json.dumps(made.features))
    assert found.end is not None
    assert found.end.verdict == "generated"
    with Trace(path) as opened:
        assert made.restarts == len(opened.restarts())
    assert sum(made.ops.values()) == len(ops) == 300
    assert sum(made.bytes.values()) == sum(op.length for op in ops)
    assert made.trace_bytes == path.stat().st_size
    assert blkbox.verify(path).ok


def test_the_same_arguments_give_the_same_file(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        blkbox.generate(tmp_path / name, seed=seed, ops=200)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("size", ["1", "512", "1000001", "15T"])
def test_any_size_replays(tmp_path: Path, size: str) -> None:
    arguments = ("--ops", 150, "--seed", 5, "--size", size)
    trace("generate", "-o", "t.trace", *arguments, cwd=tmp_path)
    trace("replay", "t.trace", "--driver", "raw", "--no-plot", cwd=tmp_path)


def test_what_is_printed(tmp_path: Path) -> None:
    arguments = ("generate", "-o", "t.trace", "--seed", "7", "--ops", "50")
    page = trace(*arguments, cwd=tmp_path).stdout
    assert "profile:  default, seed 7\n" in page
    assert "disk:     64.0 MiB\n" in page
    made = json.loads(trace(*arguments, "--json", "--force", cwd=tmp_path).stdout)
    assert (made["schema"], made["trace"], made["profile"]) == (1, "t.trace", "default")
    assert made["size"] == 64 << 20
    assert sum(made["ops"].values()) == 50


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "calm.toml").write_text('base = "serial"\nread = 0\nclusters = ["1M"]\n')
    arguments = ("generate", "-o", "t.trace", "--profile", "calm.toml", "--ops", "50", "--json")
    made = json.loads(trace(*arguments, cwd=tmp_path).stdout)
    assert made["profile"] == "calm"
    assert (made["features"]["cluster"], made["features"]["depth"]) == (1 << 20, 1)
    assert "read" not in made["ops"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--size 0", "--size 0: an empty disk takes no ops, so there is nothing to generate"),
        ("--size 5E", "--size 5764607523034234880: no disk has that size"),
        ("--size big", "'big' is not a size: write a number of bytes, or 64K, 100M, 16G, 1T"),
        ("--ops 0", "--ops 0: give a number from 1 to 1000000000"),
        ("--seed -1", "--seed -1: give a number from 0 to 9223372036854775807"),
        ("--profile calm.toml", "cannot open calm.toml: No such file or directory"),
        ("-o there", "there exists: name another file, or give --force to replace it"),
        ("-o no/t.trace", "there is no folder no"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("precious")
    assert run(["generate", "-o", "t.trace", *line.split()]) == 200
    assert capsys.readouterr().err == f"trace: {told}\n"
    assert entries(tmp_path) == ["there"]
    assert Path("there").read_text() == "precious"


def test_force_replaces_a_trace_and_its_payloads(tmp_path: Path) -> None:
    for name in ("t.trace", "t.payloads"):
        (tmp_path / name).write_text("old")
    blkbox.generate(tmp_path / "t.trace", ops=10, force=True)
    assert entries(tmp_path) == ["t.trace"]


def test_the_command_and_the_function_have_the_same_defaults() -> None:
    command = inspect.signature(generate).parameters
    function = inspect.signature(blkbox.generate).parameters
    for name in ("seed", "ops", "profile", "force"):
        assert command[name].default == function[name].default


def test_the_help_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    run(["generate", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in PROFILES)
