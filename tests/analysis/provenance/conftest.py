"""Disks with a known history."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.provenance.history import HISTORY, SIZE, Make
from tests.kit.damage import Disk, Request, write_trace


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a disk with a history; closed afterwards."""
    disks = []

    def make(requests: list[Request] = HISTORY, **options: Any) -> Disk:
        disks.append(Disk(write_trace(tmp_path / "t.trace", requests, size=SIZE, **options)))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


@pytest.fixture(params=["full", "hash"])
def disk(make: Make, request: pytest.FixtureRequest) -> Disk:
    """The history above, with payloads and with digests alone."""
    return make(payloads=request.param)
