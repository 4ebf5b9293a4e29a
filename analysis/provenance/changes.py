"""The ops of a trace that changed the disk, as arrays. Memory: about 70 bytes for each op.

Only ops that succeeded on the reference count, since a replay plays only these.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.frames.records import OpRecords
from tracer.op import MUTATING
from tracer.trace.file import Trace

_COLUMNS = (
    "seq", "kind", "flags", "offset", "length", "submitted", "completed", "reference_status",
    "payload", "digest",
)  # fmt: skip

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Timing:
    """The culprit's kind and time."""

    kind: int
    submitted: int
    """ns since the trace's start."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that the first ops of a trace made, in the order of submission."""

    position: Ints
    """The op's place among all ops of the trace, reads and flushes included."""
    seq: Ints
    kind: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint16]
    offset: Ints
    length: Ints
    completed: Ints
    """ns; -1 for never."""
    payload: Ints
    """-1 for none, which the record has as 2^64-1."""
    digest: npt.NDArray[np.void]
    culprit: Timing | None
    """The culprit's kind and time. It may be an op that changed nothing."""

    def __len__(self) -> int:
        return len(self.position)

    def upto(self, count: int) -> "Changes":
        """Return the changes that the first ``count`` ops of the trace made, without a copy."""
        stop = int(np.searchsorted(self.position, count))
        return Changes(
            position=self.position[:stop],
            seq=self.seq[:stop],
            kind=self.kind[:stop],
            flags=self.flags[:stop],
            offset=self.offset[:stop],
            length=self.length[:stop],
            completed=self.completed[:stop],
            payload=self.payload[:stop],
            digest=self.digest[:stop],
            culprit=self.culprit,
        )


def read_changes(trace: Trace, upto: int, culprit: int | None) -> Changes:
    """Read the changes of the first ``upto`` ops, and the timing of the op at position ``culprit``.

    Raises TraceError.
    """
    stop = upto if culprit is None else max(upto, culprit + 1)
    wanted = [name for name in _COLUMNS if name not in ("submitted", "reference_status")]
    parts: dict[str, list[npt.NDArray[np.generic]]] = {name: [] for name in ("position", *wanted)}
    timing = None
    at = 0
    for batch in OpRecords(trace).by_seq():
        found = batch.head(max(0, stop - at)).fields(_COLUMNS)
        if culprit is not None and at <= culprit < at + len(found["kind"]):
            row = culprit - at
            timing = Timing(int(found["kind"][row]), int(found["submitted"][row]))
        changes = np.isin(found["kind"], list(MUTATING)) & (found["reference_status"] == 0)
        chosen = np.flatnonzero(changes)
        parts["position"].append(chosen + at)
        for name in wanted:
            parts[name].append(found[name][chosen])
        at += len(batch)
        if at >= stop:
            break
    whole = {name: np.concatenate(part) for name, part in parts.items()}
    return Changes(**whole, culprit=timing)
