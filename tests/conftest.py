"""What all tests share: how hypothesis runs, how parameters are named, which tests need peers."""

import os
import tempfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kit.certificates import certificates
from tests.kit.guests import nbdsh, qemu_io
from tests.kit.peers import PEER_ENV, need
from tracer.recording import control

# no deadline: a loaded machine is no reason to fail; the blob makes a failure repeatable anywhere.
# CI tries the same examples every time, so that a change fails for what it changes; `make test`
# looks further.
settings.register_profile(
    "blkbox",
    deadline=None,
    print_blob=True,
    max_examples=100,
    derandomize=os.environ.get("BLKBOX_REQUIRE_PEERS") == "1",
)
settings.load_profile("blkbox")


@pytest.fixture(autouse=True, scope="session")
def _runtime_folder() -> Iterator[None]:
    """A runtime folder for each worker: recordings of one are none of another's business."""
    with tempfile.TemporaryDirectory(prefix="blkbox-tests-") as folder:
        PEER_ENV["XDG_RUNTIME_DIR"] = os.environ["XDG_RUNTIME_DIR"] = folder
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test may write a trace."""
    return tmp_path / "some.trace"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder for each test alone, with a short name and with a long one below it."""
    with tempfile.TemporaryDirectory(prefix="blkbox-test-") as folder:
        path = Path(folder) / ("long-" * 30)
        path.mkdir(mode=0o700)
        for environment in (os.environ, PEER_ENV):
            monkeypatch.setitem(environment, "XDG_RUNTIME_DIR", str(path))  # type: ignore[arg-type]
            monkeypatch.setitem(environment, "TMPDIR", folder)  # type: ignore[arg-type]
            monkeypatch.delitem(environment, control.VARIABLE, raising=False)  # type: ignore[arg-type]
        yield path


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Names for what pytest would show as long byte strings and bare numbers."""
    if isinstance(val, bytes):
        return f"{len(val)}B"
    return val.name if isinstance(val, Enum) else None


ASK_FOR_PEERS = (need, qemu_io, nbdsh, certificates)
"""What skips a test where a real program is not installed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of modules that ask for real programs as ``peer``."""
    for item in items:
        if isinstance(item, pytest.Function):
            names = vars(item.module).values()
            if any(value is asks for value in names for asks in ASK_FOR_PEERS):
                item.add_marker("peer")
