"""Run a trace while one lower op fails, and judge what the driver makes of it."""

import errno
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from replay.options import AS_RECORDED, ReplayOptions
from replay.outcome import Outcome
from replay.player import Player, PlayOptions, Sides
from replay.restarts import changes
from replay.run import Run
from replay.stages import Ending
from replay.start import Start
from replay.symptom import Symptom, symptoms
from tracer.below.clock import Clock
from tracer.below.events import Done, Event, Sent, joined
from tracer.below.log_writes import entries
from tracer.below.mounted import Mounted
from tracer.below.op import LowerKind, LowerOp
from tracer.below.qemu import cached
from tracer.candidates.durable import broken_promises
from tracer.candidates.evidence import Evidence
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.driver.served import Served
from tracer.mirror.comparison import Comparison
from tracer.trace.data import TraceWithData
from tracer.verdict import VerdictKind

ALLOWED = frozenset({errno.EIO, errno.ENOSPC, errno.EINVAL})
"""What a guest's op may fail with while a lower op does. NBD passes on the first two; QEMU's vmdk
makes the last of any."""


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


def attempt(
    source: TraceWithData,
    start: Start,
    options: ReplayOptions,
    fails: tuple[int, int] | None,
    cache: str | None,
) -> tuple[Attempt, int]:
    """Run a trace with ``fails`` (the number of a lower op, and an errno). Return what that showed,
    and how many lower ops there were until the last op of the trace was done.

    The guest's op may fail; then its range holds old or new data. All else must hold, and nothing
    may fail once the cause is gone. Raises as ``replay.runner.Runner.run``.
    """  # fmt: skip
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
    options = replace(options, driver=driver, allowed=ALLOWED | options.allowed)
    upto = source.trace.count if options.upto is None else options.upto
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        clock = stack.enter_context(Clock(log, image))
        reference = stack.enter_context(FileDevice(raw, durable=False))
        mounted = stack.enter_context(Mounted(image, log, fails))
        served = stack.enter_context(Served(cached(driver, cache), loop, mounted.path, size))
        sides = Sides(
            loop, reference, served.running.device, Comparison(source.trace.header.trim), served,
            clock,
        )  # fmt: skip
        outcome = Player(source, sides, play).play()
        mounted.calm()
        events = list(joined(clock.moments, entries(log)))
        ending = Ending(
            Run("inject", AS_RECORDED, upto), source, options, sides, served.running,
            mounted.path, start, volatile=False,
        )  # fmt: skip
        outcome = ending.finish(outcome)
    found = [one for one in symptoms(outcome, upto) if not _allowed(one, outcome, source, upto)]
    reason = found[0].reason if found else _too_late(events)
    verdict = VerdictKind.CLEAN
    if reason is not None:
        verdict = found[0].verdict if found else VerdictKind.FAILED
    shown = replace(_attempt(events), reason=reason, verdict=verdict)
    return shown, sum(isinstance(event, LowerOp) for event in events)


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

    After a flush that failed, nobody knows what the file holds: QEMU then lets all later flushes
    fail (block/file-posix.c), and rightly so.
    """
    if any(
        isinstance(one, LowerOp) and one.error and one.kind is LowerKind.FLUSH for one in events
    ):
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
