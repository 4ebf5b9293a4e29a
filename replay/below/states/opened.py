"""Open the image of a crash state as a new start of the driver would, and read the disk.

QEMU's formats are opened in one qemu-storage-daemon that stays: 3 ms instead of 60 ms for a new
qemu-nbd. It opens them read-only, so that the image stays as it is. What a format wants repaired
first is repaired in a copy.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from tracer.below.qemu import node_of
from tracer.closing import Closing
from tracer.disk import sparse
from tracer.disk.device import Device
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.disk.private import PrivateFolder, Use
from tracer.driver.command import exit_text, signal_group
from tracer.driver.driver import GUARD, START_TIMEOUT, Driver
from tracer.errors import DriverError, NbdError, Unreachable, UsageError
from tracer.interrupts import held
from tracer.nbd.uri import Address

ANSWER_TIMEOUT = 30.0
"""Seconds that opening an image may take."""


class CannotOpen(Exception):
    """The driver does not open an image; the text says why."""


class Opener(Protocol):
    """Opens images of one driver."""

    def open(self, image: Path) -> AbstractContextManager[Device]:
        """Open an image for reading, which stays as it is. Raises CannotOpen."""
        ...

    def close(self) -> None: ...


class Spawning(Closing):
    """Starts the driver anew for each image, on a copy, since it may write."""

    def __init__(self, driver: Driver, loop: Loop) -> None:
        self._driver = driver
        self._loop = loop

    @contextmanager
    def open(self, image: Path) -> Iterator[Device]:
        copy = image.with_name(f"opened.{self._driver.suffix}")
        copy.unlink(missing_ok=True)
        sparse.copy(str(image), str(copy))
        try:
            with self._driver.start(self._loop, copy, None) as running:
                yield running.device
        except DriverError as error:
            raise CannotOpen(error.log.strip() or str(error)) from error

    def close(self) -> None:
        """Do nothing: no process stays."""


class Daemon(Closing):
    """Opens images in a qemu-storage-daemon. Raises DriverError if it does not start."""

    def __init__(self, driver: Driver, loop: Loop, program: str) -> None:
        self._driver = driver
        self._loop = loop
        self._program = program
        self._node, self._objects = node_of(driver)
        self._stack = ExitStack()
        self._events: list[str] = []
        self._alive = False
        self._start()

    @contextmanager
    def open(self, image: Path) -> Iterator[Device]:
        if not self._alive:  # an image may bring it down
            self._start()
        file = {"driver": "file", "filename": str(image), "locking": "off"}
        node = {**self._node, "node-name": "state", "read-only": True, "file": file}
        export = {"type": "nbd", "id": "export", "node-name": "state", "name": "state"}
        with ExitStack() as stack:
            self._ask("blockdev-add", node)
            stack.callback(self._leave, "blockdev-del", {"node-name": "state"})
            self._ask("block-export-add", export)
            stack.callback(self._unexport)
            try:
                device = NbdDevice.connect(self._loop, Address("state", path=str(self._nbd)))
            except (NbdError, Unreachable) as error:
                raise CannotOpen(str(error)) from error
            stack.callback(device.close)
            yield device

    def close(self) -> None:
        """End the daemon. A second call does nothing."""
        self._alive = False
        self._stack.close()

    def _start(self) -> None:
        self._stack.close()
        with ExitStack() as stack:
            folder = stack.enter_context(PrivateFolder(Use.DRIVER)).path
            self._nbd, monitor = folder / "nbd", folder / "qmp"
            argv = [
                self._program, *self._objects,
                "--chardev", f"socket,id=qmp,path={monitor},server=on,wait=off",
                "--monitor", "chardev=qmp",
                "--nbd-server", f"addr.type=unix,addr.path={self._nbd},max-connections=0",
            ]  # fmt: skip
            self._process = stack.enter_context(guarded(argv, folder, self._driver.env))
            self._monitor = stack.enter_context(self._connect(monitor))
            self._lines = stack.enter_context(self._monitor.makefile("r"))
            self._lines.readline()  # the greeting
            self._alive = True
            self._ask("qmp_capabilities")
            self._stack = stack.pop_all()

    def _unexport(self) -> None:
        self._events.clear()
        self._leave("block-export-del", {"id": "export", "mode": "hard"})
        while self._alive and "BLOCK_EXPORT_DELETED" not in self._events:
            self._line()

    def _connect(self, path: Path) -> socket.socket:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(ANSWER_TIMEOUT)
            try:
                found.connect(str(path))
            except OSError as error:
                found.close()
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise DriverError(f"{self._program} did not start") from error
                time.sleep(0.005)
            else:
                return found

    def _leave(self, command: str, arguments: dict[str, Any]) -> None:
        """Ask for something as a state is left: if the daemon is gone, nothing is left to do."""
        if self._alive:
            with suppress(CannotOpen):
                self._ask(command, arguments)

    def _ask(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        """Send a command and wait for its answer. Raises CannotOpen if it fails."""
        line = json.dumps({"execute": command, "arguments": arguments or {}}) + "\n"
        with suppress(OSError):  # if it is gone, it does not answer
            self._monitor.sendall(line.encode())
        while (answer := self._line()) is None:
            continue
        if "error" in answer:
            raise CannotOpen(answer["error"]["desc"])

    def _line(self) -> dict[str, Any] | None:
        """Return the next answer; None if an event came instead, which is noted. Raises
        CannotOpen."""
        try:
            line = self._lines.readline()
        except TimeoutError as error:
            self.close()
            raise CannotOpen(f"no answer within {ANSWER_TIMEOUT:g} s") from error
        except OSError:
            line = ""
        if not line:
            self._alive = False
            raise CannotOpen(f"the driver went away ({exit_text(self._process.wait())})")
        answer: dict[str, Any] = json.loads(line)
        if "event" in answer:
            self._events.append(answer["event"])
            return None
        return answer


@contextmanager
def guarded(
    argv: list[str], folder: Path, env: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program within the block. If we die, it does, and its folder goes. Raises
    DriverError."""
    with ExitStack() as stack:
        with held():
            guard = stack.enter_context(subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(folder)],
                stdin=subprocess.PIPE, process_group=0,
            ))  # fmt: skip
            stack.callback(signal_group, guard.pid, signal.SIGKILL)
            try:
                process = stack.enter_context(subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, env={**os.environ, **env},
                    process_group=guard.pid,
                ))  # fmt: skip
            except OSError as error:
                raise DriverError(f"cannot run {argv[0]}: {error.strerror}") from error
            stack.callback(process.kill)
        yield process


def opener(driver: Driver, loop: Loop) -> Opener:
    """Return what opens a driver's images fastest: the storage daemon of its build, if it has one.
    Raises DriverError."""
    program = _daemon(driver)
    return Daemon(driver, loop, program) if program is not None else Spawning(driver, loop)


def _daemon(driver: Driver) -> str | None:
    """Return the path of the storage daemon of the same build, or None. A build's own tree has it
    in a folder of its name."""
    try:
        node_of(driver)
    except UsageError:  # it is another program, or its image is named in a way of its own
        return None
    program = (driver.serve or ("",))[0]
    qemu_nbd = Path(shutil.which(program) or program)
    for place in (qemu_nbd.parent, qemu_nbd.parent / "storage-daemon"):
        found = shutil.which(str(place / "qemu-storage-daemon"))
        if found is not None:
            return found
    return None
