"""The manual pages, and the completion of a shell."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blkbox.main import VERBS
from blkbox.manual import STATUS, pages
from tests.kit.peers import PEER_ENV
from tracer.errors import Exit

COMMITTED = Path(__file__).parents[2] / "docs" / "man"
PAGES = pages()


def test_the_committed_pages_are_those_of_the_source() -> None:
    committed = {path.name: path.read_text() for path in COMMITTED.iterdir()}
    assert committed == PAGES, "run: python -m blkbox.manual docs/man"


def test_every_verb_has_a_page_with_an_example() -> None:
    assert set(PAGES) == {"trace.1", *(f"trace-{verb}.1" for verb in VERBS)}
    for verb in VERBS:
        page = PAGES[f"trace-{verb}.1"]
        assert f"trace\\-{verb} \\- " in page
        assert ".SH EXAMPLES" in page
    assert set(STATUS) == set(Exit)


def test_pages_have_the_options_that_help_has() -> None:
    page = PAGES["trace-replay.1"]
    assert ".B \\-\\-driver" in page
    assert ".B \\-\\-reopen\\-with DRIVER" in page
    assert "BLKBOX_QEMU_NBD" in PAGES["trace.1"]


@pytest.mark.parametrize("name", PAGES)
def test_a_formatter_has_no_complaint(name: str) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z", COMMITTED / name], capture_output=True, check=True
    )
    assert done.stderr == b""


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A folder with the command ``trace``, to be found by a shell."""
    script = tmp_path / "trace"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m blkbox "$@"\n')
    script.chmod(0o755)
    return tmp_path


def complete(command: Path, *words: str) -> list[str]:
    """What bash offers for the last of some words, by the script that ``trace`` prints."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = f"""
        eval "$(trace --show-completion bash)"
        COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
        _trace_completion trace
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{command}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", script],
        capture_output=True, text=True, check=True, env={**PEER_ENV, "PATH": path},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_a_shell_completes_verbs_options_and_choices(command: Path) -> None:
    assert complete(command, "trace", "rep") == ["replay", "report"]
    assert "--reopen-with" in complete(command, "trace", "replay", "--r")
    assert "timeline" in complete(command, "trace", "plot", "")
