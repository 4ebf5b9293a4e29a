"""The real programs that blkbox works with: where they are, and their versions."""

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
"""What each program is for. BLKBOX_QEMU_NBD overrides where qemu-nbd is found, and so on."""


def variable(name: str) -> str:
    """The environment variable that overrides where a program is found."""
    return "BLKBOX_" + name.upper().replace("-", "_")


def find(name: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(os.environ.get(variable(name)) or name)


def need(name: str, directory: Path | None = None) -> str:
    """The path of a program, in ``directory`` if one is given. Raises DriverError."""
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
    """The version that a program tells with --version, or None."""
    try:
        run = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\d+\.\d+(\.\d+)*", run.stdout + run.stderr)
    return match.group() if match else None
