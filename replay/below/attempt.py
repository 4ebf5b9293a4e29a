"""Run a trace while one lower op fails, and judge what the driver makes of it."""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from replay.below.states.image import lower_ops
from replay.below.states.repair import is_dirty, repaired
from replay.options import AS_RECORDED, ReplayOptions
from replay.outcome import Outcome
from replay.player import Player, PlayOptions, Sides
from replay.restarts import changes
from replay.run import Run
from replay.stages import Ending
from replay.start import Start
from replay.symptom import Symptom, symptoms
from tracer.below.blkdebug import failing, rules
from tracer.below.clock import Clock
from tracer.below.events import Done, Event, Sent, joined
from tracer.below.log_writes import entries
from tracer.below.mounted import Mounted
from tracer.below.op import LowerKind, LowerOp
from tracer.below.qemu import by_fuse, cached
from tracer.candidates.durable import broken_promises
from tracer.candidates.evidence import Evidence
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.driver.driver import Driver
from tracer.driver.served import Served
from tracer.errors import DriverError
from tracer.mirror.comparison import Comparison
from tracer.trace.data import TraceWithData
from tracer.verdict import VerdictKind

ALLOWED = frozenset({errno.EIO, errno.ENOSPC, errno.EINVAL})
"""What a guest's op may fail with while a lower op does. NBD passes on the first two; QEMU's vmdk
makes the last of any."""


class Through(StrEnum):
    """What makes lower ops fail."""

    FUSE = "fuse"
    """A FUSE file: any driver that takes a file. It knows which op failed."""
    BLKDEBUG = "blkdebug"
    """QEMU's own: its formats alone, and no privileges. An error is over with one op."""


def best(driver: Driver) -> Through:
    """Return what makes a driver's lower ops fail best. Raises DriverError if nothing does."""
    return Through.FUSE if by_fuse(driver) else Through.BLKDEBUG


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run in which a lower op failed."""

    failed: LowerOp | None
    """The first that failed; None: the run did not come so far."""
    in_flight: tuple[int, ...]
    """The guest's ops in flight then, by seq."""
    refused: tuple[int, ...]
    """The guest's ops that failed, by seq."""
    reason: str | None
    """What the driver did wrong, or None."""
    verdict: VerdictKind = VerdictKind.CLEAN


@dataclass(frozen=True, slots=True)
class Failure:
    """Which lower op fails, with which errno. ``ops`` are those of a run in which none does."""

    number: int
    error: int
    ops: Sequence[LowerOp]


def attempt(
    source: TraceWithData,
    start: Start,
    options: ReplayOptions,
    fails: Failure | None,
    cache: str | None,
    through: Through,
) -> tuple[Attempt, list[LowerOp]]:
    """Run a trace while a lower op fails. Return what that showed, and the lower ops until the last
    op of the trace was done.

    The guest's op may fail; then its range holds old or new data. All else must hold, and nothing
    may fail once the cause is gone. Raises as ``replay.runner.Runner.run``.
    """
    driver, size = start.driver, source.trace.header.size
    raw, image = options.work / "inject.raw", options.work / f"inject.{driver.suffix}"
    log = options.work / "inject.log"
    for path in (raw, image, log):
        path.unlink(missing_ok=True)
    start.make_reference(raw)
    driver.create_image(image, size)
    log.touch()
    play = PlayOptions(
        order=options.order, first=start.ops, upto=options.upto, timeout=options.timeout,
        allowed=ALLOWED | options.allowed, restarts=False, as_recorded=False,
        hold=options.holds(source.trace.header.conflicts),
    )  # fmt: skip
    # the check comes after the restart: a format may have a log, which only that replays
    unchecked = replace(driver, check=None)
    options = replace(options, driver=unchecked, allowed=ALLOWED | options.allowed)
    upto = source.trace.count if options.upto is None else options.upto
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        clock = stack.enter_context(Clock(log, image))
        reference = stack.enter_context(FileDevice(raw, durable=False))
        below = stack.enter_context(_failing(driver, image, log, fails, cache, through))
        try:
            served = stack.enter_context(Served(below.driver, loop, below.path, size))
        except DriverError:
            if fails is None or fails.number >= len(fails.ops):
                raise
            below.calm()
            return _not_started(driver, loop, image, fails), []
        sides = Sides(
            loop, reference, served.running.device, Comparison(source.trace.header.trim), served,
            clock,
        )  # fmt: skip
        outcome = Player(source, sides, play).play()
        below.calm()
        events = list(joined(clock.moments, entries(log, clock.started)))
        done = lower_ops(events)
        if through is Through.BLKDEBUG and fails is not None:
            events = _with_failure(events, fails)
        ending = Ending(
            Run("inject", AS_RECORDED, upto), source, options, sides, served.running,
            below.path, start, volatile=False,
        )  # fmt: skip
        outcome = ending.finish(outcome)
        found = _wrong(outcome, source, upto)
        if not found and outcome.reopened is not None and not _sticks(events, through):
            outcome = replace(outcome, check=driver.check_image(below.path))
            found = _wrong(outcome, source, upto)
    reason = found[0].reason if found else _too_late(events)
    verdict = VerdictKind.CLEAN
    if reason is not None:
        verdict = found[0].verdict if found else VerdictKind.FAILED
    return replace(_attempt(events), reason=reason, verdict=verdict), done


def _sticks(events: list[Event], through: Through) -> bool:
    """Whether the driver can write no metadata in order any more: after a flush of a file has
    failed, QEMU lets all later ones fail (block/file-posix.c), and rightly so. blkdebug's failures
    do not reach that."""
    return through is Through.FUSE and _flush_failed(events)


def _flush_failed(events: list[Event]) -> bool:
    return any(one.error and one.kind is LowerKind.FLUSH for one in lower_ops(events))


def _wrong(outcome: Outcome, source: TraceWithData, upto: int) -> list[Symptom]:
    """Return the symptoms that are not allowed while a lower op fails."""
    return [one for one in symptoms(outcome, upto) if not _allowed(one, outcome, source, upto)]


def _not_started(driver: Driver, loop: Loop, image: Path, fails: Failure) -> Attempt:
    """Judge a driver that does not start while its disk fails: it must do so later, if need be
    after the repair that its format prescribes."""
    failed = replace(fails.ops[fails.number], error=fails.error)
    if is_dirty(image):
        image = repaired(driver, image) or image
    try:
        with driver.start(loop, image, None) as running:
            running.stop()
    except DriverError as error:
        reason = f"it did not start then, and does not later: {error.log.strip() or error}"
        return Attempt(failed, (), (), reason, VerdictKind.FAILED)
    return Attempt(failed, (), (), None)


@dataclass(frozen=True, slots=True)
class _Below:
    """What is below a driver in one run: the driver as it is served, the path of its image, and
    what ends all failures."""

    driver: Driver
    path: Path
    calm: Callable[[], None]


@contextmanager
def _failing(
    driver: Driver, image: Path, log: Path, fails: Failure | None, cache: str | None,
    through: Through,
) -> Iterator[_Below]:  # fmt: skip
    """Put what makes a lower op fail below a driver, and what passes in a log."""
    if through is Through.FUSE:
        pair = (fails.number, fails.error) if fails is not None else None
        with Mounted(image, log, pair) as mounted:
            yield _Below(cached(driver, cache), mounted.path, mounted.calm)
        return
    config = log.with_suffix(".rules")
    config.write_text(rules(fails.ops, fails.number, fails.error) if fails is not None else "")
    # an error of blkdebug's is over with one op
    yield _Below(failing(driver, log, config, cache), image, lambda: None)


def _with_failure(events: list[Event], fails: Failure) -> list[Event]:
    """Return the events with the lower op that failed, which blkdebug's log does not have: right
    before the first op of the guest that failed, or where that lower op came in the run without a
    failure. If all is as in that run, none failed."""
    done = lower_ops(events)
    refused = next(
        (at for at, one in enumerate(events) if isinstance(one, Done) and one.error in ALLOWED),
        None,
    )
    number = fails.number
    if number >= len(fails.ops):
        return events
    meant = fails.ops[number]
    as_before = len(done) > number and done[number].describe() == meant.describe()
    if refused is None and as_before:
        return events
    if refused is None:
        passed = [at for at, one in enumerate(events) if isinstance(one, LowerOp)][:number]
        later = passed[-1] + 1 if passed else 0
        refused = next(
            (at for at, one in enumerate(events) if at >= later and not isinstance(one, Sent)),
            len(events),
        )
    failed = replace(meant, error=fails.error)
    return [*events[:refused], failed, *events[refused:]]


def _attempt(events: list[Event]) -> Attempt:
    """Return which lower op failed, and what the guest saw of that."""
    in_flight: set[int] = set()
    then: tuple[int, ...] = ()
    failed: LowerOp | None = None
    for event in events:
        if isinstance(event, Sent):
            in_flight.add(event.seq)
        elif isinstance(event, Done):
            in_flight.discard(event.seq)
        elif event.error and failed is None:
            failed, then = event, tuple(sorted(in_flight))
    refused = tuple(e.seq for e in events if isinstance(e, Done) and e.error in ALLOWED)
    return Attempt(failed, then, refused, None)


def _allowed(one: Symptom, outcome: Outcome, source: TraceWithData, upto: int) -> bool:
    """Whether damage is none: the range of an op that failed holds old or new data, and what it
    holds may change until it is written again."""
    if not one.damage:
        return False
    pieces = outcome.evidence()
    if one.difference is not None and one.difference.actual:
        seen = one.difference
        pieces = [Evidence(seen.offset, seen.expected, seen.actual)]
    open_ = outcome.unflushed.numbers() | outcome.partial
    rule = source.trace.header.trim
    return bool(pieces) and not broken_promises(pieces, changes(source, upto, open_), rule)


def _too_late(events: list[Event]) -> str | None:
    """Say which op of the guest failed that was sent once the cause was gone; None if none did.

    After a flush that failed, nobody knows what the file holds, and later ones may fail too.
    """
    if _flush_failed(events):
        return None
    last = max(
        (at for at, event in enumerate(events) if isinstance(event, LowerOp) and event.error),
        default=-1,
    )
    after = {event.seq for event in events[last + 1 :] if isinstance(event, Sent)}
    for event in events:
        if isinstance(event, Done) and event.seq in after and event.error in ALLOWED:
            name = errno.errorcode[event.error]
            return f"op #{event.seq} failed ({name}), though no lower op failed any more"
    return None


def image_of(work: Path, suffix: str) -> Path:
    """Return where the image of the last attempt is."""
    return work / f"inject.{suffix}"
