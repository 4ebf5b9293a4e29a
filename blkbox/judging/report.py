"""Write a report: one HTML page on a verdict, or on a trace."""

from os import PathLike
from pathlib import Path

from tracer.errors import UsageError
from tracer.files import PAGES, Pathlike, check_new, write_whole
from tracer.progress import bar
from tracer.verdict import Verdict
from tracer.verdict_file import find_trace, is_verdict, load


def write_report(
    source: Pathlike | Verdict, page: Path, *, trace: Pathlike | None = None, force: bool = False
) -> Path:
    """Write the page. Return the path of the trace that it describes. ``blkbox.report`` has the
    arguments and the errors; an OSError is not turned into one of ours."""
    check_new(page, force, PAGES)
    verdict = None
    if isinstance(source, Verdict):
        verdict, path = source, Path(trace or source.trace)
        name = path.name
    elif not isinstance(source, str | PathLike):
        raise UsageError(f"a report is of a verdict, or of a file by its path, not of {source!r}")
    else:
        path = Path(source)
        name = path.name
        if is_verdict(path):
            verdict = load(path)
            path = Path(trace or find_trace(verdict, path))
        elif trace is not None:
            raise UsageError(f"--trace goes with a verdict; {source} is a trace")

    import analysis
    from analysis.report import READS_OF_TRACE, READS_OF_VERDICT, of_trace, of_verdict

    reads = READS_OF_TRACE if verdict is None else READS_OF_VERDICT

    with (
        analysis.open(path) as frames,
        bar("reading", frames.records * reads, "ops") as progress,
    ):
        frames.watch = progress
        described = of_trace(frames, name) if verdict is None else of_verdict(frames, verdict, name)
        write_whole(page, described.encode())
    return path
