"""The function ``blkbox.matrix``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blkbox.matrices.model import LIMIT, Matrix, MatrixOptions
from blkbox.matrices.running import run_matrix
from tracer.errors import UsageError
from tracer.files import Pathlike
from tracer.progress import Say, silent


def matrix(
    traces: Sequence[Pathlike] = (),
    *,
    drivers: Sequence[Pathlike],
    out: Pathlike = "matrix",
    jobs: int | None = None,
    dask: str | None = None,
    seeds: range | None = None,
    ops: int = 2000,
    size: int = 64 << 20,
    profile: str = "default",
    limit: float = LIMIT,
    force: bool = False,
    say: Say = silent,
    **replay: Any,
) -> Matrix:
    """Run every trace on every build. Return the verdicts of all cells; the folder has them too.

    ``traces``: files, folders, globs, .toml manifests, or URLs that fsspec knows.
    ``drivers``: the builds, each written as for ``replay``.
    ``out``: the folder for the results. Cells that are finished there are not run again.
    ``jobs``: how many cells run at a time; None: one for each CPU.
    ``dask``: the address of a Dask scheduler whose workers run the cells; None: this machine.
    ``seeds``: also generate a trace from each of these, with ``ops``, ``size`` (bytes) and
    ``profile`` as for ``generate``.
    ``limit``: the seconds that a cell may take.
    ``force``: allow cells to overwrite the data of a server or a block device.
    ``say``: gets a line for what a user should know.
    ``replay``: more arguments for ``blkbox.replay``, like ``runs=3`` or ``locate=False``.

    What goes wrong in a cell is its verdict. Raises UsageError if an argument is wrong,
    StorageError if the folder cannot be written.
    """
    count = jobs if jobs is not None else len(os.sched_getaffinity(0))
    if count < 1:
        raise UsageError(f"--jobs {count}: give a number from 1 on")
    options = MatrixOptions(
        traces=[os.fspath(one) for one in traces], drivers=[os.fspath(one) for one in drivers],
        folder=Path(out), jobs=count, dask=dask, seeds=seeds, ops=ops, size=size, profile=profile,
        replay=replay, limit=limit, force=force,
    )  # fmt: skip
    return run_matrix(options, say)
