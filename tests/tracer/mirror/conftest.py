"""A mirror on a bench."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracer.mirror.bench import Bench


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "reference.raw"


@pytest.fixture
def bench(image: Path) -> Iterator[Bench]:
    with Bench(image) as bench:
        yield bench
