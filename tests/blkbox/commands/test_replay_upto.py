"""``trace replay --upto``: up to an op or a mark."""

import json
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.marked import write_marked
from tests.kit.peers import need
from tracer.op import Kind


def test_a_replay_goes_up_to_an_op_or_a_mark(tmp_path: Path) -> None:
    write_marked(tmp_path / "t.trace", 6, [(3, "here")])
    for upto, count in (("here", 3), ("3", 4), ("#5", 6)):
        arguments = ("replay", "t.trace", "--driver", "raw", "--upto", upto, "--json")
        verdict = json.loads(trace(*arguments, cwd=tmp_path).stdout)
        assert (verdict["ops"], verdict["replayed_ops"]) == (count, count)
    done = trace("replay", "t.trace", "--driver", "raw", "--upto", "x", cwd=tmp_path, expect=200)
    assert "its marks: here (before #3)" in done.stderr


def test_a_replay_that_ends_before_the_culprit_is_clean(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "zero-too-long")
    arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-plot", "--upto")
    assert json.loads(trace(*arguments, "18", cwd=tmp_path).stdout)["ops"] == 19
    verdict = json.loads(trace(*arguments, "19", cwd=tmp_path, expect=1).stdout)
    assert (verdict["ops"], verdict["culprit"]["seq"]) == (20, 19)


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ([], 125),
        ([Kind.START], 125),
        ([Kind.START, Kind.FLUSH], 125),  # the flush is the recorder's own
        ([Kind.START, Kind.READ], 0),
        ([Kind.WRITE], 0),
    ],
)
def test_without_an_op_that_reaches_the_driver_nothing_is_tested(
    tmp_path: Path, ops: list[Kind], code: int
) -> None:
    requests = [(kind, 0, 0 if kind == Kind.FLUSH else 512, 0) for kind in ops]
    make_trace(tmp_path / "t.trace", requests)
    done = trace("replay", "t.trace", "--driver", "raw", "--json", cwd=tmp_path, expect=code)
    found = json.loads(done.stdout)
    untested = "the trace has no op to replay: nothing was tested"
    assert (found["verdict"], found["reason"]) == (
        ("clean", "no difference") if code == 0 else ("undecidable", untested)
    )


def test_a_replay_up_to_no_guest_op_tests_nothing(tmp_path: Path) -> None:
    make_trace(tmp_path / "t.trace", [(Kind.START, 0, 512, 0), *WORKLOAD])
    trace("replay", "t.trace", "--driver", "raw", "--upto", "0", cwd=tmp_path, expect=125)
    trace("replay", "t.trace", "--driver", "raw", "--upto", "1", cwd=tmp_path)
