"""The data that a disk starts with: bring it below the driver, where the recording had it.

A trace has this data as start ops, before all others. Written through the driver, it would hide
the bugs of backing files. So it becomes a raw image, once per replay. Each run's test image is
converted from that image or has it as its backing file, each run's reference is a copy of it, and
the start ops are not played. The data comes from the trace's payloads, never from a path in it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

from replay.options import ReplayOptions
from tracer.disk.file import FileDevice
from tracer.disk.raw import copy_raw, make_raw
from tracer.driver.driver import Driver
from tracer.driver.spec import FORMATS
from tracer.errors import StorageError, UsageError
from tracer.op import Kind, Leaves, Op, effect
from tracer.progress import bar
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace
from tracer.verdict import StartKind


@dataclass(frozen=True, slots=True)
class Start:
    """How the runs of a replay get the data that the disk starts with."""

    driver: Driver
    """The build under test. Its new images hold the data, unless it is written."""
    reader: Driver | None
    """The build that reopens the images, with the same backing file."""
    size: int
    """Bytes of the disk."""
    how: StartKind | None = None
    """None if the disk starts blank."""
    ops: int = 0
    """The first ``ops`` ops of the trace are not played: new images hold their data."""
    raw: Path | None = None
    """The raw image with the data; None if the data is written or there is none."""
    base: Path | None = None
    """The backing file; None if there is none."""

    def build(self, source: TraceWithData) -> None:
        """Make the raw image and the backing file, once, before the first run.

        Raises TraceError if a payload cannot be read, StorageError if our own disk fails or is
        full, and DriverError if the driver cannot make a backing file.
        """
        for path in (self.raw, self.base):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        if self.raw is not None:
            _fill(source, self.raw, self.ops)
        self._make_base()

    def make_reference(self, path: Path) -> None:
        """Make a reference image of what a new image holds. Raises StorageError."""
        if self.raw is None:
            make_raw(path, self.size)
        else:
            copy_raw(self.raw, path)

    def repair_base(self) -> None:
        """Make the backing file again if the driver changed it. Raises as ``build``."""
        if self.base is not None and self.base_changed():
            self.base.unlink(missing_ok=True)
            self._make_base()

    def base_changed(self) -> bool:
        """Whether the driver wrote to its backing file, or removed it."""
        return self.base is not None and not (
            self.base.exists() and self.base.stat().st_mtime_ns == _MADE_NS
        )

    def _make_base(self) -> None:
        if self.base is None:
            return
        if self.raw is None or self.how is not StartKind.BACKING:
            make_raw(self.base, self.size)
        elif self.driver.base_is_raw:
            copy_raw(self.raw, self.base)
        else:
            self.driver.converting(self.raw).create_image(self.base, self.size)
        os.utime(self.base, ns=(_MADE_NS, _MADE_NS))


_MADE_NS = 10**18
"""The backing file's time of change, in ns since 1970, as long as no one changes it: a time in
2001, which no clock shows."""


def plan(source: TraceWithData, options: ReplayOptions) -> Start:
    """Decide how the runs get the start data, without making anything.

    Raises UsageError if the driver cannot get it as the user wants, TraceError if the trace is
    damaged.
    """
    driver, reader, size = options.driver, options.reader, source.trace.header.size
    work = options.work.absolute()  # an image may refer to its backing file by its absolute path
    how = _choose(driver, options.start)
    ops = sum(1 for _ in _start_ops(source.trace))
    raw = base = None
    if ops and how is not StartKind.WRITTEN:
        raw = work / "start.raw"
    if raw is not None and how is StartKind.CONVERTED:
        driver = driver.converting(raw)
    backed = (raw is not None and how is StartKind.BACKING) or driver.names_base
    if backed or (reader is not None and reader.names_base):
        base = work / ("base.raw" if driver.base_is_raw else f"base.{driver.suffix}")
        driver = driver.backed_by(base) if backed else driver
        reader = reader.backed_by(base) if reader is not None else None
    return Start(
        driver=driver,
        reader=reader,
        size=size,
        how=how if ops else None,
        ops=ops if raw is not None else 0,
        raw=raw,
        base=base,
    )


def alternatives(driver: Driver) -> list[StartKind]:
    """Return how a driver's images can get the start data: first what shows the most faults."""
    able = {StartKind.BACKING: driver.can_back, StartKind.CONVERTED: driver.can_convert}
    return [how for how in StartKind if able.get(how, True)]


def _choose(driver: Driver, wanted: StartKind | None) -> StartKind:
    """Return what the user wants, or the default for this driver. Raises UsageError if the driver
    cannot do it."""
    possible = alternatives(driver)
    if wanted is None:
        return StartKind.CONVERTED if StartKind.CONVERTED in possible else StartKind.WRITTEN
    if wanted in possible:
        return wanted
    if wanted is StartKind.BACKING:
        able = ", ".join(name for name, form in FORMATS.items() if form.backing)
        raise UsageError(
            f"{driver.name} takes no backing file: {able} do, and a .toml file with {{base}} in "
            "'create' or 'serve'"
        )
    raise UsageError(
        f"{driver.name} does not convert a raw image: {', '.join(FORMATS)} do, and a .toml file "
        "with 'convert'"
    )


def _start_ops(trace: Trace) -> Iterator[Op]:
    """Yield the start ops at the front of a trace. Their places in the order of submission are
    their places in the file. A start op elsewhere is played like a write."""
    pairs = takewhile(
        lambda pair: pair[1].kind == Kind.START and pair[1].seq == pair[0],
        zip(count(), trace.ops(), strict=False),
    )
    return (op for _, op in pairs)


def _fill(source: TraceWithData, raw: Path, total: int) -> None:
    """Make the raw image. Raises TraceError if a payload cannot be read, StorageError if the image
    cannot be written."""
    header = source.trace.header
    make_raw(raw, header.size)
    with (
        FileDevice(raw, durable=False) as device,
        bar("building the start image", total, "ops") as progress,
    ):
        for op in _start_ops(source.trace):
            progress(1)
            leaves = effect(op, header.trim).leaves
            if leaves is Leaves.OLD:  # it failed
                continue
            is_data = leaves is Leaves.DATA
            data = source.data(op) if is_data else None
            kind = Kind.WRITE if is_data else Kind.TRIM
            error, _, _ = device.execute(kind, 0, op.offset, op.length, data)
            if error:
                raise StorageError(f"cannot write {raw}: {os.strerror(error)}")
