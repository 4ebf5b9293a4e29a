"""Export: a trace becomes a foreign file."""

from dataclasses import dataclass, field
from pathlib import Path

from analysis.interop.formats import EXPORTS
from analysis.interop.job import Job
from tracer.errors import UsageError
from tracer.files import check_new, whole
from tracer.progress import bar
from tracer.trace.file import Trace


@dataclass(slots=True)
class Exported:
    """The result of an export."""

    output: str
    trace: str
    format: str
    bytes: int
    """The size of the output."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Counts of what the trace has and the format cannot hold."""
    schema: int = 1


def export_trace(
    path: Path, output: Path, *, name: str | None = None, force: bool = False
) -> Exported:
    """Write a trace as a foreign file.

    ``name`` is the name of a format (a key of EXPORTS). If it is None, the output's suffix decides.
    Raises TraceError if the trace cannot be read, UsageError and StorageError. Nothing is written
    then.
    """
    name = name or by_suffix(output)
    with Trace(path) as trace:
        count = trace.count
    check_new(output, force)
    with whole(output) as folder, bar("exporting", count, "ops") as progress:
        new = folder / output.name
        left_out = EXPORTS[name].write(Job(path, new, output, progress))
        size = new.stat().st_size
    return Exported(str(output), str(path), name, size, left_out)


def by_suffix(output: Path) -> str:
    """Return the format that a file's suffix names. Raises UsageError."""
    for name, form in EXPORTS.items():
        if output.suffix in form.suffixes:
            return name
    known = ", ".join(f"{'/'.join(form.suffixes)} ({name})" for name, form in EXPORTS.items())
    raise UsageError(
        f"{output}: the suffix does not name a format: use one of {known}, or give --format"
    )
