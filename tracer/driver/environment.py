"""The machine and the programs of a recording or a replay, for the header of a trace and for
verdicts.

For information only: nothing acts on them.
"""

import platform
from importlib.metadata import version
from pathlib import Path

import msgpack

from tracer.driver import tools
from tracer.driver.driver import Driver


def host() -> dict[str, str]:
    """Describe this machine: its name, kernel and architecture."""
    return {"name": platform.node(), "kernel": platform.release(), "machine": platform.machine()}


def versions(driver: Driver) -> dict[str, str]:
    """Return the versions of blkbox, of what it runs on and of the driver's server, by name."""
    found = {"blkbox": version("blkbox"), "python": platform.python_version()}
    found["msgpack"] = ".".join(map(str, msgpack.version))
    if driver.serve:
        server = tools.version(driver.serve[0])
        if server:
            found[Path(driver.serve[0]).name] = server
    return found
