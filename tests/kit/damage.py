"""Small disks with a known history, and damage done to them by hand."""

import random
from collections.abc import Iterable
from pathlib import Path

from analysis.provenance import explain
from tracer.candidates.evidence import Evidence
from tracer.closing import Closing
from tracer.op import CARRIES_DATA, MUTATING, SECTOR, Kind, Op
from tracer.trace.data import TraceWithData
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End
from tracer.verdict import Finding

Request = tuple[Kind, int, int | bytes]
"""kind, offset, and a length (then the bytes are random) or the bytes that are written"""


def noise(length: int, seed: object) -> bytes:
    return random.Random(str(seed)).randbytes(length)


def write_trace(
    path: Path,
    requests: Iterable[Request],
    *,
    size: int,
    payloads: str = "full",
    trim: str = "any",
    together: int = 1,
    failed: Iterable[int] = (),
) -> Path:
    """A trace of requests, ``together`` at a time in flight; ``failed`` ones did on both sides."""
    header = Header(size=size, payloads=payloads, trim=trim, start_image="recorded")
    count = 0
    with TraceOutput(path, header) as output:
        for seq, (kind, offset, what) in enumerate(requests):
            data = what if isinstance(what, bytes) else noise(what, seq)
            time = seq // together * 100
            op = Op(seq, int(kind), 0, offset, len(data), submitted=time, completed=time + 50)
            if seq in failed:
                op.reference_status = op.test_status = 5
            if kind in CARRIES_DATA:
                output.store(op, data)
            output.op(op)
            count += 1
        output.close(End(count, 0, 0, "clean"))
    return path


class Disk(Closing):
    """A trace, what each of its ops brings, and what the disk holds after any of them: worked out
    here byte by byte, with nothing of what is under test but the source."""

    def __init__(self, path: Path) -> None:
        self.source = TraceWithData(path)
        self.ops = list(self.source.trace.ops())
        self.size = self.source.trace.header.size
        self.trims_clear = self.source.trace.header.trim == "any"

    def close(self) -> None:
        self.source.close()

    def data(self, seq: int) -> bytes:
        """What an op leaves behind."""
        op = self.ops[seq]
        found = self.source.data(op)
        return bytes(op.length) if found is None else bytes(found)

    def after(self, upto: int | None = None) -> bytearray:
        """What the disk holds after the first ``upto`` ops."""
        disk = bytearray(self.size)
        for op in self.ops[:upto]:
            changes = op.kind in MUTATING and not op.reference_status
            if changes and (op.kind != Kind.TRIM or self.trims_clear):
                disk[op.offset : op.end] = self.data(op.seq)
        return disk

    def explain(
        self, bad: bytes | bytearray, culprit: int | None = None, upto: int | None = None
    ) -> list[Finding]:
        """What is said of a disk that holds ``bad``."""
        count = len(self.ops) if upto is None else upto
        return explain(self.source, count, culprit, differences(self.after(upto), bad))


def differences(good: bytes | bytearray, bad: bytes | bytearray) -> list[Evidence]:
    """Where two disks differ, in whole sectors that lie end to end."""
    pieces: list[tuple[int, int]] = []
    for at in range(0, len(good), SECTOR):
        if good[at : at + SECTOR] != bad[at : at + SECTOR]:
            if pieces and pieces[-1][1] == at:
                pieces[-1] = pieces[-1][0], at + SECTOR
            else:
                pieces.append((at, at + SECTOR))
    return [Evidence(a, bytes(good[a:b]), bytes(bad[a:b])) for a, b in pieces]
