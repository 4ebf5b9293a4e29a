"""What all verbs have in common: help, and what it costs."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.peers import peer


@pytest.mark.parametrize(
    "verb", ["record", "replay", "show", "verify", "import", "export", "doctor"]
)
def test_every_verb_has_help_with_an_example(tmp_path: Path, verb: str) -> None:
    assert "Example: " in trace(verb, "--help", cwd=tmp_path).stdout


def test_help_does_not_load_what_it_does_not_need(tmp_path: Path) -> None:
    code = (
        "import sys, blkbox.main; blkbox.main.run(['--help']); "
        "sys.exit(sum(m in sys.modules for m in ('polars', 'matplotlib', 'numpy', 'zstandard')))"
    )
    peer(sys.executable, "-c", code, cwd=tmp_path)


@pytest.mark.parametrize("argv", [["-m", "blkbox"], [Path(sys.executable).with_name("trace")]])
def test_a_folder_of_the_user_s_is_not_taken_for_ours(tmp_path: Path, argv: list[object]) -> None:
    for package in ("analysis", "replay", "tracer"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('not ours')")
    if isinstance(argv[0], Path) and not argv[0].exists():
        pytest.skip("blkbox is not installed")
    shown = peer(sys.executable, *argv, "--version", cwd=tmp_path)
    assert shown == f"blkbox {version('blkbox')}\n"
