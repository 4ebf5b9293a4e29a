"""blkbox, a flight recorder for block drivers: record what a guest does to its disk, replay it on
another build of the driver, and name the request that corrupted it.

    import blkbox

    recording = blkbox.record("install.trace", driver="qcow2", size=8 << 30, command=[..., "{nbd}"])
    verdict = blkbox.replay("install.trace", driver="vmdk")
    print(blkbox.story(verdict))
    blkbox.open("install.trace").ops.collect()
    blkbox.plot("timeline", "install.trace", "install.png")
    with blkbox.serve("install.trace", at="1234") as disk:
        subprocess.run(["nbdinfo", disk.uri])

Each function blocks until its work is done; ``serve`` works while its block runs. The functions
raise only BlkboxError, print nothing and install no signal handlers. A file that exists is replaced
only with ``force=True``. Offsets and sizes are bytes, sectors are 512 bytes, times are ns since the
start of the recording, and ``timeout`` is in seconds. The command ``trace`` offers the same
functions in a shell.

The classes of BlkboxError (``tracer.errors``) say what happened:

    UsageError      an argument is wrong, or would overwrite something
    TraceError      a trace or its payloads cannot be read
    StorageError    our own disk failed or is full
    Undecidable     the driver cannot be judged: it does not start, or cannot take the trace
    DriverHung      the driver stopped answering
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blkbox.draw import plot
    from blkbox.jobs import (
        checkout,
        cut,
        damage,
        draw_damage,
        generate,
        hunt,
        load_verdict,
        mark,
        open,
        record,
        replay,
        report,
        serve,
        story,
        strip,
        verify,
    )
    from blkbox.matrices.api import matrix
    from blkbox.minimizing.api import minimize
    from blkbox.power import inject, powercut
    from tracer.errors import BlkboxError

__all__ = [
    "BlkboxError",
    "checkout",
    "cut",
    "damage",
    "draw_damage",
    "generate",
    "hunt",
    "inject",
    "load_verdict",
    "mark",
    "matrix",
    "minimize",
    "open",
    "plot",
    "powercut",
    "record",
    "replay",
    "report",
    "serve",
    "story",
    "strip",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Import nothing of ours before it is used: ``python -m blkbox`` imports this package while
    # Python looks into the current folder first, where a user may have a folder "tracer" too.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from blkbox import draw, jobs, power
    from blkbox.matrices import api as matrices
    from blkbox.minimizing import api
    from tracer.errors import BlkboxError

    if name == "BlkboxError":
        return BlkboxError
    homes = {"plot": draw, "matrix": matrices, "minimize": api, "powercut": power, "inject": power}
    return getattr(homes.get(name, jobs), name)


def __dir__() -> list[str]:
    return __all__
