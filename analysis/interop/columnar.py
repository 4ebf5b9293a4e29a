"""Parquet and Arrow IPC files of a trace's ops, with the columns of ``Frames.ops``.

Marks, mismatches, settles, restarts and payloads are left out.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from analysis.interop.job import Job
from tracer.errors import StorageError
from tracer.trace.file import Trace


def parquet(job: Job) -> dict[str, int]:
    """Write the ops as Parquet, compressed with zstd; return what was left out."""
    from analysis.frames.frames import Frames

    with Frames(job.trace) as frames, _plain_errors(job):
        frames.ops.sink_parquet(job.new)
    return _left_out(job)


def arrow(job: Job) -> dict[str, int]:
    """Write the ops as an Arrow IPC file (Feather, version 2); return what was left out.

    The file is not compressed, so that it can be mapped.
    """
    import polars as pl

    from analysis.frames.frames import Frames

    with Frames(job.trace) as frames, _plain_errors(job):
        # without the views of Arrow 1.4, which older readers do not support
        frames.ops.sink_ipc(job.new, compat_level=pl.CompatLevel.oldest())
    return _left_out(job)


@contextmanager
def _plain_errors(job: Job) -> Iterator[None]:
    """Turn polars' errors of writing into StorageError: it puts the errno into a text."""
    from polars.exceptions import ComputeError

    try:
        yield
    except (ComputeError, OSError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        why = os.strerror(int(number[1]))
        raise StorageError(f"cannot write {job.output}: {why}") from error


def _left_out(job: Job) -> dict[str, int]:
    with Trace(job.trace) as trace:
        found = {
            "mark": len(trace.marks()),
            "mismatch": len(trace.mismatches()),
            "settle": len(trace.settles()),
            "restart": len(trace.restarts()),
        }
    return {what: count for what, count in found.items() if count}
