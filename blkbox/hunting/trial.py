"""One trace of a hunt: make it from its seed, run it on a driver, and see what shows.

These functions run in processes of their own: all that they take and return is data.
"""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from blkbox.hunting.fault import key_of
from blkbox.hunting.variants import Variant, applied
from blkbox.judging.judge import judge
from blkbox.judging.report import write_report
from blkbox.minimizing.result import page
from blkbox.minimizing.running import MinimizeOptions
from blkbox.minimizing.script import check_scripts, write_scripts
from blkbox.minimizing.session import minimize_trace
from replay.generate.dice import Dice
from replay.generate.profiles import Profile, parse_profile
from replay.generate.writing import generate
from replay.options import ReplayOptions
from tracer.disk.loop import Loop
from tracer.disk.private import PrivateFolder, Use
from tracer.driver.driver import Driver
from tracer.driver.spec import parse_driver
from tracer.errors import BlkboxError
from tracer.files import write_whole
from tracer.trace.data import TraceWithData
from tracer.verdict import BAD, Verdict, VerdictKind, to_json

SIZES = (1 << 20, 4 << 20, 16 << 20, 64 << 20, 64 << 20, 1 << 30)
"""Bytes of the disks. On a small one ops meet; a large one has more than one table of metadata."""

TIMEOUT = 15.0
"""Seconds that a driver may take for an op. Generated ops are small, but machines get busy."""


TIMES_SEARCH = 2
"""How many times the time of the search a minimisation may take."""

AGAIN = 12
"""Runs of a trace that has shown a fault until it shows again: one that shows in a fifth of the
runs is missed once in 15 times."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is hunted in: a driver, as ``--driver`` names it, and a set of options."""

    driver: str
    variant: Variant
    grain: int = 1
    """The driver's smallest block, in bytes."""

    @property
    def name(self) -> str:
        """The target in words: ``qcow2 (small clusters)``."""
        return f"{self.driver} ({self.variant.name})" if self.variant.name else self.driver

    def build(self) -> Driver:
        """Return the driver. Raises UsageError, DriverError."""
        return applied(parse_driver(self.driver), self.variant)


@dataclass(frozen=True, slots=True)
class Trial:
    """A trace to make and to run."""

    target: Target
    seed: int
    ops: int
    profile: str
    trace: Path | None = None
    """A trace of an earlier hunt, to be run in place of a new one."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a trial."""

    trial: Trial
    verdict: VerdictKind
    reason: str
    key: str | None
    """What tells the fault from others; None if there was none."""
    seconds: float
    page: bytes | None = None
    """The verdict as JSON, if there was a fault."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A fault that was searched to its culprit, minimised and written to a folder."""

    key: str
    culprit: str | None
    small: int | None = None
    """The ops of the minimised trace; None if there is none."""


def smallest_block(target: Target) -> int:
    """Start the target once on a small disk. Return its smallest block, in bytes. Raises
    DriverError, UsageError, StorageError."""
    driver = target.build()
    with PrivateFolder(Use.REPLAY) as folder, Loop() as loop:
        image = folder.path / f"probe.{driver.suffix}"
        if driver.owns_image:
            driver.create_image(image, SIZES[0])
        with driver.start(loop, image, SIZES[0] if driver.owns_image else None) as running:
            return running.device.export.sizes.minimum


def run(trial: Trial) -> Tried:
    """Make the trace and run it once, to the end. Raises StorageError if our own disk fails."""
    started = time.monotonic()
    with PrivateFolder(Use.REPLAY) as folder:
        trace = folder.path / "hunt.trace"
        make(trial, trace)
        with TraceWithData(trace) as source:
            options = _options(trial.target, folder.path, find=False)
            verdict = judge(source, options, lambda text: None)
    bad = verdict.verdict in BAD
    return Tried(
        trial, verdict.verdict, verdict.reason, key_of(verdict) if bad else None,
        time.monotonic() - started, _page(verdict) if bad else None,
    )  # fmt: skip


def died(trial: Trial, how: str) -> Tried:
    """Return what came of a trial whose process died, ``how``: nothing is known of the driver."""
    reason = f"the process that ran seed {trial.seed} died: {how}"
    return Tried(trial, VerdictKind.UNDECIDABLE, reason, None, 0.0)


def search_died(tried: Tried, _how: str) -> Kept:
    """Return what came of a search whose process died: the verdict of the first run stands."""
    assert tried.key is not None
    return Kept(tried.key, None)


def make(trial: Trial, trace: Path) -> None:
    """Write the trace of a trial. Raises StorageError, OSError."""
    if trial.trace is not None:
        shutil.copyfile(trial.trace, trace)
        return
    size = Dice(trial.seed).pick(SIZES)
    generate(trace, _profile(trial), seed=trial.seed, ops=trial.ops, size=size, force=False)


def keep(tried: Tried, folder: Path, seconds: float) -> Kept:
    """Find the culprit of a fault within so many seconds. Put the trace, the verdict and a report
    into a new folder. Raises StorageError."""
    assert tried.key is not None
    assert tried.page is not None
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "fault.trace"
    if not trace.exists():
        make(tried.trial, trace)
    # what was seen stays, if it is not seen again
    write_whole(folder / "verdict.json", tried.page)
    with PrivateFolder(Use.REPLAY) as work, TraceWithData(trace) as source:
        options = _options(tried.trial.target, work.path, find=True, seconds=seconds)
        verdict = judge(source, options, lambda text: None)
        if verdict.verdict not in BAD:
            return Kept(tried.key, None)
        small = _minimize(source, options, folder, verdict, seconds)
    write_whole(folder / "verdict.json", _page(verdict))
    try:
        write_report(verdict, folder / "report.html", trace=trace, force=True)
    except BlkboxError as error:  # the verdict is what counts
        (folder / "report.txt").write_text(f"no report: {error}\n")
    culprit = verdict.culprit
    words = None if culprit is None else f"#{culprit.seq} {culprit.kind}"
    return Kept(tried.key, words, small)


def _minimize(
    source: TraceWithData, replaying: ReplayOptions, folder: Path, verdict: Verdict, seconds: float
) -> int | None:
    """Put the minimised trace and a script into a fault's folder. Return the number of its ops;
    None if it does not show the fault."""
    options = MinimizeOptions(folder / "small.trace", TIMES_SEARCH * seconds, jobs=1)
    made, program = minimize_trace(
        source, replaying, options, lambda text: None, verdict=verdict
    )  # fmt: skip
    if program is None or not made.shown:
        return None
    scripts = check_scripts([folder / name for name in ("bug.sh", "bug.py")], force=True)
    write_scripts(made, program, replaying, scripts, lambda text: None)
    write_whole(folder / "small.txt", f"{page(made)}\n".encode())
    return made.ops


def _page(verdict: Verdict) -> bytes:
    return f"{json.dumps(to_json(verdict), indent=2)}\n".encode()


def _profile(trial: Trial) -> Profile:
    profile = parse_profile(trial.profile)
    if trial.target.variant.starts_with_data:
        profile = replace(profile, start=1.0)
    return replace(profile, unaligned=0.0) if trial.target.grain > 1 else profile


def _options(
    target: Target, work: Path, *, find: bool, seconds: float | None = None
) -> ReplayOptions:
    return ReplayOptions(
        driver=target.build(), work=work, start=target.variant.start, find=find,
        runs=AGAIN if find else 1,
        complete=True, time=seconds, timeout=TIMEOUT,
    )  # fmt: skip
