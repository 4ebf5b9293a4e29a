"""Make lower ops fail, one in each run of a trace, and say what a driver does wrong then."""

import errno
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from replay.below.attempt import Attempt, Failure, Through, attempt, image_of
from replay.below.found import Lower
from replay.options import ReplayOptions
from replay.start import plan
from tracer.below.qemu import cache_of, cached
from tracer.disk import sparse
from tracer.errors import UsageError
from tracer.progress import bar
from tracer.trace.data import TraceWithData
from tracer.verdict import VerdictKind

_WORST = [VerdictKind.CLEAN, VerdictKind.FAILED, VerdictKind.DAMAGED]

ENOUGH = 10
"""Failing runs after which no more are looked for."""


@dataclass(frozen=True, slots=True)
class InjectOptions:
    """What the user asked for: which errors, and at which lower ops: ``at``, or every ``every``-th,
    or a sample of all, as long as ``seconds`` allow (None: no limit)."""

    errors: tuple[int, ...] = (errno.EIO, errno.ENOSPC)
    at: int | None = None
    every: int = 1
    sampled: bool = True
    seconds: float | None = 60.0
    seed: int = 0
    cache: str | None = None
    through: Through = Through.FUSE
    keep: Path | None = None
    """A folder for the images of failing runs."""


def parse_at(wanted: InjectOptions, at: int | str | None) -> InjectOptions:
    """Return the options with which lower ops fail: a number, ``all``, ``every N``, or None for a
    sample. Raises UsageError."""
    words = str(at).split()
    match words:
        case ["None"]:
            return wanted
        case ["all"]:
            return replace(wanted, sampled=False)
        case [number] if number.isdigit():
            return replace(wanted, at=int(number), sampled=False)
        case ["every", number] if number.isdigit() and int(number):
            return replace(wanted, every=int(number), sampled=False)
    raise UsageError(f"--at {at}: give the number of a lower op, all, or 'every N'")


@dataclass(frozen=True, slots=True)
class InjectFault:
    """A run that went wrong."""

    error: str
    """The name of the errno with which the lower op failed."""
    lower: Lower
    in_flight: list[int]
    """The guest's ops in flight then, by seq."""
    refused: list[int]
    """The guest's ops that failed, by seq."""
    verdict: VerdictKind
    reason: str
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Injected:
    """The result."""

    verdict: VerdictKind
    trace: str
    driver: str
    cache: str
    reason: str | None
    through: str = Through.FUSE
    """What made lower ops fail."""
    lower: int = 0
    """Lower ops of a run in which nothing fails."""
    runs: int = 0
    reached: int = 0
    """Runs in which a lower op did fail."""
    refused: int = 0
    """Runs in which an op of the guest failed for that."""
    seconds: float = 0.0
    complete: bool = False
    """Whether all that was asked for was run."""
    seed: int = 0
    faults: list[InjectFault] = field(default_factory=list)


def inject(source: TraceWithData, options: ReplayOptions, wanted: InjectOptions) -> Injected:
    """Run a trace once without a failure, and then once for each lower op and error.

    Raises as ``replay.runner.Runner.run``, DriverError if FUSE is wanted and not here, UsageError
    if blkdebug cannot be put below the driver.
    """
    start = plan(source, options)
    start.build(source)
    started = time.monotonic()
    first, ops = attempt(source, start, options, None, wanted.cache, wanted.through)
    cache = cache_of(cached(start.driver, wanted.cache))
    found = Injected(VerdictKind.CLEAN, str(source.trace.path), start.driver.name, cache, None,
                     lower=len(ops), seed=wanted.seed,
                     through=wanted.through)  # fmt: skip
    if first.reason is not None:
        why = f"without an error: {first.reason}"
        return replace(found, verdict=VerdictKind.FAILED, reason=why)
    runs = reached = refused = 0
    faults: list[InjectFault] = []
    complete = True
    plans = list(_plans(len(ops), wanted))
    with bar("failing lower ops", len(plans), "runs") as progress:
        for number, error in plans:
            over = wanted.seconds is not None and time.monotonic() - started >= wanted.seconds
            if over or len(faults) >= ENOUGH:
                complete = False
                break
            fails = Failure(number, error, ops)
            one, _ = attempt(source, start, options, fails, wanted.cache, wanted.through)
            progress(1)
            runs += 1
            reached += one.failed is not None
            refused += bool(one.refused)
            if one.reason is not None and one.failed is not None:
                kept = _keep(options, wanted, start.driver.suffix, number, error)
                faults.append(_fault(one, error, kept))
    verdict = max((fault.verdict for fault in faults), key=_WORST.index, default=VerdictKind.CLEAN)
    reason: str | None = None
    if not reached:
        verdict, reason = VerdictKind.UNDECIDABLE, "no lower op could be made to fail"
    return replace(
        found, verdict=verdict, reason=reason, runs=runs, reached=reached, refused=refused,
        seconds=round(time.monotonic() - started, 3), complete=complete, faults=faults,
    )  # fmt: skip


def _plans(count: int, wanted: InjectOptions) -> Iterator[tuple[int, int]]:
    """Yield the number of a lower op and an errno for each run."""
    numbers: Sequence[int] = range(0, count, wanted.every)
    if wanted.at is not None:
        numbers = [wanted.at]
    pairs = [(number, error) for number in numbers for error in wanted.errors]
    if wanted.sampled:
        random.Random(wanted.seed).shuffle(pairs)
    yield from pairs


def _fault(one: Attempt, error: int, kept: str | None) -> InjectFault:
    assert one.failed is not None
    assert one.reason is not None
    return InjectFault(
        error=errno.errorcode[error], lower=Lower.of(one.failed), in_flight=list(one.in_flight),
        refused=list(one.refused), verdict=one.verdict, reason=one.reason, image=kept,
    )  # fmt: skip


def _keep(
    options: ReplayOptions, wanted: InjectOptions, suffix: str, number: int, error: int
) -> str | None:
    if wanted.keep is None:
        return None
    path = wanted.keep / f"op-{number}-{errno.errorcode[error]}.{suffix}"
    sparse.copy(str(image_of(options.work, suffix)), str(path))
    return str(path)


def words(found: Injected) -> str:
    """Return the result as ``trace inject`` prints it."""
    cache = "" if found.cache == "writeback" else f", cache={found.cache}"
    why = found.reason or (
        "it does not survive an error below it" if found.faults else "it survives errors below it"
    )
    sampled = "all" if found.complete else "a sample"
    lines = [
        ("verdict", f"{found.verdict} ({found.driver}{cache}): {why}"),
        ("runs", f"{found.runs:,}, {sampled}: in {found.reached:,} one of {found.lower:,} lower "
                 f"ops failed, in {found.refused:,} an op of the guest for that"),
        ("", f"{found.seconds:.1f} s, seed {found.seed}, by {found.through}"),
    ]  # fmt: skip
    for number, fault in enumerate(found.faults, 1):
        seqs = ", ".join(f"#{seq}" for seq in fault.in_flight[:8]) or "no op"
        lines.append((f"culprit {number}", f"{fault.error} of {fault.lower.text()}"))
        lines.append(("", f"with {seqs} in flight"))
        lines.append(("", fault.reason))
        if fault.image is not None:
            lines.append(("image", fault.image))
    return "\n".join(f"{f'{key}:' if key else '':10} {text}" for key, text in lines)
