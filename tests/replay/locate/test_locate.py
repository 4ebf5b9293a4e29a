"""What finding a culprit costs, and what it does about faults that do not show in every run."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import KIB, TOGETHER, WORKLOAD, make_trace, write_driver
from tests.kit.peers import need
from tracer.op import Kind

pytestmark = pytest.mark.slow

LONG = [(Kind.WRITE, at % 512 * 8 * KIB, 4 * KIB, 0) for at in range(2000)]


@pytest.fixture(autouse=True)
def _nbdkit() -> None:
    need("nbdkit")


def replayed(folder: Path, defect: str, *options: str) -> dict[str, Any]:
    driver = write_driver(folder, defect)
    arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-plot", *options)
    found: dict[str, Any] = json.loads(trace(*arguments, cwd=folder, expect=1).stdout)
    return found


@pytest.mark.parametrize("place", [0, 700, 1990])
def test_live_damage_takes_two_passes(tmp_path: Path, place: int) -> None:
    """Whatever the length, and wherever the culprit is: here a write at a place that others do not
    touch, in a trace without a read."""
    requests = [*LONG[:place], (Kind.WRITE, 20 * KIB, 4 * KIB, 0), *LONG[place:]]
    make_trace(tmp_path / "w.trace", requests)
    verdict = replayed(tmp_path, "write-lost")
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (place, True)
    search = verdict["replayed_ops"] - verdict["confirm_ops"]
    assert len(requests) < search <= 2.2 * len(requests)


@pytest.mark.parametrize("place", [3, 700, 1990])
def test_damage_that_shows_after_a_restart_takes_three(tmp_path: Path, place: int) -> None:
    requests = [*LONG[:place], (Kind.WRITE, 20 * KIB, 4 * KIB, 0), *LONG[place:]]
    make_trace(tmp_path / "w.trace", requests)
    verdict = replayed(tmp_path, "lost-on-close")
    assert (verdict["symptom"], verdict["culprit"]["seq"]) == ("reopen", place)
    assert verdict["confirmed"]
    assert verdict["replayed_ops"] - verdict["confirm_ops"] <= 3 * len(requests)


def test_a_failed_check_takes_three(tmp_path: Path) -> None:
    requests = [*LONG[:1200], (Kind.ZERO, 0, 4 * KIB, 0), *LONG[1200:]]
    make_trace(tmp_path / "w.trace", requests)
    verdict = replayed(tmp_path, "check-only")
    assert (verdict["symptom"], verdict["culprit"]["seq"]) == ("check", 1200)
    assert verdict["replayed_ops"] - verdict["confirm_ops"] <= 3 * len(requests)


def test_runs_until_it_shows_and_says_how_often(tmp_path: Path) -> None:
    """The coin of the defect "chance" is thrown at every start of the driver."""
    make_trace(tmp_path / "w.trace", WORKLOAD)
    (tmp_path / "starts").write_bytes(b"." * 1)  # so that the first run falls on the good side
    verdict = replayed(tmp_path, "chance", "--runs", "5")
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (17, True)
    assert verdict["detected"] > 1
    assert 0 < verdict["shown"] < verdict["tries"]
    assert verdict["tries"] >= 5
    assert verdict["clean_without"] >= 5


def test_one_clean_run_is_clean_unless_more_are_asked_for(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    (tmp_path / "starts").write_bytes(b"." * 1)
    driver = write_driver(tmp_path, "chance")
    done = trace("replay", "w.trace", "--driver", driver, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] == "clean"


def test_an_order_that_was_not_recorded_shows_it_and_its_seed_again(tmp_path: Path) -> None:
    """The defect needs a write to be sent before zeroes beside it; #5 was recorded after those of
    #4."""
    requests = TOGETHER[:8] + TOGETHER[10:]
    make_trace(tmp_path / "w.trace", requests, together=2)
    driver = write_driver(tmp_path, "write-lost-beside-zero", "server")
    trace("replay", "w.trace", "--driver", driver, "--no-plot", cwd=tmp_path)
    arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-plot")
    found = json.loads(trace(*arguments, "--runs", "8", cwd=tmp_path, expect=1).stdout)
    assert (found["culprit"]["seq"], found["confirmed"], found["needs_company"]) == (5, True, True)
    assert found["seed"] > 0
    assert found["detected"] == found["seed"] + 1  # every other run keeps the recorded order
    again = (*arguments, "--seed", str(found["seed"]), "--no-locate")
    assert json.loads(trace(*again, cwd=tmp_path, expect=1).stdout)["detected"] == 1


def test_another_build_reads_what_one_wrote(tmp_path: Path) -> None:
    """A reader that loses the first sector: the writer alone is clean."""
    make_trace(tmp_path / "w.trace", WORKLOAD)
    reader = tmp_path / "reader.toml"
    reader.write_text(
        'serve = ["sh", "-c", "head -c 512 /dev/zero | dd of=$1 conv=notrunc status=none; '
        'exec nbdkit -f -U $0 file $1", "{socket}", "{image}"]'
    )
    trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path)
    arguments = (
        "replay",
        "w.trace",
        "--driver",
        "raw",
        "--reopen-with",
        reader,
        "--json",
        "--no-plot",
    )
    verdict = json.loads(trace(*arguments, cwd=tmp_path, expect=1).stdout)
    assert (verdict["symptom"], verdict["reader"]) == ("reopen", "reader")
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (0, True)


def test_a_reader_that_opens_nothing_is_not_the_drivers_fault(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    reader = tmp_path / "reader.toml"
    reader.write_text('serve = ["sh", "-c", "exit 3", "{socket}"]')
    arguments = ("replay", "w.trace", "--driver", "raw", "--reopen-with", reader)
    done = trace(*arguments, cwd=tmp_path, expect=125)
    assert "reader did not start: exit status 3" in done.stderr
    arguments = ("replay", "w.trace", "--driver", "raw", "--reopen-with", "nbd://localhost:1")
    assert "image file" in trace(*arguments, cwd=tmp_path, expect=200).stderr


def test_the_story_is_short_and_says_what_to_do_next(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "write-misdirected")
    done = trace("replay", "w.trace", "--driver", driver, cwd=tmp_path, expect=1)
    lines = done.stdout.splitlines()
    assert len(lines) <= 25
    assert "confirmed: wrong with it in 3 of 3 runs, right without it in 3 of 3" in done.stdout
    history = lines[-3].removeprefix("next:").split()
    assert history == ["trace", "history", "w.trace", "--sector", "40", "--at", "17"]
    assert lines[-2].split() == ["trace", "checkout", "w.trace", "--at", "17", "-o", "state.raw"]
    assert lines[-1].split() == ["trace", "minimize", "w.trace", "--driver", str(driver)]
