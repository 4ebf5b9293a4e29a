"""What a format prescribes before an image is used after a power cut, and what its check says."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tracer.disk import sparse
from tracer.driver.command import exit_text, fill
from tracer.driver.driver import Driver

HEAD = 512
"""Bytes of an image that show whether it is dirty."""

ERRORS = "errors"
"""What the check says with exit code 2."""

TIMEOUT = 120.0
"""Seconds that a check may take."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """Where a header says that the image was not closed: ``bits`` are all set in byte ``at``, if it
    begins with ``magic``."""

    magic: bytes
    at: int
    bits: int


DIRTY = (
    # docs/interop/qcow2.txt: bit 0 of the incompatible features, big-endian from byte 72
    Dirty(b"QFI\xfb\0\0\0\3", 79, 0x01),
    # docs/interop/qed_spec.txt: bit 1 of the features, little-endian from byte 16
    Dirty(b"QED\0", 16, 0x02),
    # docs/interop/parallels.txt: "in use" is 0x746f6e59 at byte 44, otherwise 0 or 0x312e3276
    Dirty(b"With", 47, 0x74),
)
"""Such images must be repaired before they are used: qcow2, qed, parallels."""


def is_dirty(image: Path) -> bool:
    """Whether an image must be repaired before it is used, by its own header."""
    with image.open("rb") as file:
        head = file.read(HEAD)
    return any(
        head.startswith(dirty.magic)
        and len(head) > dirty.at
        and head[dirty.at] & dirty.bits == dirty.bits
        for dirty in DIRTY
    )


def must_be_right(image: Path, says: str) -> bool:
    """Whether the check must never say that of such an image, wherever the power was cut.

    qcow2 orders its writes so that clusters leak at most: refcounts come first.
    """
    with image.open("rb") as file:
        return says == ERRORS and file.read(4) == b"QFI\xfb"


def repair_command(driver: Driver) -> tuple[str, ...] | None:
    """Return the command that repairs an image, if the driver's check is one of qemu-img."""
    check = driver.check
    if check is None or Path(check[0]).name != "qemu-img" or "check" not in check:
        return None
    at = check.index("check") + 1
    return (*check[:at], "-r", "all", *check[at:])


def repaired_path(driver: Driver, image: Path) -> Path:
    """Return where ``repaired`` puts its copy."""
    return image.with_name(f"repaired.{driver.suffix}")


def repaired(driver: Driver, image: Path) -> Path | None:
    """Return a copy of an image that was repaired as its format prescribes; None if nothing can be
    repaired. Raises OSError."""
    command = repair_command(driver)
    if command is None:
        return None
    copy = repaired_path(driver, image)
    copy.unlink(missing_ok=True)
    sparse.copy(str(image), str(copy))
    subprocess.run(
        fill(command, image=copy, size=0), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, **driver.env}, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    return copy


class Check:
    """The check command on an image, beside what we do with the image meanwhile."""

    def __init__(self, driver: Driver, image: Path) -> None:
        self._driver = driver
        self._process: subprocess.Popen[bytes] | None = None
        if driver.check is None or shutil.which(driver.check[0]) is None:
            return
        self._process = subprocess.Popen(
            fill(driver.check, image=image, size=image.stat().st_size), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **driver.env},
        )  # fmt: skip

    @property
    def runs(self) -> bool:
        """Whether there is a check command."""
        return self._process is not None

    def found(self) -> str | None:
        """Wait for its end. Return what it says if it does not say that all is well."""
        if self._process is None:
            return None
        try:
            printed, _ = self._process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            self.close()
            return f"no end within {TIMEOUT:g} s"
        code = self._process.returncode
        if code == 0:
            return None
        kind = {2: ERRORS, 3: "leaked clusters only"}.get(code, exit_text(code))
        lines = printed.decode(errors="replace").strip().splitlines()
        return f"{kind}: {_general(lines[0])}" if code not in (2, 3) and lines else kind

    def close(self) -> None:
        """End it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def _general(line: str) -> str:
    """Return a line without its numbers and paths, so that states that say the same count as
    one finding."""
    words = (
        "N" if any(c.isdigit() for c in word) or "/" in word else word for word in line.split()
    )
    return " ".join(words)
