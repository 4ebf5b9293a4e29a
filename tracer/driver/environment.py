"""What a recording or a replay ran on. Facts for a reader: nothing acts on them."""

import platform
from importlib.metadata import version
from pathlib import Path

import msgpack

from tracer.driver import tools
from tracer.driver.driver import Driver


def host() -> dict[str, str]:
    """This machine."""
    return {"name": platform.node(), "kernel": platform.release(), "machine": platform.machine()}


def versions(driver: Driver) -> dict[str, str]:
    """The programs that take part."""
    found = {"blkbox": version("blkbox"), "python": platform.python_version()}
    found["msgpack"] = ".".join(map(str, msgpack.version))
    if driver.serve:
        told = tools.version(driver.serve[0])
        if told:
            found[Path(driver.serve[0]).name] = told
    return found
