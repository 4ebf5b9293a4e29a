"""The files that are changed: traces with every kind of record, and verdicts."""

import json
import os
import random
import shutil
from pathlib import Path

from tests.kit.ops import DISK, some
from tracer.digest import digest
from tracer.op import CARRIES_DATA, NO_PAYLOAD, NO_SEQ, Fault, Kind, Op
from tracer.trace.file import Trace
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import (
    RECORD_SIZE,
    End,
    Mark,
    Mismatch,
    Restart,
    Settle,
    Tag,
)

NAMES = ("full", "hash")
"""The traces: with payloads, and with digests alone."""

OPS = 40

RESTARTED, PAUSE = 25, 10**7
"""The driver was restarted before this op, so many ns after the start."""

SETTLING = {12: 0, 14: NO_SEQ, 30: 0}
"""By the op that decides: who wins, 0 for the last write before it."""


UNKNOWN = bytes([0x92, Tag.ACTION, 0xC4, RECORD_SIZE - 4]).ljust(RECORD_SIZE, b"\0")
"""A record of a kind that is reserved."""


def make(folder: Path) -> None:
    """Write the traces and their verdicts, ``NAME.trace`` and ``NAME.json``."""
    for name in NAMES:
        _write_trace(folder / f"{name}.trace", name)
        (folder / f"{name}.json").write_text(json.dumps(_verdict(folder / f"{name}.trace")))


def copy(good: Path, work: Path, chance: random.Random) -> str:
    """Make a folder with unchanged files; return the name of one set of them."""
    which = chance.choice(NAMES)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for path in good.glob(f"{which}.*"):
        shutil.copy(path, work / path.name)
    for suffix in (".trace", ".json", ".payloads"):
        if (good / f"{which}{suffix}").exists():
            os.link(good / f"{which}{suffix}", work / f"good{suffix}")
    return which


def _write_trace(path: Path, payloads: str) -> None:
    chance = random.Random(payloads)
    disk = bytearray(DISK)
    header = Header(
        DISK,
        payloads,
        driver={"name": "raw", "serve": ["a", "b"]},
        host={"name": "host"},
        tools={"qemu": "8"},
        started=10**18,
        start_image="recorded",
        cut={"trace": "other", "first": 5, "last": 44, "start_ops": 1},
        profile={"name": "mixed", "seed": 1, "features": {"fua": True, "depth": [1, 32]}},
    )
    with TraceOutput(path, header) as output:
        ops = [Op(0, int(Kind.START), 0, 0, 8192, 0, 0), *some(OPS, seed=1)]
        for seq, op in enumerate(ops):
            op.seq = seq
            if seq >= RESTARTED:  # nothing is in flight over a restart
                op.submitted += PAUSE
                op.completed += PAUSE
        winners = {}
        winner = ops[0]
        for op in ops:
            winners[op.seq] = winner
            if op.kind in CARRIES_DATA:
                winner = op
                data = chance.randbytes(op.length) if chance.random() < 0.8 else bytes(op.length)
                disk[op.offset : op.end] = data
                output.store(op, data)
            elif op.kind in (Kind.ZERO, Kind.TRIM):
                disk[op.offset : op.end] = bytes(op.length)
            elif op.kind == Kind.READ:
                op.digest = digest(bytes(disk[op.offset : op.end]))
        restarted = False
        for op in sorted(ops, key=lambda op: op.completed):
            if op.seq in (3, 20):
                output.mark(Mark(op.seq, op.submitted, f"mark {op.seq}"))
            if op.submitted > PAUSE and not restarted:
                restarted = True
                output.restart(Restart(RESTARTED, PAUSE, "guest returned"))
            output.op(op)
            if op.seq in SETTLING:
                won = winners[op.seq]
                held = won.offset, won.length, SETTLING[op.seq] or won.seq, op.completed, won.digest
                output.settle(Settle(op.seq, *held))
        output.flush()
        output.write([UNKNOWN])
        output.mismatch(
            Mismatch(7, Fault.DATA, 4096, 512, 0, 0, 2 * PAUSE, NO_PAYLOAD, digest(b"other"))
        )
        output.close(End(len(ops), 1, 2 * PAUSE, "damaged"))


def _verdict(path: Path) -> dict[str, object]:
    with Trace(path) as opened:
        op = next(op for op in opened.ops() if op.kind == Kind.WRITE and op.length >= 1024)
    trace, sector = path.name, op.sectors[1]
    named = {"seq": op.seq, "kind": "write", "offset": op.offset, "length": op.length}
    source = {**named, "at": 0}
    finding = {
        "sector": sector, "sectors": 1, "class": "torn", "text": "torn", "source": source,
        "detail": {"boundary": sector * 512 + 256, "into_op": 256, "arrived": "first"},
        "writer": source,
    }  # fmt: skip
    cause = {
        "class": "torn", "ops": 1, "seqs": [op.seq], "ranges": 1, "sectors": 1, "sector": sector,
        "common": ["each at a multiple of 4.0 KiB"], "what": "1 write torn", "text": "one is torn",
    }  # fmt: skip
    return {
        "schema": 1, "verdict": "damaged", "reason": "sector 8 is wrong", "driver": "qcow2",
        "trace": trace, "size": DISK, "ops": OPS + 1, "replayed_ops": 90, "runs": 2,
        "start": "backing", "confirmed": True, "shown": 3, "tries": 3, "clean_without": 1,
        "culprit": {**named, "flags": [], "submitted": op.submitted, "connection": 1},
        "suspects": [{**named, "followed": 2, "in_flight": [4, 5]}],
        "also": [{"reason": "another", "seq": 9}], "symptom": "read", "log": "the log\n",
        "damage": [finding], "culprit_damage": [finding], "causes": [cause],
        "culprit_causes": [cause], "first_bad_read": {"seq": 22, "sector": sector},
        "bytes": {"sector": sector, "offset": sector * 512, "expected": "ab" * 512,
                  "actual": "cd" * 512},
        "compared": {"size": DISK, "touched": 4096, "more": 0, "block_status": "whole"},
        "command": ["trace", "replay", trace], "plot": "plot.png", "hint": "try",
        "environment": {"host": {"name": "h"}, "driver": {"serve": ["x"]}, "tools": {"q": "8"}},
    }  # fmt: skip
