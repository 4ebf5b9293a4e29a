"""Which of the programs that blkbox works with are installed, and what that makes possible."""

from dataclasses import dataclass

from tracer.driver import tools
from tracer.driver.spec import FORMATS


@dataclass(frozen=True, slots=True)
class Program:
    """A program that blkbox works with. ``path`` is None if it was not found."""

    name: str
    path: str | None
    version: str | None
    purpose: str
    variable: str
    """The environment variable that overrides the path."""


def programs() -> list[Program]:
    """Find every program of ``tools.TOOLS``."""
    found = []
    for name, purpose in tools.TOOLS.items():
        path = tools.find(name)
        version = tools.version(path) if path else None
        found.append(Program(name, path, version, purpose, tools.variable(name)))
    return found


def formats() -> list[str]:
    """Return the names of the image formats that can be served with the programs found."""
    if tools.find("qemu-nbd") and tools.find("qemu-img"):
        return list(FORMATS)
    return ["raw"]
