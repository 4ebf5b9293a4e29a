"""Guests for ``trace record``: commands that use the disk at ``{nbd}``."""

from tests.kit.peers import need


def qemu_io(*commands: str, cache: str = "writeback") -> list[str]:
    """A guest that sends single requests."""
    need("qemu-io")
    words = [word for command in commands for word in ("-c", command)]
    return ["qemu-io", "-f", "raw", "-d", "unmap", "-t", cache, *words, "{nbd}"]


def nbdsh(script: str) -> list[str]:
    """A guest in Python: ``h`` is connected to the disk."""
    need("nbdsh")
    return ["nbdsh", "-u", "{nbd}", "-c", script]


def shell(text: str) -> list[str]:
    """A guest in shell; $1 is the disk."""
    return ["sh", "-c", text, "sh", "{nbd}"]
