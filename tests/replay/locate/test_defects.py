"""Builds with known defects: the right op is named, the right verdict and explanation are given."""

import json
from pathlib import Path
from typing import Any

import pytest

import blkbox
from tests.kit.command import trace
from tests.kit.faulty.defects import DEFECTS, TABLE
from tests.kit.faulty.disk import Defect
from tests.kit.faulty.workload import WORKLOAD, WORKLOADS, make_trace, write_driver
from tests.kit.peers import need
from tests.kit.verdicts import assert_explained, assert_grouped
from tracer.errors import Exit
from tracer.verdict import to_json

FORMS = {"server": "full", "nbdkit": "hash"}
"""How a defect is served, and the payloads of the trace: in two replays both are tried with
both."""


def forms(defect: Defect) -> list[str]:
    """How a defect can be served: nbdkit's Python does one request at a time."""
    return [form for form in FORMS if not (defect.needs_concurrency and form == "nbdkit")]


CASES = [(defect.name, form) for defect in TABLE for form in forms(defect)]

Case = tuple[str, str]
Verdict = dict[str, Any]


def prepared(folder: Path, name: str, form: str) -> str:
    """Make w.trace, a defect's workload, and the defective driver; return the driver's file."""
    if form == "nbdkit":
        need("nbdkit")
    requests, together = WORKLOADS[DEFECTS[name].workload if name in DEFECTS else "main"]
    make_trace(folder / "w.trace", requests, payloads=FORMS[form], together=together)
    return str(folder / write_driver(folder, name, form))


def assert_located(verdict: Verdict, defect: Defect) -> None:
    """The verdict and the culprit are as they must be by construction."""
    assert verdict["verdict"] == defect.verdict, verdict["reason"]
    assert verdict["culprit"] is not None, verdict["reason"]
    kind, offset, length, _ = WORKLOADS[defect.workload][0][defect.culprit]
    found = verdict["culprit"]
    assert (found["seq"], found["kind"]) == (defect.culprit, kind.label)
    assert (found["offset"], found["length"]) == (offset, length)
    assert verdict["confirmed"]


@pytest.mark.parametrize("form", FORMS)
def test_without_a_defect_it_is_clean(tmp_path: Path, form: str) -> None:
    driver = prepared(tmp_path, "none", form)
    done = trace("replay", "w.trace", "--driver", driver, "--json", cwd=tmp_path)
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["culprit"], verdict["damage"]) == ("clean", None, [])
    assert verdict["ops"] == verdict["replayed_ops"] == len(WORKLOAD)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_culprit_is_named_and_explained(tmp_path: Path, case: Case) -> None:
    name, form = case
    defect, driver = DEFECTS[name], prepared(tmp_path, name, form)
    # a hang is waited for in each of seven runs, and 3 s are plenty for an op on a small file
    timeout = 3.0 if name == "hang" else 30.0
    found = blkbox.replay(tmp_path / "w.trace", driver=driver, timeout=timeout)
    assert found.verdict.exit_code == Exit.BAD_DRIVER
    verdict = to_json(found)
    assert_located(verdict, defect)
    assert_explained(verdict["culprit_damage"], defect.damage)
    assert_grouped(verdict)


def test_the_docs_have_a_line_for_each() -> None:
    page = Path(__file__).parents[3] / "docs/finding-culprits.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert lines == [docs_line(defect) for defect in TABLE]


def docs_line(defect: Defect) -> str:
    """A defect as a line of the table in docs/finding-culprits.md."""
    kind = WORKLOADS[defect.workload][0][defect.culprit][0].label
    classes = ", ".join(dict.fromkeys(one.kind for one in defect.damage)) or "(failed)"
    seen = {"live": "live", "reopen": "after a restart", "close": "after a restart"}[defect.shows]
    culprit = f"#{defect.culprit} {kind}"
    cells = f"`{defect.name}`", defect.workload, culprit, classes, seen, ", ".join(forms(defect))
    return f"| {' | '.join(cells)} |"
