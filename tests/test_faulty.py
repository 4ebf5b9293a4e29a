"""Builds with known defects: the right op is named, the right verdict is given."""

import json
from pathlib import Path

import pytest

from tests.faulty.workload import DEFECTS, WORKLOAD, make_trace, write_driver
from tests.support import need, trace


@pytest.fixture(autouse=True)
def _nbdkit() -> None:
    need("nbdkit")


def test_without_a_defect_the_plugin_is_clean(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "none")
    done = trace("replay", "w.trace", "--driver", driver, "--json", cwd=tmp_path)
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["culprit"], verdict["damage"]) == ("clean", None, [])
    assert verdict["ops"] == verdict["replayed_ops"] == len(WORKLOAD)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("payloads", ["full", "hash"])
@pytest.mark.parametrize("defect", DEFECTS)
def test_the_culprit_is_named(tmp_path: Path, defect: str, payloads: str) -> None:
    expected = DEFECTS[defect]
    if payloads == "hash" and expected.verdict == "failed":
        pytest.skip("bytes play no part in this defect")
    make_trace(tmp_path / "w.trace", WORKLOAD, payloads=payloads)
    driver = write_driver(tmp_path, defect)
    done = trace(
        *("replay", "w.trace", "--driver", driver, "--json", "--no-plot", "--timeout", "2"),
        cwd=tmp_path,
        expect=1,
    )
    verdict = json.loads(done.stdout)
    assert verdict["verdict"] == expected.verdict, verdict["reason"]
    assert verdict["culprit"] is not None, verdict["reason"]
    kind, offset, length, _ = WORKLOAD[expected.culprit]
    found = verdict["culprit"]
    assert (found["seq"], found["kind"]) == (expected.culprit, kind.label)
    assert (found["offset"], found["length"]) == (offset, length)
    assert verdict["confirmed"]
    if expected.damage:
        own = [(one["sector"], one["sectors"]) for one in verdict["culprit_damage"]]
        assert own == list(expected.damage)


def test_a_fault_that_shows_in_some_runs_only_is_tried_again(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "chance")
    done = trace("replay", "w.trace", "--driver", driver, "--json", "--no-plot", cwd=tmp_path, expect=1)
    verdict = json.loads(done.stdout)
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (17, True)
    assert verdict["tries"] > 1
