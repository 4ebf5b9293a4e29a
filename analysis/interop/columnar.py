"""Parquet and Arrow IPC files of a trace's ops, with the columns of ``Frames.ops``.

Marks, mismatches and payloads are left out.
"""

from analysis.interop.job import Job
from tracer.errors import StorageError
from tracer.trace.file import Trace


def parquet(job: Job) -> dict[str, int]:
    """Write the ops as Parquet, compressed with zstd; return what was left out."""
    from polars.exceptions import ComputeError

    from analysis.frames.frames import Frames

    try:
        with Frames(job.trace) as frames:
            frames.ops.sink_parquet(job.new)
    except ComputeError as error:
        if "os error" not in str(error):
            raise
        # polars puts an OSError into the text of its own error
        raise StorageError(f"cannot write {job.output}: {error}") from error
    return _left_out(job)


def arrow(job: Job) -> dict[str, int]:
    """Write the ops as an Arrow IPC file (Feather, version 2); return what was left out.

    The file is not compressed, so that it can be mapped.
    """
    import polars as pl

    from analysis.frames.frames import Frames

    with Frames(job.trace) as frames:
        # without the views of Arrow 1.4, which older readers do not support
        frames.ops.sink_ipc(job.new, compat_level=pl.CompatLevel.oldest())
    return _left_out(job)


def _left_out(job: Job) -> dict[str, int]:
    with Trace(job.trace) as trace:
        found = {"mark": len(trace.marks()), "mismatch": len(trace.mismatches())}
    return {what: count for what, count in found.items() if count}
