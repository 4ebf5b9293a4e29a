"""A matrix on a real Dask scheduler with two worker processes."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import blkbox
from tests.kit.builds import build, killing
from tests.kit.command import trace
from tests.kit.dask import cluster
from tests.kit.peers import background, need
from tests.kit.system import PATIENCE
from tracer.errors import Exit
from tracer.rework.pack import pack

pytestmark = pytest.mark.slow

SHORT = ["--ops", "60", "--size", "4M", "--profile", "serial", "--timeout", "4"]


def builds(*names: str) -> list[str]:
    return [word for name in names for word in ("--driver", name)]


def verdicts(found: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(cell["trace"], cell["build"]): cell["verdict"] for cell in found["cells"]}


def test_cells_on_workers_have_the_verdicts_of_cells_here(tmp_path: Path) -> None:
    need("nbdkit")
    drivers = [str(tmp_path / build(tmp_path, name)) for name in ("good", "loses")]
    drivers.append(str(tmp_path / killing(tmp_path)))
    words = ["--generate", "1-3", *builds(*drivers), *SHORT, "--json"]
    with cluster(tmp_path) as (address, _):
        there = trace("matrix", *words, "--dask", address, "-o", "there", cwd=tmp_path,
                      expect=Exit.BAD_DRIVER)  # fmt: skip
    here = trace("matrix", *words, "-o", "here", cwd=tmp_path, expect=Exit.BAD_DRIVER)
    assert verdicts(json.loads(there.stdout)) == verdicts(json.loads(here.stdout))
    assert set(verdicts(json.loads(there.stdout)).values()) == {"clean", "damaged", "undecidable"}
    assert {path.name for path in (tmp_path / "there" / "cells").iterdir()} == {
        path.name for path in (tmp_path / "here" / "cells").iterdir()
    }


def test_a_lost_worker_is_told_and_its_cell_runs_twice(tmp_path: Path) -> None:
    need("nbdkit")
    waits = str(tmp_path / build(tmp_path, "waits"))
    words = ["--generate", "1-6", *builds("raw", waits), *SHORT, "--timeout", "120"]
    with (
        cluster(tmp_path) as (address, workers),
        background(sys.executable, "-m", "blkbox", "matrix", *words, "--dask", address, "-o", "m",
                   cwd=tmp_path) as process,
    ):  # fmt: skip
        # both workers are in a cell
        while len(list((tmp_path / "waits").glob("waits-*"))) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        workers[0].kill()
        workers[0].wait(PATIENCE)
        (tmp_path / "waits" / "go").touch()
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert "12 of 12 cells: 12 clean" in out
    assert "1 cell ran more than once, since a worker was lost:" in out
    cells = json.loads((tmp_path / "m" / "matrix.json").read_text())["cells"]
    [twice] = [cell for cell in cells if cell["begun"] != 1]
    assert (twice["build"], twice["begun"]) == (waits, 2)
    assert f"  {twice['trace']} on {waits}, 2 times" in out


def test_traces_and_builds_by_url(tmp_path: Path) -> None:
    need("nbdkit")
    pytest.importorskip("fsspec")
    (tmp_path / "shelf").mkdir()
    for seed in (1, 2):
        blkbox.generate(tmp_path / "shelf" / f"t{seed}.trace", seed=seed, ops=60, size=4 << 20)
    blkbox.record(tmp_path / "shelf" / "real.trace", driver="raw", size=1 << 20,
                  command=["qemu-io", "-f", "raw", "-c", "write -P 7 4k 8k", "{nbd}"],
                  raw=tmp_path / "r.raw")  # fmt: skip
    pack(tmp_path / "shelf")
    build(tmp_path, "loses")
    shelf, url = f"file://{tmp_path}/shelf", f"file://{tmp_path}/loses/mine.toml"
    with cluster(tmp_path) as (address, _):
        done = trace("matrix", shelf, *builds("raw", url), "--timeout", "4", "--json", "--dask",
                     address, cwd=tmp_path, expect=Exit.BAD_DRIVER)  # fmt: skip
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["traces"]] == ["real", "t1", "t2"]
    assert {v for (_, name), v in verdicts(found).items() if name == "raw"} == {"clean"}
    local = trace("matrix", "shelf", *builds("loses/mine.toml"), "--timeout", "4", "--json",
                  "-o", "local", cwd=tmp_path, expect=Exit.BAD_DRIVER)  # fmt: skip
    assert [v for (_, name), v in verdicts(found).items() if name == url] == list(
        verdicts(json.loads(local.stdout)).values()
    )


def test_no_scheduler_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("blkbox.matrices.cluster.CONNECT", 1.0)
    with pytest.raises(blkbox.BlkboxError, match="no scheduler answers there"):
        blkbox.matrix(drivers=["raw"], seeds=range(1), dask="tcp://127.0.0.1:9", out=tmp_path / "m")


def test_a_lost_scheduler_ends_the_matrix_which_goes_on_later(tmp_path: Path) -> None:
    need("nbdkit")
    waits = str(tmp_path / build(tmp_path, "waits"))
    words = ["--generate", "1-2", *builds("raw", waits), *SHORT, "--timeout", "120", "-o", "m"]
    with (
        cluster(tmp_path) as (address, _),
        background(sys.executable, "-m", "blkbox", "matrix", *words, "--dask", address,
                   cwd=tmp_path) as process,
    ):  # fmt: skip
        while len(list((tmp_path / "waits").glob("waits-*"))) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        done = len(list((tmp_path / "m" / "cells").glob("*.json")))
        os.kill(int((tmp_path / "scheduler.pid").read_text()), signal.SIGKILL)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == Exit.STORAGE
    assert err == f"trace: the scheduler at {address} is lost\n"
    (tmp_path / "waits" / "go").touch()
    again = json.loads(trace("matrix", *words, "--json", cwd=tmp_path).stdout)
    assert set(verdicts(again).values()) == {"clean"}
    assert sum(cell["kept"] for cell in again["cells"]) == done
