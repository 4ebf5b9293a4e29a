"""A run's NAME.lower: written, with the bytes in a payload store beside it, and its crash states
built from it again."""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from replay.below.found import Lower
from replay.below.recorded import LowerRun, run_logged
from replay.below.states.image import CrashImage, lower_ops
from replay.below.states.points import Crash, Points
from replay.options import ReplayOptions
from tracer.below.log_writes import LogReader
from tracer.below.qemu import by_qemu
from tracer.below.stored import StoredRun, own_store, stored, stored_image
from tracer.below.stream import LowerHeader, Store, lower_path, write_lower
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import TraceError, UsageError
from tracer.files import check_new, replaced, whole
from tracer.trace.data import TraceWithData
from tracer.trace.payloads import PayloadWriter


def write_below(source: TraceWithData, options: ReplayOptions, *, force: bool) -> None:
    """Run a trace once on a driver, and write what that does to its image file as NAME.lower.

    Raises UsageError if that file or its payload store exists without ``force`` or nothing can be
    put below the driver, and as a replay.
    """
    path = lower_path(source.trace.path)
    for one in (path, own_store(path)):
        check_new(one, force)
    if not options.driver.owns_image:
        raise UsageError(f"--below: {options.driver.name} has no image file of ours")
    with PrivateFolder(Use.REPLAY) as folder:
        run = run_logged(source, replace(options, driver=by_qemu(options.driver), work=folder.path))
        write_run(source, run, path)


def write_run(source: TraceWithData, run: LowerRun, path: Path) -> None:
    """Write the lower ops of a run as ``path``, a NAME.lower, with its own payload store. Both
    appear whole or not at all, and replace what has these names. Raises StorageError."""
    trace = source.trace.header.id
    header = LowerHeader(trace, run.start.stat().st_size, run.driver.describe(), Store.OWN)
    with whole(own_store(path), path) as folder, LogReader(run.log) as log:
        store = PayloadWriter(folder / own_store(path).name, trace)
        try:
            found = chain(stored_image(run.start, store), stored(run.events, log, store))
            write_lower(folder / path.name, header, found)
        finally:
            store.close()


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The image that was built."""

    lower: str
    """The NAME.lower."""
    image: str
    state: int
    states: int
    """All states of all points."""
    point: int
    """How many lower ops were issued."""
    last: Lower | None
    """The last of them."""
    missing: list[Lower]
    """Those that are not on the disk."""
    torn: int | None
    """Of the last lower op, only so many bytes are on the disk; None: all of it."""
    size: int
    """Bytes of the image."""
    schema: int = 1


def rebuild(
    trace: Path, state: int, image: Path, *, seed: int = 0,
    missing: frozenset[int] | None = None, force: bool = False,
) -> Rebuilt:  # fmt: skip
    """Build the image of a crash state of the run in ``trace``'s NAME.lower.

    ``missing``: at that state's point, these lower ops are missing in place of those that the
    number says: a state that was shrunk. The image appears whole or not at all. Raises UsageError
    if it exists and ``force`` is not given or there is no such state, TraceError if the lower ops
    or their bytes cannot be read, StorageError if the image cannot be written.
    """  # fmt: skip
    lower = lower_path(trace)
    if not lower.exists():
        raise TraceError(f"there is no {lower}: trace replay --below and powercut --keep write one")
    with StoredRun(lower) as run:
        if replaced((image,), (lower, run.store)):
            raise UsageError(f"{image} cannot be both the image and the lower ops or their data")
        check_new(image, force)
        points = Points(lower_ops(run.events), seed)
        if not 0 <= state < points.states:
            raise UsageError(f"--state {state}: {lower} has states 0 to {points.states - 1:,}")
        crash = points.state(state)
        if missing is not None:
            wrong = missing.difference(points.open(crash.point))
            if wrong:
                raise UsageError(f"--missing: lower op {min(wrong)} cannot be missing in state "
                                 f"{state}")  # fmt: skip
            crash = Crash(crash.point, missing)
        with whole(image) as folder:
            run.write_start(folder / "start")
            with CrashImage(folder / "start", run.read, points, folder, "image") as built:
                built.build(crash)
                built.path.rename(folder / image.name)
    last = points.ops[crash.point - 1] if crash.point else None
    return Rebuilt(
        str(lower), str(image), state, points.states, crash.point,
        None if last is None else Lower.of(last),
        [Lower.of(points.ops[number]) for number in sorted(crash.missing)],
        crash.torn, image.stat().st_size,
    )  # fmt: skip


def parse_missing(text: str | None) -> frozenset[int] | None:
    """Return the lower ops that ``--missing`` names. Raises UsageError."""
    if text is None:
        return None
    words = [] if text == "none" else text.split(",")
    if not all(word.isdecimal() and word.isascii() for word in words):
        raise UsageError(f"--missing {text}: give numbers of lower ops, like 12,14, or none")
    return frozenset(map(int, words))
