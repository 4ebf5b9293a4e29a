"""A trace to work on."""

from pathlib import Path

import pytest

from tests.kit.faulty.workload import WORKLOAD, make_trace


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    return make_trace(tmp_path / "w.trace", WORKLOAD)
