"""Run a trace once on a driver, with the driver's lower ops logged."""

from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from replay.options import ReplayOptions
from replay.outcome import Outcome
from replay.player import Player, PlayOptions, Sides
from replay.start import Start, plan
from tracer.below.clock import Clock
from tracer.below.events import Event, joined
from tracer.below.log_writes import entries
from tracer.below.mounted import Mounted
from tracer.below.qemu import by_fuse, cached, logged
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.room import SCRATCH_REMEDY, check_room
from tracer.driver.driver import Driver
from tracer.driver.served import Served
from tracer.mirror.comparison import Comparison
from tracer.nbd.protocol import TransmissionFlag
from tracer.progress import bar
from tracer.trace.data import TraceWithData


class Through(StrEnum):
    """How lower ops are seen."""

    FUSE = "fuse"
    """A FUSE file: any driver that takes a file, and it sees the file as it is."""
    BLKLOGWRITES = "blklogwrites"
    """QEMU's own log: its formats alone, and no privileges. The format cannot tell there that the
    file zeroes fast, and leaves out what it does with such files."""


def best(driver: Driver) -> Through:
    """Return how a driver's lower ops are seen best. Raises DriverError if they cannot be seen."""
    return Through.FUSE if by_fuse(driver) else Through.BLKLOGWRITES


@dataclass(frozen=True, slots=True)
class LowerRun:
    """A run of a trace, and what the driver did to its image file."""

    through: Through
    driver: Driver
    """The driver, without a log below it. Its images have the same backing file, if any."""
    served: Driver
    """The same with the log, as it was run."""
    start: Path
    """The image before the first op."""
    image: Path
    """The image after the driver has stopped."""
    log: Path
    """What the lower ops wrote (tracer/below/log_writes.py)."""
    events: list[Event]
    outcome: Outcome
    """What the ops themselves showed: a driver may fail without a power cut."""
    stop: str | None
    """What went wrong when the driver stopped."""
    flushes: bool
    """Whether the driver takes flushes; otherwise each op is durable once it is done."""
    origin: Start
    """How images got the data that the disk starts with."""
    start_ops: int
    """The first ops of the trace, which were not played: the image holds their data."""


def run_logged(
    source: TraceWithData,
    options: ReplayOptions,
    cache: str | None = None,
    through: Through | None = None,
) -> LowerRun:
    """Run the trace once. Only behind a FUSE file is the driver restarted, where the trace has
    that: the log of blklogwrites would begin anew.

    ``through`` is how the lower ops are seen; None: by FUSE, if that can be used here.

    Raises as ``replay.runner.Runner.run``, UsageError if nothing can be put below the driver, and
    DriverError if what is to be put there does not start.
    """
    through = through or best(options.driver)
    start = plan(source, options)
    start.build(source)
    driver, size = start.driver, source.trace.header.size
    folder = options.work / "below"
    folder.mkdir(parents=True)
    raw, image = folder / "reference.raw", folder / f"test.{driver.suffix}"
    before, log = folder / f"start.{driver.suffix}", folder / "log"
    serving = logged(driver, log, cache) if through is Through.BLKLOGWRITES else cached(
        driver, cache)  # fmt: skip
    start.make_reference(raw)
    driver.create_image(image, size)
    sparse.copy(str(image), str(before))
    log.touch()
    comparison = Comparison(source.trace.header.trim)
    play = PlayOptions(
        order=options.order, first=start.ops, upto=options.upto, timeout=options.timeout,
        allowed=options.allowed, connections=options.connections,
        restarts=through is Through.FUSE,
        as_recorded=not options.part, hold=options.holds(source.trace.header.conflicts),
    )  # fmt: skip
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        clock = stack.enter_context(Clock(log, image))
        reference = stack.enter_context(FileDevice(raw, durable=False))
        shown = image
        if through is Through.FUSE:
            shown = stack.enter_context(Mounted(image, log)).path
        served = stack.enter_context(Served(serving, loop, shown, size))
        progress = stack.enter_context(bar("recording lower ops", source.trace.count, "ops"))
        device = served.running.device
        flushes = bool(device.export.flags & TransmissionFlag.SEND_FLUSH)
        sides = Sides(loop, reference, device, comparison, served, clock)
        outcome = Player(source, sides, play).play(progress)
        stop = outcome.stop
        if outcome.lost is None and outcome.ended_at is None:
            stop = served.running.stop()
        check_room(folder, SCRATCH_REMEDY)
        moments = clock.moments
    raw.unlink()
    sizes = before.stat().st_size if through is Through.BLKLOGWRITES else None
    events = list(joined(moments, entries(log, clock.started), sizes))
    return LowerRun(
        through, driver, serving, before, image, log, events, outcome, stop, flushes, start,
        start.ops,
    )  # fmt: skip
