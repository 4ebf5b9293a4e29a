"""One cell: a trace on a build, in a process of its own. All that it takes and returns is data.

Whatever goes wrong is the verdict of this cell and not the end of the matrix.
"""

import json
import os
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec.structs import replace

from blkbox import jobs
from blkbox.matrices.fingerprint import fingerprint
from blkbox.matrices.model import BuildRow, TraceRow
from blkbox.matrices.places import is_url, local_driver, local_trace
from blkbox.matrices.survey import read, stamp_of
from replay.generate.profiles import Profile
from replay.generate.writing import generate
from tracer.disk.private import PrivateFolder, Use
from tracer.disk.room import ROOM, SCRATCH_REMEDY, free_room
from tracer.errors import BlkboxError, StorageError, TraceError, Undecidable
from tracer.text import size as in_words
from tracer.verdict import BAD, Verdict, VerdictKind, to_json

Latency = dict[str, list[int]]
"""By kind, how long the driver took for ops of the first run, in ns: a sample, in their order."""

SAMPLES = 500
"""The most ops of a kind in a sample is twice that: enough for a median and its spread."""

COPIES = 2
"""Images of a run: the reference and the driver's."""


@dataclass(frozen=True, slots=True)
class Task:
    """A cell to run."""

    trace: TraceRow
    build: BuildRow
    profile: Profile
    ops: int
    size: int
    """Of a trace that is generated: ops, and bytes of the disk."""
    replay: Mapping[str, Any] = field(default_factory=dict)
    """More arguments for ``blkbox.replay``."""

    @property
    def key(self) -> str:
        """What tells the cell from all others, of this and other matrices. The result of a cell
        without a fingerprint is not kept, so that its name does."""
        parts = [self.trace.digest, self.build.fingerprint or f"at {self.build.name}"]
        text = json.dumps([*parts, dict(self.replay)], sort_keys=True, default=str)
        return blake3(text.encode()).hexdigest(16)

    @property
    def room(self) -> int:
        """Bytes of scratch space that it may take."""
        return COPIES * self.trace.written + ROOM


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a cell."""

    key: str
    verdict: Verdict
    seconds: float
    where: str
    """The host that ran it."""
    counts: bool
    """Whether the verdict is about the driver: not if our disk was full, or our process died."""
    report: bytes | None = None
    """The page, if the driver is bad."""
    latency: Latency = field(default_factory=dict)

    def page(self) -> bytes:
        """Return the verdict as JSON, with what else is known of the cell."""
        more = {"seconds": round(self.seconds, 3), "host": self.where,
                "latency": self.latency}  # fmt: skip
        found = {**to_json(self.verdict), "cell": more}
        return f"{json.dumps(found)}\n".encode()


class Times:
    """Samples times, evenly over the run: each op at first, then every second, every fourth, ..."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[int]] = {}
        self._every: dict[str, int] = {}
        self._seen: Counter[str] = Counter()

    def add(self, kind: str, ns: int) -> None:
        """Note how long an op took."""
        kept = self._kinds.setdefault(kind, [])
        every = self._every.setdefault(kind, 1)
        if self._seen[kind] % every == 0:
            kept.append(ns)
            if len(kept) >= 2 * SAMPLES:
                del kept[1::2]
                self._every[kind] = 2 * every
        self._seen[kind] += 1

    def samples(self) -> Latency:
        """Return the samples."""
        return self._kinds


def run(task: Task) -> Ran:
    """Run a cell. Raises nothing: what goes wrong is in the result."""
    started = time.monotonic()
    counts, report = True, None
    latency: Latency = {}
    try:
        with PrivateFolder(Use.REPLAY) as folder:
            verdict, latency, report = _run(task, folder.path)
    except Exception as error:  # noqa: BLE001  even a bug of ours is one cell's alone
        counts = False
        log = "" if isinstance(error, BlkboxError) else traceback.format_exc()
        reason = str(error) if not log else f"this is a bug in blkbox: {error!r}"
        verdict = undecided(task, reason, log)
    counts = counts and verdict.verdict is not VerdictKind.UNDECIDABLE
    seconds = time.monotonic() - started
    return Ran(task.key, verdict, seconds, os.uname().nodename, counts, report, latency)


def lost(task: Task, how: str) -> Ran:
    """Return what came of a cell whose process died, ``how``."""
    verdict = undecided(task, f"the process that ran this cell died: {how}")
    return Ran(task.key, verdict, 0.0, os.uname().nodename, counts=False)


def undecided(task: Task, reason: str, log: str = "") -> Verdict:
    """Return the verdict of a cell that says nothing of the driver."""
    return Verdict(
        verdict=VerdictKind.UNDECIDABLE, reason=reason, driver=task.build.name,
        trace=task.trace.where or task.trace.name, size=task.trace.size, damage=[],
        culprit_damage=[], log=log,
    )  # fmt: skip


def _run(task: Task, folder: Path) -> tuple[Verdict, Latency, bytes | None]:
    """Replay the trace, and write the page if the driver is bad. Raises BlkboxError, OSError."""
    check_free(folder, task.room)
    trace = _trace(task, folder)
    driver = local_driver(task.build.name)
    here = fingerprint(task.build.name)
    if here.problem or here.fingerprint != task.build.fingerprint:
        raise Undecidable(
            here.problem
            or f"{task.build.name} is another build than when the matrix began, or on "
            "another machine: give all workers the same programs and libraries"
        )
    times = Times()
    verdict = jobs.replay(trace, driver=driver, observe=times.add, **task.replay)
    verdict = replace(
        verdict, driver=task.build.name, trace=task.trace.where or trace.name,
        command=_command(task, trace),
    )  # fmt: skip
    if verdict.verdict not in BAD:
        return verdict, times.samples(), None
    page = folder / "report.html"
    try:
        jobs.report(verdict, page, trace=trace)
        return verdict, times.samples(), page.read_bytes()
    except BlkboxError:  # the verdict is what counts
        return verdict, times.samples(), None


def _command(task: Task, trace: Path) -> list[str]:
    """Return the words of a command that repeats the cell."""
    words = ["trace", "replay", task.trace.where or trace.name, "--driver", task.build.name]
    for name, value in task.replay.items():
        option = f"--{name.replace('_', '-')}"
        if value is False:
            option = f"--no-{option[2:]}"
        words += [option] if isinstance(value, bool) else [option, str(value)]
    return words


def _trace(task: Task, folder: Path) -> Path:
    """Return the trace's file, made or fetched if need be. Raises TraceError, StorageError."""
    row = task.trace
    if row.where is None:
        assert row.seed is not None
        path = folder / f"seed-{row.seed}.trace"
        generate(path, task.profile, seed=row.seed, ops=task.ops, size=task.size, force=False)
        return path
    path = local_trace(row.where, row.digest)
    fetched = is_url(row.where)
    if read(row, path).digest != row.digest if fetched else stamp_of(row.where) != row.stamp:
        raise TraceError(f"{row.where} has changed since the matrix began")
    return path


def check_free(folder: Path, needed: int) -> None:
    """Raise StorageError unless the folder's file system has room for a cell."""
    free = free_room(folder)
    if free is not None and free < needed:
        raise StorageError(
            f"{folder.parent} has {in_words(free)} free, and this cell may need "
            f"{in_words(needed)}: {SCRATCH_REMEDY}"
        )
