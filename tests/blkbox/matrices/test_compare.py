"""``trace diff`` of two matrices."""

import json
from pathlib import Path

import numpy as np
import pytest

import blkbox
from blkbox.matrices.compare import interval
from tests.kit.builds import build
from tests.kit.command import trace
from tests.kit.peers import need
from tracer.errors import Exit

SHORT = ["--ops", "60", "--size", "4M", "--profile", "serial", "--timeout", "4", "-q"]


@pytest.mark.slow
def test_what_got_worse_and_what_better(tmp_path: Path) -> None:
    need("nbdkit")
    for name, defect, code in (("a", "good", 0), ("b", "loses", Exit.BAD_DRIVER)):
        build(tmp_path, name, defect)
        trace("matrix", "--generate", "1-3", "--driver", f"{name}/mine.toml", "-o", f"m{name}",
              *SHORT, cwd=tmp_path, expect=code)  # fmt: skip
    # each has one build: they are compared, whatever their names
    worse = trace("diff", "ma", "mb", "--plot", "l.png", cwd=tmp_path, expect=Exit.DIFFERENT)
    assert "3 cells: " in worse.stdout
    assert "worse     seed " in worse.stdout
    assert "clean -> damaged; 0 -> " in worse.stdout
    assert "it got worse" in worse.stdout
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    # a busy machine may make a kind of op slower: that is 1, too
    better = trace("diff", "mb", "ma/matrix.json", "--json", cwd=tmp_path, expect=(0, 1))
    found = json.loads(better.stdout)
    assert {change["how"] for change in found["changes"]} == {"better"}
    assert found["worse"] is any(ratio["how"] == "worse" for ratio in found["latency"])
    same = trace("diff", "ma", "ma", "--json", cwd=tmp_path)
    found = json.loads(same.stdout)
    assert found["changes"] == []
    assert {ratio["how"] for ratio in found["latency"]} == {"alike"}
    assert {ratio["ratio"] for ratio in found["latency"]} == {1.0}
    assert "write" in {ratio["kind"] for ratio in found["latency"]}


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    for name, driver, seed in (("a", "raw", 1), ("b", "raw", 2)):
        blkbox.matrix(drivers=[driver], seeds=range(seed, seed + 1), ops=20, size=1 << 20,
                      out=tmp_path / name)  # fmt: skip
    blkbox.generate(tmp_path / "t.trace", ops=20, size=1 << 20)
    for words, why in (
        (["a", "b"], "have no trace and build in common"),
        (["a", "t.trace"], "t.trace is not a matrix"),
        (["t.trace", "t.trace", "--plot", "p.png"], "--plot draws the latencies of two matrices"),
    ):
        assert why in trace("diff", *words, cwd=tmp_path, expect=Exit.USAGE).stderr


@pytest.mark.parametrize(("factor", "slower"), [(1.0, False), (2.0, True), (0.5, False)])
def test_the_interval_holds_the_ratio(factor: float, slower: bool) -> None:
    dice = np.random.default_rng(1)
    before = [dice.lognormal(10 + trace / 5, 0.3, 300) for trace in range(6)]
    after = [factor * dice.lognormal(10 + trace / 5, 0.3, 300) for trace in range(6)]
    low, high = interval(before, after)
    assert low < factor < high
    assert (low > 1.1) is slower
    assert high - low < 0.3 * factor
