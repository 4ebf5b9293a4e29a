"""What a program asks of blkbox, and the command too: one function for each job.

Packages that take long to load (polars, matplotlib) are imported by the jobs that need them.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tracer.errors import StorageError, UsageError
from tracer.op import TrimRule

if TYPE_CHECKING:
    import polars as pl

    from analysis.frames.frames import Frames
    from tracer.rework.checkout import Checkout
    from tracer.rework.cut import Cut
    from tracer.rework.strip import Stripped
    from tracer.rework.verify import Verification
    from tracer.trace.records import Mark
    from tracer.verdict import Recording, Verdict

Pathlike = str | PathLike[str]

Say = Callable[[str], None]
"""Gets a line about what goes on."""


def _silent(_: str) -> None:
    pass


@contextmanager
def _only_our_errors() -> Iterator[None]:
    """What the system says becomes a StorageError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{error.filename}: {reason}" if error.filename else reason) from error


# ---------------------------------------------------------------- record and replay


def record(
    trace: Pathlike,
    *,
    driver: str,
    command: Sequence[str],
    raw: Pathlike | None = None,
    image: Pathlike | None = None,
    size: int = 16 << 30,
    payloads: str = "full",
    on_mismatch: str = "stop",
    trim: str = TrimRule.ANY,
    trust_start: bool = False,
    sync: bool = False,
    force: bool = False,
    say: Say = _silent,
) -> "Recording":
    """Record what a guest does to its disk, until the guest ends.

    ``driver`` and the other options are those of ``trace record``. ``command`` is the guest's, in which
    ``{nbd}`` becomes the disk's URI. ``size`` is in bytes, for a disk that is made anew. ``say`` gets
    the first mismatches, as lines.
    """
    from tracer.driver.spec import parse_driver
    from tracer.recording.options import OnMismatch, Payloads, RecordOptions
    from tracer.recording.session import record

    options = RecordOptions(
        trace=Path(trace),
        driver=parse_driver(driver),
        command=tuple(command),
        raw=None if raw is None else Path(raw),
        image=None if image is None else Path(image),
        size=size,
        payloads=_choice(Payloads, payloads),
        on_mismatch=_choice(OnMismatch, on_mismatch),
        trim=_choice(TrimRule, trim),
        trust_start=trust_start,
        sync=sync,
        force=force,
    )
    if not command:
        raise UsageError("there is no guest: give its command")
    with _only_our_errors():
        return record(options, say)


def replay(
    trace: Pathlike,
    *,
    driver: str,
    locate: bool = True,
    depth: int | None = None,
    runs: int = 1,
    seed: int = 0,
    reopen_with: str | None = None,
    upto: str | None = None,
    timeout: float = 30.0,
    keep: Pathlike | None = None,
    force: bool = False,
    say: Say = _silent,
) -> "Verdict":
    """Run a trace on a build of a driver. If anything is wrong, find the culprit and explain the
    damage.

    The options are those of ``trace replay``: ``depth`` is the most ops in flight (None: as recorded),
    ``upto`` an op's number or a mark, ``timeout`` the seconds that an op may take, ``keep`` a new folder
    for the images of every run. ``say`` gets what is being tried.
    """
    from blkbox.judge import judge
    from replay.options import Order, ReplayOptions
    from tracer.driver.spec import parse_driver
    from tracer.trace.data import TraceWithData
    from tracer.trace.marks import count_upto

    if timeout <= 0:
        raise UsageError("the timeout must be above 0")
    if keep is not None and Path(keep).exists():
        raise UsageError(f"{keep} exists: --keep wants a new folder")
    with _only_our_errors(), ExitStack() as stack:
        source = stack.enter_context(TraceWithData(Path(trace)))
        ops = count_upto(source.trace, upto) if upto is not None else None
        work = keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="blkbox-replay-"))
        options = ReplayOptions(
            driver=parse_driver(driver),
            work=Path(work),
            reader=parse_driver(reopen_with) if reopen_with is not None else None,
            order=Order(seed, depth),
            upto=ops,
            runs=runs,
            find=locate,
            timeout=timeout,
            keep=keep is not None,
            force=force,
        )
        return judge(source, options, say)


# ---------------------------------------------------------------- look into a trace or a verdict


def open(trace: Pathlike) -> "Frames":
    """A trace as polars frames. Reads the header only."""
    import analysis

    with _only_our_errors():
        return analysis.open(trace)


def load_verdict(path: Pathlike) -> "Verdict":
    """The verdict in a file that ``trace replay --json`` was printed to."""
    from tracer.verdict_file import load

    return load(Path(path))


def damage(verdict: "Verdict | Recording") -> "pl.DataFrame":
    """The damaged ranges of a verdict as a frame, by sector."""
    import analysis

    return analysis.damage(verdict)


def story(verdict: "Verdict") -> str:
    """A verdict in words: what failed, the culprit, the damage, and what to do next."""
    from analysis.story.words import story

    return story(verdict)


def draw_damage(
    verdict: "Verdict", picture: Pathlike, *, trace: Pathlike | None = None, force: bool = False
) -> None:
    """Draw what a replay found, as PNG, SVG or PDF. ``trace`` says where the trace is, if that is not
    what the verdict names."""
    from analysis import plots
    from tracer.files import PICTURES, check_new

    check_new(Path(picture), force, PICTURES)
    with _only_our_errors(), open(verdict.trace if trace is None else trace) as frames:
        plots.save(plots.damage(frames, verdict), Path(picture))


def report(
    source: Pathlike, page: Pathlike, *, trace: Pathlike | None = None, force: bool = False
) -> Path:
    """Write one HTML page for a bug report, of a verdict's file or of a trace; return the trace's path.
    ``trace`` says where a verdict's trace is, if that is not what the verdict names."""
    from tracer.files import check_new, write_whole
    from tracer.progress import bar
    from tracer.verdict_file import find_trace, is_verdict, load

    source, page = Path(source), Path(page)
    check_new(page, force, (".html", ".htm"))
    verdict = load(source) if is_verdict(source) else None
    if verdict is None and trace is not None:
        raise UsageError(f"--trace goes with a verdict; {source} is none")
    path = source if verdict is None else Path(trace or find_trace(verdict, source))

    from analysis.report import READS, of_trace, of_verdict

    with (
        _only_our_errors(),
        open(path) as frames,
        bar("reading", frames.records * READS, "ops") as progress,
    ):
        frames.watch = progress
        if verdict is None:
            content = of_trace(frames, source.name)
        else:
            content = of_verdict(frames, verdict, source.name)
        write_whole(page, content.encode())
    return path


# ---------------------------------------------------------------- make something of a trace


def checkout(
    trace: Pathlike, image: Pathlike, *, at: str | None = None, force: bool = False
) -> "Checkout":
    """Make a raw image of the disk as it should have been after an op or at a mark (None: at the
    end)."""
    from tracer.rework.checkout import checkout

    with _only_our_errors():
        return checkout(Path(trace), Path(image), at, force=force)


def cut(
    trace: Pathlike,
    out: Pathlike,
    *,
    first: str = "0",
    last: str | None = None,
    force: bool = False,
) -> "Cut":
    """Make the ops from ``first`` to ``last`` (numbers or marks; None: the end) a trace of their own,
    which replays by itself."""
    from tracer.rework.cut import cut
    from tracer.trace.data import TraceWithData
    from tracer.trace.marks import last_op, resolve, resolve_upto

    with _only_our_errors(), TraceWithData(Path(trace)) as source:
        begin = resolve(source.trace, first)
        end = resolve_upto(source.trace, last) if last is not None else last_op(source.trace) + 1
        return cut(source, begin, end, Path(out), force=force)


def strip(trace: Pathlike, out: Pathlike, *, force: bool = False) -> "Stripped":
    """Write a trace without its payloads: digests stand for the data, and it still replays."""
    from tracer.rework.strip import strip

    with _only_our_errors():
        return strip(Path(trace), Path(out), force=force)


def verify(trace: Pathlike) -> "Verification":
    """Check that a trace is whole, closed, and has all its payloads."""
    from tracer.rework.verify import verify

    with _only_our_errors():
        return verify(Path(trace))


def mark(name: str, trace: Pathlike | None = None) -> "Mark":
    """Name this moment of a running recording: that of ``trace``, or the only one that runs."""
    from tracer.recording.control import put_mark
    from tracer.trace.records import Mark

    answer = put_mark(name, None if trace is None else Path(trace))
    return Mark(answer["seq"], answer["time"], name)


Choice = TypeVar("Choice", bound=StrEnum)


def _choice(kind: type[Choice], value: str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{value!r}: give one of {', '.join(kind)}") from None
