"""A verdict and a recording with every field set, and their JSON."""

import pytest

from tracer.verdict import (
    BadRead,
    Cause,
    Compared,
    CulpritOp,
    DamageKind,
    Detail,
    Environment,
    FaultName,
    Finding,
    MismatchSummary,
    Origin,
    OtherFault,
    Recording,
    SectorBytes,
    SectorRange,
    StartKind,
    Suspect,
    SymptomKind,
    Verdict,
    VerdictKind,
    Walk,
)

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
    start=StartKind.BACKING,
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
    company=5,
    suspects=[Suspect(seq=9, kind="write", offset=0, length=512, followed=2, in_flight=[8])],
    also=[OtherFault(reason="the check failed", seq=4)],
    located=True,
    symptom=SymptomKind.BLOCK_STATUS,
    reader="other",
    volatile=True,
    compared=Compared(
        size=1 << 20, touched=4096, more=512, samples=2, sampled=1024, left=2048,
        block_status=Walk.PART,
    ),
    damage=[
        Finding(
            sector=0, sectors=1, kind=DamageKind.TORN, source=ORIGIN, text="torn",
            detail=Detail(
                boundary=512, into_op=256, power_of_two=512, arrived="first", room=4096
            ),
            writer=Origin(seq=3, kind="write", offset=4096, length=8192, at=0),
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
            sector=6, sectors=1, kind=DamageKind.FOREIGN, source=None, text="foreign",
            detail=Detail()
        ),
        Finding(sector=9, sectors=4),
    ],
    culprit_damage=[],
    causes=[
        Cause(
            kind=DamageKind.TORN, ops=3, seqs=[3, 4, 5], ranges=4, sectors=6, sector=0,
            common=["each torn at a multiple of 64.0 KiB"], what="3 writes torn", text="all torn",
        ),
        Cause(ranges=1, sectors=4, sector=9, what="1 range unexplained", text="wrong bytes"),
    ],
    first_bad_read=BadRead(seq=21, sector=40),
    bytes=SectorBytes(sector=40, offset=20480, expected="0708", actual="0000"),
    hint="try --runs 8",
    log="assertion failed\n",
    plot="w.damage.png",
    command=["trace", "replay", "w.trace"],
    environment=Environment(host={"name": "h"}, tools={"python": "3"},
                            driver={"serve": ["x", "y"]}),
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
  "start": "backing",
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
  "culprit_shows": null,
  "needs_company": false,
  "company": 5,
  "suspects": [
    {
      "seq": 9,
      "kind": "write",
      "offset": 0,
      "length": 512,
      "followed": 2,
      "in_flight": [
        8
      ]
    }
  ],
  "also": [
    {
      "reason": "the check failed",
      "seq": 4
    }
  ],
  "located": true,
  "symptom": "block status",
  "reader": "other",
  "volatile": true,
  "compared": {
    "size": 1048576,
    "touched": 4096,
    "more": 512,
    "samples": 2,
    "sampled": 1024,
    "left": 2048,
    "block_status": "part"
  },
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
        "arrived": "first",
        "room": 4096
      },
      "text": "torn",
      "writer": {
        "seq": 3,
        "kind": "write",
        "offset": 4096,
        "length": 8192,
        "at": 0
      }
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
      "text": "flipped",
      "writer": null
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
      "text": "shifted",
      "writer": null
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
      "text": "stale",
      "writer": null
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
      "text": "misdirected",
      "writer": null
    },
    {
      "sector": 6,
      "sectors": 1,
      "class": "foreign",
      "source": null,
      "detail": {},
      "text": "foreign",
      "writer": null
    },
    {
      "sector": 9,
      "sectors": 4,
      "class": null,
      "source": null,
      "detail": null,
      "text": null,
      "writer": null
    }
  ],
  "culprit_damage": [],
  "causes": [
    {
      "class": "torn",
      "ops": 3,
      "seqs": [
        3,
        4,
        5
      ],
      "ranges": 4,
      "sectors": 6,
      "sector": 0,
      "common": [
        "each torn at a multiple of 64.0 KiB"
      ],
      "what": "3 writes torn",
      "text": "all torn"
    },
    {
      "class": null,
      "ops": 0,
      "seqs": [],
      "ranges": 1,
      "sectors": 4,
      "sector": 9,
      "common": [],
      "what": "1 range unexplained",
      "text": "wrong bytes"
    }
  ],
  "culprit_causes": [],
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
  "hint": "try --runs 8",
  "log": "assertion failed\\n",
  "plot": "w.damage.png",
  "small": null,
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
    compared=None,
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
  "compared": null,
  "made": [],
  "interrupted": null,
  "schema": 1
}"""


BOTH = pytest.mark.parametrize(
    ("found", "text"),
    [(VERDICT, VERDICT_JSON), (RECORDING, RECORDING_JSON)],
    ids=["replay", "record"],
)
