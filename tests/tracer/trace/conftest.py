"""A small trace."""

from pathlib import Path

import pytest

from tests.tracer.trace.samples import SOME, write
from tracer.trace.records import End


@pytest.fixture
def good(path: Path) -> bytes:
    """The bytes of a small trace that was closed."""
    return write(path, [*SOME, End(7, 1, 40, "damaged")]).read_bytes()
