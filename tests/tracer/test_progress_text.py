"""All that blkbox says on stderr goes through one function, which shows no control characters."""

import re
from pathlib import Path

import pytest

from tracer.progress import Talk, step, talking, tell

ROOT = Path(__file__).resolve().parents[2]


def test_lines_keep_their_ends_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    tell("driver:\n\x1b[2J\u202e\rgone")
    with talking(Talk.STEPS):
        step("trying \x9b1m")
    said = capsys.readouterr().err
    assert said == "driver:\n\\x1b[2J\\u202e\\rgone\ntrace: trying \\x9b1m\n"


def test_nobody_else_prints_there() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("tracer", "replay", "analysis", "blkbox")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"print\([^\n]*file=sys.stderr", path.read_text())
    }
    assert found == {"tracer/progress.py", "blkbox/output.py"}  # the latter: an errno's words
