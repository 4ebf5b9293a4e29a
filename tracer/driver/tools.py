"""The programs that blkbox uses, QEMU's and nbdkit's among others: their paths and versions."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tracer.errors import DriverError

TOOLS = {
    "qemu-nbd": "serves qcow2, vmdk, vdi, vhdx, qed, vpc, luks and block devices",
    "qemu-img": "creates and checks those images",
    "qemu-io": "a guest for single requests",
    "qemu-storage-daemon": "another server of the same formats",
    "nbdkit": "serves its plugins and filters",
    "nbdinfo": "shows what a server offers",
    "nbdcopy": "copies images",
    "nbdsh": "a scriptable guest",
    "fio": "makes load",
}
"""What each program is for. An environment variable overrides its path: BLKBOX_QEMU_NBD that of
qemu-nbd, and so on."""


def variable(name: str) -> str:
    """Return the name of the environment variable that overrides a program's path."""
    return "BLKBOX_" + name.upper().replace("-", "_")


def find(name: str) -> str | None:
    """Return a program's path, or None if it is not installed."""
    return shutil.which(os.environ.get(variable(name)) or name)


def need(name: str, directory: Path | None = None) -> str:
    """Return a program's path, in ``directory`` if that is given. Raises DriverError if it is
    missing."""
    if directory is not None:
        path = shutil.which(str(directory.absolute() / name))
        if path is None:
            raise DriverError(f"there is no program {name} in {directory}")
        return path
    path = find(name)
    if path is None:
        raise DriverError(f"{name} was not found: install it, or set {variable(name)} to its path")
    return path


def version(path: str) -> str | None:
    """Return the version that a program prints for --version, or None."""
    try:
        run = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\d+\.\d+(\.\d+)*", run.stdout + run.stderr)
    return match.group() if match else None
