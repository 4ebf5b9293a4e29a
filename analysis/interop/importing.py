"""Import: a foreign file becomes a trace."""

import os
import platform
from contextlib import ExitStack
from dataclasses import dataclass, field
from glob import escape
from importlib.metadata import version
from pathlib import Path

from analysis.interop import blktrace
from analysis.interop.foreign_file import BOM, HEAD, PACKED, ForeignFile
from analysis.interop.formats import IMPORTS
from analysis.interop.sink import Survey, Writer
from tracer.disk.file import FileDevice
from tracer.disk.raw import make_raw
from tracer.errors import TraceError, UsageError
from tracer.files import check_new, open_file, whole
from tracer.progress import bar
from tracer.text import printable
from tracer.trace.header import FORMAT, MAX_SIZE, VERSION, Header, unpack_header
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import new_payload_path

SHOWN = 10
"""The most devices that an error names."""


SHOWN_OF_LINE = 60
"""The most characters of a line that an error shows."""


@dataclass(slots=True)
class Imported:
    """The result of an import."""

    trace: str
    source: str
    format: str
    device: str | None
    size: int
    """The disk's size in bytes."""
    ops: int
    payloads: str
    skipped: dict[str, int] = field(default_factory=dict)
    """Counts of what the source has and a trace cannot hold."""
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
    """Make the trace ``target`` from a foreign file.

    ``name`` is the name of a format (a key of IMPORTS). If it is None, the content decides.
    ``size`` is the disk's size in bytes. If it is None, the disk is as large as the requests need.
    ``device`` selects a device in a file with several.

    Raises TraceError if the file cannot be read, UsageError and StorageError. Nothing is written
    then.
    """
    path = _first_file(path)
    payloads_at = new_payload_path(target)
    head = _head(path)
    name = name or guess(path, head)
    form = IMPORTS[name]
    for new in (target, payloads_at):
        check_new(new, force)
    with form.source(path) as file:
        total = 2 * file.size
    with whole(payloads_at, target) as folder, bar("importing", total) as progress:
        with form.source(path, progress) as file:
            survey = Survey(file, device)
            form.read(file, survey)
        disk = _disk_size(path, survey, device, size)
        header = Header(
            size=disk,
            payloads=form.payloads,
            driver={
                "name": f"none, imported from a {form.title}",
                "source": path.name,
                "format": name,
                "completion_times": form.completions,
            },
            tools={"blkbox": version("blkbox"), "python": platform.python_version()},
            started=survey.started,
        )
        with ExitStack() as stack:
            shadow = None
            if form.payloads == "full" and survey.reads:
                image = folder / "disk.raw"
                make_raw(image, disk)
                shadow = stack.enter_context(FileDevice(image, durable=False))
            output = stack.enter_context(TraceOutput(folder / target.name, header))
            again: ForeignFile = stack.enter_context(form.source(path, progress))
            writer = Writer(again, survey.device, output, shadow)
            form.read(again, writer)
            output.close(writer.end_record())
    return Imported(
        trace=str(target), source=str(path), format=name, device=survey.device, size=disk,
        ops=writer.ops, payloads=form.payloads, skipped=dict(writer.skipped),
    )  # fmt: skip


def _first_file(path: Path) -> Path:
    """Return the file to read: the first CPU's of blktrace if only the name of all is given
    (``sda`` for ``sda.blktrace.0``, ...), as ``blkparse -i`` takes it."""
    if path.exists():
        return path
    files = path.parent.glob(f"{escape(path.name)}.blktrace.*")
    return min((file for file in files if blktrace.CPU_FILE.fullmatch(file.name)), default=path)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file. Raises TraceError if no format can have such a file."""
    try:
        with os.fdopen(open_file(path), "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error
    for magic, program in PACKED.items():
        if head.startswith(magic):
            raise TraceError(f"{path} is compressed with {program}: unpack it first")
    try:
        unpack_header(path, head, kind="a trace", name=FORMAT, version=VERSION)
    except TraceError:
        return head
    raise TraceError(f"{path} is a trace already: give it to trace show, replay or export")


def guess(path: Path, head: bytes) -> str:
    """Return the format of a file, by its first bytes, or by its name if it is empty.

    Raises TraceError if the file fits no format, or several.
    """
    head = head.removeprefix(BOM)
    found = [name for name, form in IMPORTS.items() if form.fits(head, path.name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(IMPORTS)
    if found:
        raise TraceError(f"{path} could be {' or '.join(found)}: give --format with one of {known}")
    if not head.strip():
        raise TraceError(f"{path} {'has only empty lines' if head else 'is empty'}")
    lines = head.decode(errors="replace").splitlines()
    number, line = next((at, line) for at, line in enumerate(lines, 1) if line.strip())
    shown = printable(line[:SHOWN_OF_LINE]) + ("..." if len(line) > SHOWN_OF_LINE else "")
    raise TraceError(
        f"{path} is in none of the formats {known}: line {number} does not fit: {shown}"
    )


def _disk_size(path: Path, survey: Survey, wanted: str | None, size: int | None) -> int:
    """Return the disk's size in bytes.

    Raises UsageError if the size does not fit or several devices are possible, and TraceError if no
    request gives a size.
    """
    devices = survey.devices
    if devices and (survey.device not in devices or (wanted is None and len(devices) > 1)):
        names = [f"{printable(name)} ({count:,})" for name, count in devices.most_common(SHOWN)]
        more = f" and {len(devices) - SHOWN} more" if len(devices) > SHOWN else ""
        raise UsageError(
            f"{path} has the devices {', '.join(names)}{more}: give --device with one of them"
        )
    if not survey.highest and size is None:
        raise TraceError(f"{path}: no request touches the disk: give --size")
    if size is None:
        return survey.size()
    if survey.highest > size:
        raise UsageError(f"--size {size} is too small: {path} reaches byte {survey.highest}")
    if not 0 < size <= MAX_SIZE:
        raise UsageError(f"--size {size}: no disk has that size")
    return size
