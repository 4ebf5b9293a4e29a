"""The schemas of verdicts: current, and true of what is printed."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.peers import need, peer
from tests.tracer.verdicts import BOTH
from tracer.verdict import Recording, Verdict, from_json, to_json
from tracer.verdict_schema import FILES, content, schema

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", FILES)
def test_the_published_schema_is_current(name: str) -> None:
    """If this fails: python -m tracer.verdict_schema docs."""
    assert (DOCS / name).read_text() == content(name)


@BOTH
def test_the_schema_describes_the_json(found: Verdict | Recording, text: str) -> None:
    check = jsonschema.Draft202012Validator(schema(type(found)))
    check.validate(json.loads(text))
    for wrong in ({"verdict": "odd"}, {"size": -1}, {"damage": [{"sector": 1}]}):
        assert not check.is_valid(json.loads(text) | wrong)


@pytest.mark.slow
def test_real_verdicts_are_as_their_schema_says(tmp_path: Path) -> None:
    need("nbdkit", "qemu-io")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "write-misdirected")
    arguments = ("replay", "w.trace", "--driver", driver, "--json")
    printed = trace(*arguments, cwd=tmp_path, expect=1).stdout
    jsonschema.validate(json.loads(printed), schema(Verdict))
    found = from_json(json.loads(printed), Verdict)
    assert json.dumps(to_json(found), indent=2) + "\n" == printed
    assert (found.culprit is not None, found.plot) == (True, "w.damage.png")
    guest = ("qemu-io", "-f", "raw", "-c", "write 0 4k", "{nbd}")
    arguments = ("record", "r.trace", "--driver", "raw", "--size", "1M", "--json", "--", *guest)
    printed = trace(*arguments, cwd=tmp_path).stdout
    jsonschema.validate(json.loads(printed), schema(Recording))
    recorded = from_json(json.loads(printed), Recording)
    assert json.dumps(to_json(recorded), indent=2) + "\n" == printed
    assert peer("cmp", "r.raw", "r.test.raw", cwd=tmp_path) == ""
