"""``trace replay --upto``: up to an op or a mark."""

import json
from pathlib import Path

from tests.kit.command import trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.marked import write_marked
from tests.kit.peers import need


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
