"""Every verb that writes a file, on a full disk: one line that names the file, and nothing left."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import mounts
from tests.kit.command import trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.system import entries
from tracer.errors import Exit

REASON = "No space left on device"

VERBS = {
    **{f"plot {kind} {suffix}": ["plot", kind, "w.trace", "-o", f"x.{suffix}"]
       for kind, suffix in (("timeline", "png"), ("latency", "svg"), ("throughput", "pdf"),
                            ("sizes", "png"), ("heatmap", "svg"))},
    **{f"export {suffix}": ["export", "w.trace", "-o", f"x.{suffix}"]
       for suffix in ("parquet", "arrow", "json", "fio", "log")},
    "report": ["report", "w.trace", "-o", "x.html"],
    "checkout": ["checkout", "w.trace", "-o", "x.raw"],
    "cut": ["cut", "w.trace", "-o", "x.trace", "--from", "2"],
    "strip": ["strip", "w.trace", "-o", "x.trace"],
    "generate": ["generate", "-o", "x.trace"],
    "import": ["import", "w.log", "-o", "x.trace"],
    "plot damage": ["plot", "damage", "v.json", "-o", "x.png"],
    "report of a verdict": ["report", "v.json", "-o", "x.html"],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace, a log to import, and a verdict with damage."""
    folder = tmp_path_factory.mktemp("made")
    make_trace(folder / "w.trace", WORKLOAD)
    trace("export", "w.trace", "-o", "w.log", cwd=folder)
    driver = write_driver(folder, "write-lost", "server")
    trace(
        "replay", "w.trace", "--driver", driver, "--json", "v.json", "--no-plot",
        cwd=folder, expect=1,
    )  # fmt: skip
    assert json.loads((folder / "v.json").read_text())["damage"]
    return folder


@pytest.fixture
def full() -> Iterator[Path]:
    """A file system with 1 KiB left: a folder can be made, and no file of any length written."""
    with mounts.small(64) as folder:
        (folder / "filler").touch()
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(1024)):
                    pass
            except OSError:
                yield folder


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_one_line_and_leaves_nothing(made: Path, full: Path, verb: str) -> None:
    words = [str(full / word) if word.startswith("x.") else word for word in VERBS[verb]]
    done = trace(*words, cwd=made, expect=Exit.STORAGE)
    [line] = done.stderr.splitlines()
    [target] = [word for word in words if word.startswith(f"{full}/")]
    stems = {target, os.path.splitext(target)[0] + ".payloads"}
    assert any(line == f"trace: cannot write {stem}: {REASON}" for stem in stems), line
    assert done.stdout == ""
    assert entries(full) == ["filler"]
