"""Write the lower ops of a replay beside its trace."""

from dataclasses import replace

from replay.below.recorded import run_logged
from replay.options import ReplayOptions
from tracer.below.qemu import by_qemu
from tracer.below.stream import LowerHeader, lower_path, write_lower
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import UsageError
from tracer.files import check_new
from tracer.trace.data import TraceWithData


def write_below(source: TraceWithData, options: ReplayOptions, *, force: bool) -> None:
    """Run a trace once on a driver, and write what that does to its image file as NAME.lower.

    Raises UsageError if that file exists without ``force`` or nothing can be put below the driver,
    and as a replay.
    """
    path = lower_path(source.trace.path)
    check_new(path, force)
    if not options.driver.owns_image:
        raise UsageError(f"--below: {options.driver.name} has no image file of ours")
    with PrivateFolder(Use.REPLAY) as folder:
        run = run_logged(source, replace(options, driver=by_qemu(options.driver), work=folder.path))
        size = run.start.stat().st_size
        header = LowerHeader(source.trace.header.id, size, run.driver.describe())
        write_lower(path, header, run.events)
