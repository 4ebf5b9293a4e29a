"""The JSON of verdicts: what is in it, in which order, and what of it is read back."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.tracer.verdicts import BOTH, RECORDING, VERDICT, VERDICT_JSON
from tracer import verdict_file
from tracer.errors import Exit, UsageError
from tracer.op import Fault
from tracer.verdict import (
    EFFORT,
    HOW,
    CulpritOp,
    FaultName,
    Recording,
    Verdict,
    VerdictKind,
    from_json,
    to_json,
)
from tracer.verdict_file import load


def without(found: Verdict | Recording, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in to_json(found).items() if key not in keys}


@BOTH
def test_the_json_is_what_it_always_was(found: Verdict | Recording, text: str) -> None:
    assert json.dumps(to_json(found), indent=2) == text
    assert to_json(found) == json.loads(text)


@BOTH
def test_what_was_written_reads_back(found: Verdict | Recording, text: str) -> None:
    assert from_json(json.loads(text), type(found)) == found
    assert from_json(json.loads(text) | {"newer": [1]}, type(found)) == found


def test_what_older_versions_did_not_write_has_its_usual_value() -> None:
    required = [
        "schema",
        "verdict",
        "reason",
        "driver",
        "trace",
        "size",
        "damage",
        "culprit_damage",
    ]
    found = from_json({key: to_json(VERDICT)[key] for key in required}, Verdict)
    assert without(found, *required) == {
        "ops": 0, "replayed_ops": 0, "runs": 0, "confirm_ops": 0, "start": None, "culprit": None,
        "confirmed": False,
        "shown": 0, "tries": 0, "clean_without": 0, "detected": 1, "seed": 0,
        "culprit_shows": None, "needs_company": None,
        "company": None, "suspects": [], "also": [],
        "located": True, "symptom": None, "reader": None, "volatile": False, "compared": None,
        "causes": [], "culprit_causes": [], "first_bad_read": None,
        "bytes": None, "hint": None, "log": "", "plot": None, "small": None, "command": [],
        "environment": {"host": {}, "tools": {}, "driver": {}},
    }  # fmt: skip
    for key in required:
        with pytest.raises(UsageError, match=f"this is not a verdict: {key} is missing or wrong"):
            from_json(without(VERDICT, key), Verdict)


CULPRIT = to_json(VERDICT)["culprit"]


BYTES = to_json(VERDICT)["bytes"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"verdict": "<script>"}, "verdict"),
        ({"symptom": "boredom"}, "symptom"),
        ({"ops": 1.0}, "ops"),
        ({"ops": None}, "ops"),
        ({"runs": True}, "runs"),
        ({"seed": 1 << 63}, "seed"),
        ({"culprit": CULPRIT | {"connection": -1}}, "culprit"),
        ({"damage": [{"sector": 0, "sectors": 1, "class": "<script>"}]}, "damage"),
        ({"damage": [{"sector": 0, "sectors": 1, "detail": {"by": 1 << 63}}]}, "damage"),
        (
            {"damage": [{"sector": 0, "sectors": 1, "detail": {"bits": 1, "first": [[1]]}}]},
            "damage",
        ),
        ({"damage": [{"sector": 0, "sectors": 1, "text": "\udc7f"}]}, "damage"),
        ({"culprit_damage": [{"sector": 2048, "sectors": 1}]}, "culprit_damage"),
        ({"bytes": BYTES | {"expected": "07\n"}}, "bytes"),
        ({"bytes": BYTES | {"expected": "070G"}}, "bytes"),
        ({"bytes": BYTES | {"expected": "07"}}, "bytes"),
        ({"bytes": BYTES | {"expected": "07" * 513, "actual": "07" * 513}}, "bytes"),
        ({"trace": "\ud800"}, "trace"),
        ({"environment": {"host": {"\ud800": 1}}}, "environment"),
        ({"environment": {"tools": []}}, "environment"),
        ({"bytes": BYTES | {"expected": "070A"}}, "bytes"),
        ({"bytes": BYTES | {"expected": "07\n", "actual": "08\n"}}, "bytes"),
        (
            {"damage": [{"sector": 0, "sectors": 1, "detail": {"first": [[1, 2, 3]]}}]},
            "damage",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=f"^it is not a verdict: {name} is missing or wrong$"):
        from_json(to_json(VERDICT) | change, Verdict, name="it")


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) - 1])
def test_damage_may_reach_to_the_last_sector(size: int) -> None:
    """A disk may end within it."""
    last = {"sector": 2047, "sectors": 1}
    found = from_json(to_json(VERDICT) | {"size": size, "damage": [last]}, Verdict)
    assert [(one.sector, one.sectors) for one in found.damage] == [(2047, 1)]
    with pytest.raises(UsageError, match="not a verdict: damage is missing or wrong"):
        from_json(to_json(VERDICT) | {"size": size, "damage": [last | {"sectors": 2}]}, Verdict)


def test_a_recording_that_is_none_is_refused_by_name() -> None:
    for key in without(RECORDING, "compared", "made", "interrupted"):  # which are newer
        with pytest.raises(UsageError, match=f"not a verdict: {key} is missing or wrong"):
            from_json(without(RECORDING, key), Recording)
    with pytest.raises(UsageError, match="not a verdict: damage is missing or wrong"):
        from_json(to_json(RECORDING) | {"damage": [{"sector": 2047, "sectors": 2}]}, Recording)
    with pytest.raises(UsageError, match="has schema 2; this version reads 1"):
        from_json(to_json(RECORDING) | {"schema": 2}, Recording)
    with pytest.raises(UsageError, match="not a verdict: interrupted is missing or wrong"):
        from_json(to_json(RECORDING) | {"interrupted": "SIGSEGV"}, Recording)


@pytest.mark.parametrize(
    ("verdict", "interrupted", "code"),
    [
        ("clean", None, 0),
        ("failed", None, 1),
        ("undecidable", None, 125),
        ("undecidable", "SIGINT", 130),
        ("undecidable", "SIGTERM", 143),
        ("undecidable", "SIGHUP", 129),
        ("damaged", "SIGINT", 1),
        ("failed", "SIGTERM", 1),
    ],
)
def test_a_difference_counts_more_than_an_interruption(
    verdict: str, interrupted: str | None, code: int
) -> None:
    found = to_json(RECORDING) | {"verdict": verdict, "interrupted": interrupted}
    assert from_json(found, Recording).exit_code == code


def test_bytes_of_a_file_s_name_that_are_no_text_are_kept() -> None:
    raw = json.loads(json.dumps(to_json(VERDICT) | {"trace": "a\udcffb"}))
    assert from_json(raw, Verdict).trace == "a\udcffb"


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.json"
    path.write_text(VERDICT_JSON)
    assert load(path) == VERDICT
    monkeypatch.setattr(verdict_file, "MAX_BYTES", len(VERDICT_JSON) - 1)
    with pytest.raises(UsageError, match=r"v\.json is not a verdict: it is too large"):
        load(path)


def test_each_verdict_has_its_exit_code() -> None:
    codes = {kind.value: kind.exit_code for kind in VerdictKind}
    bad = Exit.BAD_DRIVER
    assert codes == {
        "clean": Exit.CLEAN, "damaged": bad, "failed": bad, "undecidable": Exit.UNDECIDABLE,
    }  # fmt: skip


def test_faults_are_named_as_in_the_trace() -> None:
    assert [str(name) for name in FaultName] == [fault.label for fault in Fault]


def test_what_a_diff_leaves_out_is_in_the_model() -> None:
    fields = {
        field.encode_name
        for model in (Verdict, CulpritOp)
        for field in msgspec.structs.fields(model)
    }
    assert fields | {"cell"} >= HOW | EFFORT
    assert not HOW & EFFORT
