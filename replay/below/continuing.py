"""Go on after a power cut: run the rest of a trace on an image that it has left.

What the disk holds then is taken for right, and becomes the reference. So only damage counts that
comes later: a cluster that two writers get, a table that is overwritten.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from replay.below.reading import data_ranges, read
from replay.below.recorded import LowerRun
from replay.below.states.opened import CannotOpen
from replay.options import AS_RECORDED, ReplayOptions
from replay.player import Player, PlayOptions, Sides
from replay.run import Run
from replay.stages import Ending
from replay.symptom import symptoms
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.driver.served import Served
from tracer.errors import DriverError
from tracer.mirror.comparison import Comparison
from tracer.op import Kind
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData


def goes_wrong(
    source: TraceWithData, run: LowerRun, options: ReplayOptions, image: Path, first: int
) -> str | None:
    """Run a trace without its first ``first`` ops on a copy of an image. Return what is wrong then,
    or None. Raises TraceError, StorageError."""
    size, folder = source.trace.header.size, options.work
    raw, copy = folder / "continued.raw", folder / f"continued.{run.driver.suffix}"
    for path in (raw, copy):
        path.unlink(missing_ok=True)
    make_raw(raw, size)
    sparse.copy(str(image), str(copy))
    options = replace(options, driver=run.driver)
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        reference = stack.enter_context(FileDevice(raw, durable=False))
        try:
            served = stack.enter_context(Served(run.driver, loop, copy, size))
            device = served.running.device
            where = data_ranges(loop, device, size)
            if not device.has_block_status:
                where = RangeSet([(0, size)])
            for at, data in read(loop, device, where):
                reference.execute(Kind.WRITE, 0, at, len(data), data)
        except (CannotOpen, DriverError) as problem:
            return f"starting again: {problem}"
        sides = Sides(loop, reference, device, Comparison(source.trace.header.trim), served)
        play = PlayOptions(
            first=first, upto=options.upto, timeout=options.timeout, allowed=options.allowed,
            stop_early=True, hold=True, as_recorded=False,
        )  # fmt: skip
        outcome = Player(source, sides, play).play()
        sides = replace(sides, test=served.running.device)
        upto = source.trace.count if options.upto is None else options.upto
        last = Run("continued", AS_RECORDED, upto)
        ending = Ending(
            last, source, options, sides, served.running, copy, run.origin, volatile=False
        )
        outcome = ending.finish(outcome)
    found = symptoms(outcome, upto)
    return found[0].reason if found else None
