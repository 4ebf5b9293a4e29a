"""The JSON of verdicts: what is in it, in which order, and what of it is read back."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from tests.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.support import need, peer, trace
from tracer import verdict_file
from tracer.errors import Exit, UsageError
from tracer.op import Fault
from tracer.verdict import (
    EFFORT,
    HOW,
    BadRead,
    CulpritOp,
    DamageKind,
    Detail,
    Environment,
    FaultName,
    Finding,
    MismatchSummary,
    Origin,
    Recording,
    SectorBytes,
    SectorRange,
    SymptomKind,
    Verdict,
    VerdictKind,
    from_json,
    to_json,
)
from tracer.verdict_file import load
from tracer.verdict_schema import FILES, content, schema

DOCS = Path(__file__).parent.parent / "docs"

ORIGIN = Origin(seq=3, kind="write", offset=4096, length=8192, at=512)

VERDICT = Verdict(
    verdict=VerdictKind.DAMAGED,
    reason="#21 read returned wrong data",
    driver="qcow2",
    trace="w.trace",
    size=1 << 20,
    ops=28,
    replayed_ops=100,
    runs=5,
    confirm_ops=36,
    culprit=CulpritOp(
        seq=17, kind="write", offset=20480, length=4096, flags=["FUA"], submitted=1700, connection=2
    ),
    confirmed=True,
    shown=2,
    tries=3,
    clean_without=4,
    detected=2,
    seed=7,
    needs_company=False,
    located=True,
    symptom=SymptomKind.BLOCK_STATUS,
    reader="other",
    volatile=True,
    damage=[
        Finding(
            sector=0, sectors=1, kind=DamageKind.TORN, source=ORIGIN, text="torn",
            detail=Detail(boundary=512, into_op=256, power_of_two=512, arrived="first"),
        ),
        Finding(
            sector=1, sectors=2, kind=DamageKind.BIT_FLIP, source=ORIGIN, text="flipped",
            detail=Detail(bits=2, first=[[600, 1], [601, 128]]),
        ),
        Finding(
            sector=3, sectors=1, kind=DamageKind.SHIFTED, source=ORIGIN, text="shifted",
            detail=Detail(by=-16),
        ),
        Finding(
            sector=4, sectors=1, kind=DamageKind.STALE, source=ORIGIN, text="stale",
            detail=Detail(versions_back=2),
        ),
        Finding(
            sector=5, sectors=1, kind=DamageKind.MISDIRECTED, source=ORIGIN, text="misdirected",
            detail=Detail(meant_for=4608),
        ),
        Finding(
            sector=6, sectors=1, kind=DamageKind.FOREIGN, source=None, text="foreign", detail=Detail()
        ),
        Finding(sector=9, sectors=4),
    ],
    culprit_damage=[],
    first_bad_read=BadRead(seq=21, sector=40),
    bytes=SectorBytes(sector=40, offset=20480, expected="0708", actual="0000"),
    log="assertion failed\n",
    plot="w.damage.png",
    command=["trace", "replay", "w.trace"],
    environment=Environment(host={"name": "h"}, tools={"python": "3"}, driver={"serve": ["x", "y"]}),
)  # fmt: skip

VERDICT_JSON = """{
  "verdict": "damaged",
  "reason": "#21 read returned wrong data",
  "driver": "qcow2",
  "trace": "w.trace",
  "size": 1048576,
  "ops": 28,
  "replayed_ops": 100,
  "runs": 5,
  "confirm_ops": 36,
  "culprit": {
    "seq": 17,
    "kind": "write",
    "offset": 20480,
    "length": 4096,
    "flags": [
      "FUA"
    ],
    "submitted": 1700,
    "connection": 2
  },
  "confirmed": true,
  "shown": 2,
  "tries": 3,
  "clean_without": 4,
  "detected": 2,
  "seed": 7,
  "needs_company": false,
  "located": true,
  "symptom": "block status",
  "reader": "other",
  "volatile": true,
  "damage": [
    {
      "sector": 0,
      "sectors": 1,
      "class": "torn",
      "source": {
        "seq": 3,
        "kind": "write",
        "offset": 4096,
        "length": 8192,
        "at": 512
      },
      "detail": {
        "boundary": 512,
        "into_op": 256,
        "power_of_two": 512,
        "arrived": "first"
      },
      "text": "torn"
    },
    {
      "sector": 1,
      "sectors": 2,
      "class": "bit-flip",
      "source": {
        "seq": 3,
        "kind": "write",
        "offset": 4096,
        "length": 8192,
        "at": 512
      },
      "detail": {
        "bits": 2,
        "first": [
          [
            600,
            1
          ],
          [
            601,
            128
          ]
        ]
      },
      "text": "flipped"
    },
    {
      "sector": 3,
      "sectors": 1,
      "class": "shifted",
      "source": {
        "seq": 3,
        "kind": "write",
        "offset": 4096,
        "length": 8192,
        "at": 512
      },
      "detail": {
        "by": -16
      },
      "text": "shifted"
    },
    {
      "sector": 4,
      "sectors": 1,
      "class": "stale",
      "source": {
        "seq": 3,
        "kind": "write",
        "offset": 4096,
        "length": 8192,
        "at": 512
      },
      "detail": {
        "versions_back": 2
      },
      "text": "stale"
    },
    {
      "sector": 5,
      "sectors": 1,
      "class": "misdirected",
      "source": {
        "seq": 3,
        "kind": "write",
        "offset": 4096,
        "length": 8192,
        "at": 512
      },
      "detail": {
        "meant_for": 4608
      },
      "text": "misdirected"
    },
    {
      "sector": 6,
      "sectors": 1,
      "class": "foreign",
      "source": null,
      "detail": {},
      "text": "foreign"
    },
    {
      "sector": 9,
      "sectors": 4,
      "class": null,
      "source": null,
      "detail": null,
      "text": null
    }
  ],
  "culprit_damage": [],
  "first_bad_read": {
    "seq": 21,
    "sector": 40
  },
  "bytes": {
    "sector": 40,
    "offset": 20480,
    "expected": "0708",
    "actual": "0000"
  },
  "log": "assertion failed\\n",
  "plot": "w.damage.png",
  "command": [
    "trace",
    "replay",
    "w.trace"
  ],
  "environment": {
    "host": {
      "name": "h"
    },
    "tools": {
      "python": "3"
    },
    "driver": {
      "serve": [
        "x",
        "y"
      ]
    }
  },
  "schema": 1
}"""

RECORDING = Recording(
    verdict=VerdictKind.FAILED,
    reason="the test image differs from the reference",
    trace="w.trace",
    driver="raw",
    size=1 << 20,
    ops={"read": 2, "flush": 1},
    bytes={"read": 8192},
    mismatches=[
        MismatchSummary(seq=5, fault=FaultName.BLOCK_STATUS, sector=8, sectors=2),
        MismatchSummary(seq=None, fault=FaultName.FINAL, sector=16, sectors=1),
    ],
    damage=[SectorRange(sector=16, sectors=1)],
    trace_bytes=700,
    payload_bytes=0,
    connections=1,
    guest_exit=None,
)

RECORDING_JSON = """{
  "verdict": "failed",
  "reason": "the test image differs from the reference",
  "trace": "w.trace",
  "driver": "raw",
  "size": 1048576,
  "ops": {
    "read": 2,
    "flush": 1
  },
  "bytes": {
    "read": 8192
  },
  "mismatches": [
    {
      "seq": 5,
      "fault": "block_status",
      "sector": 8,
      "sectors": 2
    },
    {
      "seq": null,
      "fault": "final",
      "sector": 16,
      "sectors": 1
    }
  ],
  "damage": [
    {
      "sector": 16,
      "sectors": 1
    }
  ],
  "trace_bytes": 700,
  "payload_bytes": 0,
  "connections": 1,
  "guest_exit": null,
  "schema": 1
}"""

BOTH = pytest.mark.parametrize(
    ("found", "text"),
    [(VERDICT, VERDICT_JSON), (RECORDING, RECORDING_JSON)],
    ids=["replay", "record"],
)


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
        "ops": 0, "replayed_ops": 0, "runs": 0, "confirm_ops": 0, "culprit": None, "confirmed": False,
        "shown": 0, "tries": 0, "clean_without": 0, "detected": 1, "seed": 0, "needs_company": None,
        "located": True, "symptom": None, "reader": None, "volatile": False, "first_bad_read": None,
        "bytes": None, "log": "", "plot": None, "command": [],
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
    ],
)
def test_what_is_wrong_is_refused_by_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=f"^it is not a verdict: {name} is missing or wrong$"):
        from_json(to_json(VERDICT) | change, Verdict, name="it")


def test_a_recording_that_is_none_is_refused_by_name() -> None:
    for key in without(RECORDING):
        with pytest.raises(UsageError, match=f"not a verdict: {key} is missing or wrong"):
            from_json(without(RECORDING, key), Recording)
    with pytest.raises(UsageError, match="not a verdict: damage is missing or wrong"):
        from_json(to_json(RECORDING) | {"damage": [{"sector": 2047, "sectors": 2}]}, Recording)
    with pytest.raises(UsageError, match="has schema 2; this version reads 1"):
        from_json(to_json(RECORDING) | {"schema": 2}, Recording)


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
    assert [str(name) for name in FaultName] == [fault.name.lower() for fault in Fault]


def test_what_a_diff_leaves_out_is_in_the_model() -> None:
    fields = {
        field.encode_name
        for model in (Verdict, CulpritOp)
        for field in msgspec.structs.fields(model)
    }
    assert fields >= HOW | EFFORT
    assert not HOW & EFFORT


# ---------------------------------------------------------------- schemas


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
