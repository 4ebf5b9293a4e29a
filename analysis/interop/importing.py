"""A foreign file becomes a trace."""

import platform
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from analysis.interop.foreign_file import HEAD
from analysis.interop.formats import IMPORTS, Import
from analysis.interop.sink import Survey, Writer
from analysis.interop.staged import staged
from tracer.device import FileDevice
from tracer.driver import make_raw
from tracer.errors import TraceError, UsageError
from tracer.payload import PayloadWriter, new_payload_path, payload_path
from tracer.progress import bar
from tracer.text import plain
from tracer.trace import MAX_SIZE, Header, TraceWriter

SHOWN = 10
"""Devices that an error names."""


@dataclass(slots=True)
class Imported:
    """What an import made. ``size`` is the disk's in bytes; ``skipped`` counts what the source has and a
    trace cannot say, or what was not asked for."""

    trace: str
    source: str
    format: str
    device: str | None
    size: int
    ops: int
    payloads: str
    skipped: dict[str, int] = field(default_factory=dict)
    schema: int = 1


def import_trace(
    path: Path,
    target: Path,
    *,
    name: str | None = None,
    size: int | None = None,
    device: str | None = None,
    force: bool = False,
) -> Imported:
    """Make the trace ``target`` from a foreign file. ``name`` is that of a format (a key of IMPORTS),
    None to tell by the content; ``size`` the disk's in bytes, None for as much as is touched;
    ``device`` which one, in a file with several.

    Raises TraceError where the file cannot be read, UsageError and StorageError; nothing is written
    then.
    """
    payloads_at = new_payload_path(target)
    name = name or guess(path)
    form = IMPORTS[name]
    with staged(target, payloads_at, force=force) as folder, ExitStack() as stack:
        first = form.source(path)
        first.progress = progress = stack.enter_context(bar("importing", 2 * first.size))
        survey = Survey(first, device)
        _read(form, survey)
        disk = _disk_size(path, survey, device, size)
        new = folder / target.name
        keeps = form.payloads == "full"
        shadow = None
        if keeps and survey.reads:
            image = folder / "disk.raw"
            make_raw(image, disk)
            shadow = FileDevice(image, durable=False)
            stack.callback(shadow.close)
        header = Header(
            size=disk,
            payloads=form.payloads,
            driver={"name": f"none, imported from a {form.title}", "source": path.name, "format": name},
            tools={"blkbox": version("blkbox"), "python": platform.python_version()},
            started=survey.started,
        )
        trace = TraceWriter(new, header)
        try:
            payloads = PayloadWriter(payload_path(new), header.id) if keeps else None
            writer = Writer(form.source(path, progress), survey.device, trace, payloads, shadow)
            try:
                _read(form, writer)
            finally:
                if payloads is not None:
                    payloads.close()
        except BaseException:
            trace.abandon()
            raise
        writer.close()
    return Imported(
        trace=str(target), source=str(path), format=name, device=survey.device, size=disk,
        ops=writer.ops, payloads=form.payloads, skipped=dict(writer.skipped),
    )  # fmt: skip


def guess(path: Path) -> str:
    """The format of a file, by its first bytes, or its name where it is empty. Raises TraceError where
    that is none, or several."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error
    found = [name for name, form in IMPORTS.items() if form.fits(head, path.name)]
    if len(found) != 1:
        what = f"could be {' or '.join(found)}" if found else "is of no format that is known here"
        raise TraceError(f"{path} {what}: give --format with one of {', '.join(IMPORTS)}")
    return found[0]


def _read(form: Import, sink: Survey | Writer) -> None:
    """One reading of the file."""
    source = sink.source
    try:
        form.read(source, sink)
    finally:
        source.close()


def _disk_size(path: Path, survey: Survey, wanted: str | None, size: int | None) -> int:
    """How large the disk is to be. Raises UsageError where that is not clear, or which device is
    meant."""
    devices = survey.devices
    if devices and (survey.device not in devices or (wanted is None and len(devices) > 1)):
        names = [f"{plain(name)} ({count:,})" for name, count in devices.most_common(SHOWN)]
        more = f" and {len(devices) - SHOWN} more" if len(devices) > SHOWN else ""
        raise UsageError(
            f"{path} has the devices {', '.join(names)}{more}: give --device with one of them"
        )
    if not survey.highest and size is None:
        raise TraceError(f"{path}: no request in it touches the disk: give --size")
    if size is None:
        return survey.size()
    if survey.highest > size:
        raise UsageError(f"--size {size} is too small: {path} reaches byte {survey.highest}")
    if not 0 < size <= MAX_SIZE:
        raise UsageError(f"--size {size}: no disk has that size")
    return size
