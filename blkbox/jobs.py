"""The functions of the public API, one for each job. The verbs of ``trace`` call them too.

Each function imports the packages that load slowly (polars, matplotlib) only when it needs them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import UsageError, only_our_errors
from tracer.files import Pathlike
from tracer.op import OnConflict, TrimRule
from tracer.progress import Say, silent
from tracer.text import choice

if TYPE_CHECKING:
    import polars as pl

    from analysis.frames.frames import Frames
    from blkbox.hunting.folder import State
    from replay.generate.writing import Generated
    from tracer.rework.checkout import Checkout
    from tracer.rework.cut import Cut
    from tracer.rework.strip import Stripped
    from tracer.rework.verify import Verification
    from tracer.serving.serve import Served
    from tracer.trace.records import Mark
    from tracer.verdict import Recording, Verdict

# ---------------------------------------------------------------- record and replay


def record(
    trace: Pathlike,
    *,
    driver: Pathlike,
    command: Sequence[str],
    raw: Pathlike | None = None,
    image: Pathlike | None = None,
    size: int | None = None,
    fresh: bool = False,
    payloads: str = "full",
    on_mismatch: str = "stop",
    trim: str = TrimRule.ANY,
    conflicts: str = "send",
    trust_start: bool = False,
    compare: str = "touched",
    thorough: bool = False,
    allow_errno: str = "",
    sync: bool = False,
    below: bool = False,
    force: bool = False,
    say: Say = silent,
) -> "Recording":
    """Record what a guest does to its disk, until the guest ends. Return what was found.

    ``trace``: the trace to write. Its payloads go into a second file beside it.
    ``driver``: the driver under test: ``raw``, ``qcow2``, ``vmdk``, ..., ``FORMAT@DIR`` for a build
    of QEMU in a folder, an NBD URI, a block device, or a ``.toml`` file (docs/drivers.md); ``none``
    records on the reference image alone, for a replay to judge.
    ``command``: the guest's command line. ``{nbd}`` in it becomes the disk's NBD URI, which is also
    in the environment variable ``NBD_URI``.
    ``raw``, ``image``: the reference image and the test image; None: ``TRACE.raw`` and
    ``TRACE.test.FORMAT``. Existing images are used with their content, missing images are made.
    ``size``: the size of a new disk in bytes; None: 16 GiB. Existing images must have this size.
    ``fresh``: make new images in place of existing ones.
    ``payloads``: ``full`` keeps what ops write, ``hash`` keeps digests only.
    ``on_mismatch``: ``stop`` fails the request and ends the recording, ``continue`` notes the
    mismatch and goes on.
    ``trim``: what trimmed bytes may read as: ``any``, or ``old-or-zero``.
    ``conflicts``: ``send`` an op that conflicts with ops in flight at once, or ``hold`` it until
    they are done.
    ``trust_start``: do not compare the images at the start.
    ``compare``: ``touched`` compares the images where ops came, where either side has data, and in
    a sample of other places; ``whole`` compares every byte. docs/finding-culprits.md says what this
    can miss.
    ``thorough``: a larger sample, and more of what only the driver calls data.
    ``allow_errno``: names of errno values that the driver may return, like ``ENOSPC,EDQUOT``. The
    range of such an op then holds old or new data, and the guest gets the error.
    ``sync``: a flush or FUA of the guest also flushes the trace to disk.
    ``below``: also record what the driver does to its image file, as ``NAME.lower`` beside the
    trace. Needs FUSE.
    ``force``: replace an existing trace.
    ``say``: gets the first mismatches and warnings, a line at a time.

    If the guest sends no request, nothing is tested, and the verdict is undecidable. Raises
    UsageError if an argument is wrong, the trace exists, another recording uses one of the files or
    the images differ at the start; Undecidable if the driver does not make, start or serve its
    image; StorageError if our own disk fails or is full. After a StorageError the trace reads back
    up to that point. A driver that corrupts data or crashes is not an error: the result's
    ``verdict`` shows it.
    """
    from tracer.driver.spec import parse_driver
    from tracer.mirror.scope import Compare, Scope
    from tracer.recording.options import OnMismatch, Payloads, RecordOptions
    from tracer.recording.session import record
    from tracer.text import parse_errnos

    options = RecordOptions(
        trace=Path(trace),
        driver=parse_driver(fspath(driver), or_none=True),
        command=tuple(command),
        raw=None if raw is None else Path(raw),
        image=None if image is None else Path(image),
        size=size,
        fresh=fresh,
        payloads=choice(Payloads, payloads),
        on_mismatch=choice(OnMismatch, on_mismatch),
        trim=choice(TrimRule, trim),
        conflicts=choice(OnConflict, conflicts),
        trust_start=trust_start,
        scope=Scope(choice(Compare, compare), thorough),
        allowed=parse_errnos(allow_errno),
        sync=sync,
        below=below,
        force=force,
    )
    if not command:
        raise UsageError("there is no guest: give its command")
    with only_our_errors():
        return record(options, say)


def replay(
    trace: Pathlike,
    *,
    driver: Pathlike,
    locate: bool = True,
    start: str = "auto",
    depth: int | None = None,
    conflicts: str | None = None,
    connections: int | None = None,
    restart_every: int | None = None,
    runs: int = 1,
    seed: int = 0,
    reopen_with: Pathlike | None = None,
    upto: str | None = None,
    compare: str = "touched",
    thorough: bool = False,
    time: float | None = None,
    timeout: float = 30.0,
    allow_errno: str = "",
    keep: Pathlike | None = None,
    below: bool = False,
    observe: Callable[[str, int], None] | None = None,
    force: bool = False,
    say: Say = silent,
) -> "Verdict":
    """Run a trace on a build of a driver. If anything is wrong, find the culprit and explain the
    damage.

    ``driver``: the build to replay on, written as for ``record``.
    ``locate``: search for the culprit.
    ``start``: how the images get the data that the disk starts with: ``backing`` (it is the
    driver's backing file), ``converted`` (into the image), ``written`` (through the driver), or
    ``auto``: converted if the driver can, otherwise written.
    ``depth``: the most ops in flight; None: as recorded.
    ``conflicts``: as for ``record``; None: as recorded.
    ``connections``: spread the ops over so many connections to the driver; None: as recorded.
    ``restart_every``: stop, check and start the driver after every so many ops, and where the
    recording did.
    ``runs``: how many clean runs of the whole trace make the driver clean, and how many runs
    confirm a culprit. Use more than one for a fault that does not show in every run.
    ``seed``: selects another order for ops that were in flight together; 0: the recorded order.
    ``reopen_with``: the build that reopens the images, if another than the driver.
    ``upto``: replay up to this op (a number as text, like "1234") or mark; None: the whole trace.
    ``compare``, ``thorough``: what comparisons of the images read, as for ``record``.
    ``time``: the most seconds that the search may take; None: five times the first run, and at
    least 30 s. At the end the verdict has the suspects.
    ``timeout``: the time limit for an op, in seconds.
    ``allow_errno``: errors that the driver may return, as for ``record``.
    ``keep``: a new folder that keeps the images of every run; None: the images are removed.
    ``observe``: gets the kind of each op of the first run, and how long the driver took for it, in
    ns.
    ``below``: also write what the driver does to its image file in one more run, as ``NAME.lower``
    beside the trace.
    ``force``: allow the replay to overwrite the data of a server or a block device, and an existing
    ``NAME.lower``.
    ``say``: gets a line for each step of the search.

    A driver that cannot be judged gives an undecidable verdict, not an error. Raises UsageError if
    an argument is wrong or a disk must not be overwritten, TraceError if the trace or a payload
    cannot be read, StorageError if our own disk fails or is full.
    """
    from blkbox.judging.judge import judge
    from blkbox.judging.options import check_numbers, replay_options
    from tracer.disk.private import PrivateFolder, Use, sweep
    from tracer.op import KIND_BY_NUMBER
    from tracer.trace.data import TraceWithData

    check_numbers(connections=connections, restart_every=restart_every, timeout=timeout)
    if keep is not None and Path(keep).exists():
        raise UsageError(f"{keep} exists: --keep wants a new folder")
    with only_our_errors(), ExitStack() as stack:
        source = stack.enter_context(TraceWithData(Path(trace)))
        sweep()
        work = keep or stack.enter_context(PrivateFolder(Use.REPLAY)).path
        options = replay_options(
            source, Path(work), driver=driver, locate=locate, start=start, depth=depth,
            conflicts=conflicts, connections=connections, restart_every=restart_every, runs=runs,
            seed=seed, reopen_with=reopen_with, upto=upto, compare=compare, thorough=thorough,
            time=time, timeout=timeout, allow_errno=allow_errno, keep=keep is not None,
            observe=None
            if observe is None
            else lambda op: observe(KIND_BY_NUMBER[op.kind].label, op.test_ns),
            force=force,
        )  # fmt: skip
        if below:
            from replay.below.kept import write_below

            write_below(source, options, force=force)
        return judge(source, options, say)


def generate(
    trace: Pathlike,
    *,
    seed: int = 0,
    ops: int = 2000,
    size: int = 64 << 20,
    profile: str = "default",
    force: bool = False,
) -> "Generated":
    """Make a trace from a seed, without a guest and without a driver. Return what was made.

    ``trace``: the trace to write. It has digests only, and replays like any other.
    ``seed``: a number, 0 or above. The same arguments give the same trace on every machine.
    ``ops``: the number of ops.
    ``size``: the disk's size in bytes.
    ``profile``: what the seed draws from: a name, or a ``.toml`` file (docs/hunting.md).
    ``force``: replace an existing trace.

    Raises UsageError if an argument is wrong or the trace exists, StorageError if the trace cannot
    be written.
    """
    from replay.generate.profiles import parse_profile
    from replay.generate.writing import generate

    with only_our_errors():
        return generate(
            Path(trace), parse_profile(profile), seed=seed, ops=ops, size=size, force=force
        )


def hunt(
    drivers: "Sequence[Pathlike]",
    folder: Pathlike,
    *,
    time: float = 600.0,
    jobs: int = 1,
    seed: int = 0,
    ops: int = 1000,
    profile: str = "default",
    plain: bool = False,
    corpus: Pathlike | None = None,
    say: Say = silent,
    watch: "Callable[[State], None]" = lambda state: None,
) -> "State":
    """Hunt for bugs in drivers: generate traces and replay them, until the time is up. Return what
    was run and found, which ``folder`` has too.

    ``drivers``: the drivers under test, written as for ``record``.
    ``folder``: a new folder, or that of a hunt to go on with.
    ``time``: how long to hunt, in seconds.
    ``jobs``: traces run at a time.
    ``seed``, ``ops``, ``profile``: the first seed, the ops of each trace and what seeds draw from,
    as for ``generate``.
    ``plain``: only the default options of each format.
    ``corpus``: the folder of an earlier hunt, whose traces are run first.
    ``say``: gets a line for each fault that is new.
    ``watch``: is shown the state, a few times a second.

    Raises UsageError if an argument is wrong or the folder has something else in it, DriverError
    if no driver can be started, StorageError if our own disk fails or is full.
    """
    from blkbox.hunting.session import HuntOptions
    from blkbox.hunting.session import hunt as run
    from replay.generate.profiles import parse_profile

    for name, number, least in (("--jobs", jobs, 1), ("--ops", ops, 1), ("--seed", seed, 0)):
        if number < least:
            raise UsageError(f"{name} {number}: give a number from {least} on")
    parse_profile(profile)
    options = HuntOptions(
        drivers=[fspath(driver) for driver in drivers], folder=Path(folder), seconds=time,
        jobs=jobs, seed=seed, ops=ops, profile=profile, plain=plain,
        corpus=None if corpus is None else Path(corpus),
    )  # fmt: skip
    with only_our_errors():
        return run(options, say, watch)


# ---------------------------------------------------------------- look into a trace or a verdict


def open(trace: Pathlike) -> "Frames":
    """Open a trace as polars frames: a ``Frames`` object, and a context manager.

    Reads the header only. ``analysis.frames.frames.Frames`` describes the frames and their columns.
    Raises TraceError if the file cannot be opened or is not a trace.
    """
    import analysis

    with only_our_errors():
        return analysis.open(trace)


def load_verdict(path: Pathlike) -> "Verdict":
    """Read a verdict from the file that holds the output of ``trace replay --json``.

    Raises UsageError if the file cannot be read or does not hold a verdict.
    """
    from tracer.verdict_file import load

    return load(Path(path))


def damage(verdict: "Verdict | Recording") -> "pl.DataFrame":
    """Return the damaged ranges of a verdict as a frame, sorted by sector.

    Columns: ``sector`` and ``sectors`` (the first sector and how many, of 512 bytes), and for a
    replay's verdict what the damage is (``class``, ``source``, ``detail``, ``text``,
    ``writer``).
    """
    import analysis

    return analysis.damage(verdict)


def story(verdict: "Verdict") -> str:
    """Return a verdict in words: what failed, the culprit, the damage, and what to do next. The
    text has at most 25 lines and no line feed at the end."""
    from analysis.story.words import story
    from tracer.verdict import Verdict

    if not isinstance(verdict, Verdict):
        raise UsageError(f"a story is told of a replay's verdict, not of {verdict!r}")
    return story(verdict)


def draw_damage(
    verdict: "Verdict", picture: Pathlike, *, trace: Pathlike | None = None, force: bool = False
) -> None:
    """Draw the damage that a replay found.

    ``picture``: the file to write. Its suffix selects PNG, SVG or PDF.
    ``trace``: the trace; None: the path that the verdict names.
    ``force``: replace an existing picture.

    Raises UsageError if the picture exists, its name has another suffix, or the verdict does not
    fit the trace; TraceError if the trace cannot be read; StorageError if the picture cannot be
    written.
    """
    from analysis import plots
    from tracer.files import PICTURES, check_new

    check_new(Path(picture), force, PICTURES)
    with only_our_errors(), open(verdict.trace if trace is None else trace) as frames:
        plots.save(plots.damage(frames, verdict), Path(picture))


def report(
    source: "Pathlike | Verdict",
    page: Pathlike,
    *,
    trace: Pathlike | None = None,
    force: bool = False,
) -> Path:
    """Write one HTML page for a bug report. Return the path of the trace that it describes.

    ``source``: a verdict, a file with the output of ``trace replay --json``, or a trace.
    ``page``: the file to write. Its name ends in ``.html`` or ``.htm``.
    ``trace``: a verdict's trace; None: the file that the verdict names, which is searched beside
    the verdict first.
    ``force``: replace an existing page.

    The page contains the host's name and the bytes of a damaged sector. Raises UsageError if an
    argument is wrong, the page exists or the verdict does not fit the trace; TraceError if the
    trace cannot be read or ``source`` is neither; StorageError if the page cannot be written.
    """
    from blkbox.judging.report import write_report

    with only_our_errors():
        return write_report(source, Path(page), trace=trace, force=force)


# ---------------------------------------------------------------- make a file from a trace


def checkout(
    trace: Pathlike, image: Pathlike, *, at: str | None = None, force: bool = False
) -> "Checkout":
    """Make a sparse raw image of the disk as it should have been at a moment. Return what was made.

    ``image``: the file to write.
    ``at``: after this op (a number as text, like "1234"), or when this mark was set; None: after
    the last op.
    ``force``: replace an existing image.

    Trimmed bytes are zeroes, unless the trace was recorded with ``old-or-zero``: then they keep
    their earlier content. If the trace has digests only, bytes made from the digests stand in for
    the data. Raises UsageError if the image exists or there is no such op or mark, TraceError if
    the trace or a payload cannot be read, StorageError if the image cannot be written. On an error
    no image is written.
    """
    from tracer.rework.checkout import checkout

    with only_our_errors():
        return checkout(Path(trace), Path(image), at, force=force)


def cut(
    trace: Pathlike,
    out: Pathlike,
    *,
    first: str = "0",
    last: str | None = None,
    force: bool = False,
) -> "Cut":
    """Write a part of a trace as a trace that replays by itself. Return what was made.

    ``first``, ``last``: the first and the last op of the part, as numbers in text or marks; None:
    the end. A mark stands before an op: as ``first`` it means that op, as ``last`` the op before.
    ``force``: replace an existing trace.

    What the disk held before the part becomes start ops. Raises UsageError if ``out`` exists or
    there is no such op or mark, TraceError if the trace or a payload cannot be read, StorageError
    if the new trace cannot be written.
    """
    from tracer.rework.cut import cut
    from tracer.trace.data import TraceWithData
    from tracer.trace.marks import last_op, resolve, resolve_upto

    with only_our_errors(), TraceWithData(Path(trace)) as source:
        begin = resolve(source.trace, first)
        end = resolve_upto(source.trace, last) if last is not None else last_op(source.trace) + 1
        return cut(source, begin, end, Path(out), force=force)


def strip(trace: Pathlike, out: Pathlike, *, force: bool = False) -> "Stripped":
    """Write a copy of a trace without its payloads. Return what was made.

    The copy has digests instead of data, and still replays. Raises UsageError if ``out`` exists and
    ``force`` is False, TraceError if the trace cannot be read, StorageError if ``out`` cannot be
    written.
    """
    from tracer.rework.strip import strip

    with only_our_errors():
        return strip(Path(trace), Path(out), force=force)


def verify(trace: Pathlike) -> "Verification":
    """Check that a trace is whole and closed, and that its payloads are complete and right.

    Problems are in the result, which has ``ok``. Raises TraceError if the file is not a trace.
    """
    from tracer.rework.verify import verify

    with only_our_errors():
        return verify(Path(trace))


def mark(name: str, trace: Pathlike | None = None) -> "Mark":
    """Name this moment of a running recording. Return the mark: the op that it stands before
    (``seq``), and ``time`` in ns since the start of the recording.

    ``trace``: the trace that is being recorded. None: in a guest's command, its own recording
    (BLKBOX_CONTROL); otherwise the user's only running recording.

    Raises UsageError if the name cannot be used, or if no recording or more than one is found;
    StorageError if the recording does not answer or cannot write the mark.
    """
    from tracer.recording.control import put_mark
    from tracer.trace.records import Mark

    answer = put_mark(name, None if trace is None else Path(trace))
    return Mark(answer["seq"], answer["time"], name)


@contextmanager
def serve(
    trace: Pathlike,
    *,
    at: str | None = None,
    scratch: bool = False,
    listen: str | None = None,
    allow_remote: bool = False,
    export_name: str = "",
    say: Say = silent,
) -> Iterator["Served"]:
    """Serve the disk as it should have been at a moment, in a thread, while the block runs. The
    block gets what is served: its ``uri``, its ``size`` in bytes, and ``before``: the disk has the
    ops with a lower seq.

    ``at``: after this op or at this mark, as for ``checkout``.
    ``scratch``: take writes, keep them in TMPDIR and forget them at the end.
    ``listen``: ``unix:PATH`` or ``tcp:HOST:PORT``; None: a private unix socket.
    ``allow_remote``: allow an address that other machines can reach.
    ``export_name``: the export's name.
    ``say``: gets warnings, a line at a time, in the thread.

    Raises UsageError if the address, the op or the mark cannot be used, TraceError if the trace
    cannot be read, StorageError if there is no room for ``scratch``.
    """
    from tracer.nbd.uri import parse_name
    from tracer.serving.serve import ServeOptions, serving

    options = ServeOptions(
        trace=Path(trace), at=at, scratch=scratch, listen=listen, allow_remote=allow_remote,
        export_name=parse_name(export_name),
    )  # fmt: skip
    with ExitStack() as stack:
        with only_our_errors():
            served = stack.enter_context(serving(options, say))
        yield served
