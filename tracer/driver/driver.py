"""A driver under test: a Driver creates, serves and checks a test image; a Running is a Driver that
is serving one.

tracer/driver/spec.py makes a Driver from ``--driver``.
"""

import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracer.disk.blank import make_blank
from tracer.disk.device import Device
from tracer.disk.export import NbdDevice
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.private import PrivateFolder, Use
from tracer.disk.raw import copy_raw, make_raw
from tracer.disk.room import check_room
from tracer.driver.command import exit_text, fill, signal_group
from tracer.driver.output import Output
from tracer.errors import DriverError, NbdError, Unreachable
from tracer.files import PRIVATE as OWNER_ONLY
from tracer.interrupts import held
from tracer.nbd.protocol import TransmissionFlag
from tracer.nbd.uri import Address
from tracer.progress import detail
from tracer.text import shell

START_TIMEOUT = 15.0
"""Seconds in which a driver must open its socket. qemu-nbd takes 0.1 s; a loaded machine takes
longer."""

CONNECT_TIMEOUT = 5.0
"""Seconds in which a driver that serves already must take another connection."""

MAX_CONNECTIONS = 16
"""The most connections to a driver: more than the queues of any guest that we know of."""

STOP_TIMEOUT = 30.0
"""Seconds in which a driver must write out its caches and exit after SIGTERM."""

BLANK_TIMEOUT = 300.0
"""Seconds that writing 1 GiB of zeroes may take."""

PRIVATE = r"^nbd\+unix:///\?socket=/tmp/blkbox-[^/]*/nbd: "
"""How an error begins that is about our private socket to a driver: that tells nobody anything."""

NO_CPU_TIME = "Unable to get accurate CPU usage"
"""What qemu-img says of luks if the kernel has not yet counted the CPU time of its key derivation
(crypto/pbkdf.c): that happens on a loaded machine, and seldom twice."""

DETAILED = 10
"""The most last lines of a driver's output that -v shows each time it ends: about half a screen."""

ROUNDING = (1, 512, 4096, 1 << 16, 1 << 20)
"""A driver may round a disk's size up to a multiple of any of these. qemu-img rounds up to sectors,
and VHDX to whole MiB. What lies beyond the size that was asked for is not used."""

STOPPED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
"""The exit codes that a driver may have after SIGTERM: success, or killed by the signal (the last
is how a shell reports that)."""

GUARD = 'trap "" HUP INT TERM; cat >/dev/null; rm -rf -- "$1"; kill -s KILL 0'
"""A shell command that removes a driver's folder and kills its process group if we die: ``cat``
returns when its pipe has no writer left. The group is the guard's own, and the driver joins it
before its program begins; until then it has a copy of the pipe's end. So there is no moment at
which we can be killed and the driver stays."""


@dataclass(frozen=True, slots=True)
class Driver:
    """How to use a build of a driver.

    Commands are argument lists in which ``{image}``, ``{size}`` (bytes) and ``{socket}`` are
    replaced. If a .toml file describes the driver, ``{here}`` (the file's folder) and ``{python}``
    (the Python that runs us) are replaced already. ``{start}`` and ``{base}`` become the paths of
    ``start_image`` and ``base``.

    If ``serve`` is None, the image is raw and served in process. ``address`` is the address of a
    server that already runs, ``fixed_image`` a block device: with either, we make no test image.
    """

    name: str
    suffix: str = "img"
    create: tuple[str, ...] | None = None
    convert: tuple[str, ...] | None = None
    """Creates an image that holds what the raw image ``{start}`` holds."""
    overlay: tuple[str, ...] | None = None
    """Creates an image with the backing file ``{base}``, if ``create`` does not."""
    serve: tuple[str, ...] | None = None
    check: tuple[str, ...] | None = None
    check_passes: frozenset[int] = frozenset({0})
    env: dict[str, str] = field(default_factory=dict)
    starts_blank: bool = True
    """Whether a new image reads as zeroes. If not, ``create_image`` writes zeroes to it."""
    noisy: bool = False
    """Whether a new image reads as noise where nothing was written, so that nothing can be compared
    there."""
    may_forget: bool = False
    """Whether it may lose all data on a restart by design, as nbdkit's cow filter does."""
    base_is_raw: bool = True
    """Whether a backing file is a raw image; otherwise it is an image of this driver."""
    start_image: Path | None = None
    """The raw image whose content a new image gets."""
    base: Path | None = None
    """The backing file of a new image."""
    export: str = ""
    """The export to ask for, of a server that we start."""
    address: Address | None = None
    fixed_image: Path | None = None
    absent: bool = False
    """Whether there is no driver: a recording then uses the reference image alone."""

    @property
    def owns_image(self) -> bool:
        """Whether the test image is a file that we create (and may replace)."""
        return self.address is None and self.fixed_image is None and not self.absent

    @property
    def can_convert(self) -> bool:
        """Whether a new image can get the content of a raw image."""
        return self.owns_image and (self.convert is not None or self.serve is None)

    @property
    def can_back(self) -> bool:
        """Whether a new image can have a backing file."""
        return self.overlay is not None or self.names_base

    @property
    def names_base(self) -> bool:
        """Whether ``create`` or ``serve`` names a backing file. Then there must be one, if only a
        blank one."""
        return any("{base}" in argument for argument in (*(self.create or ()), *(self.serve or ())))

    def converting(self, start: Path) -> "Driver":
        """Return this driver with new images that hold what the raw image ``start`` holds."""
        return replace(self, create=self.convert, start_image=start, starts_blank=True, noisy=False)

    def backed_by(self, base: Path) -> "Driver":
        """Return this driver with new images that have the backing file ``base``."""
        return replace(self, create=self.overlay or self.create, base=base)

    def left_noisy(self) -> "Driver":
        """Return this driver without the zeroes that make its new images blank, if it needs any."""
        return self if self.starts_blank else replace(self, starts_blank=True, noisy=True)

    def create_image(self, image: Path, size: int) -> None:
        """Create a test image of ``size`` bytes: blank unless ``noisy``, or unless it was said
        with what it starts.

        Raises DriverError, or StorageError if our own disk fails or is full.
        """
        if self.create is None and self.start_image is not None:
            copy_raw(self.start_image, image)
            return
        if self.create is None:
            make_raw(image, size)
            return
        code, printed = self._run(self.create, image, size)
        if code != 0 and NO_CPU_TIME in printed:
            code, printed = self._run(self.create, image, size)
        if code != 0:
            try:
                check_room(image)  # before what was made is removed
            finally:
                image.unlink(missing_ok=True)
            raise DriverError(f"{self.name}: creating the image failed: {exit_text(code)}", printed)
        if not image.exists():
            raise DriverError(f"{self.name}: the create command made no image at {image}")
        image.chmod(OWNER_ONLY)
        if not self.starts_blank:
            with Loop() as loop, self.start(loop, image, size) as running:
                make_blank(loop, running.device, BLANK_TIMEOUT)
                running.stop()

    def check_image(self, image: Path) -> str | None:
        """Run the check command on an image that is not being served.

        Return its exit code and output if it found a problem, otherwise None. Raises DriverError if
        the command cannot be run.
        """
        if self.check is None:
            return None
        code, printed = self._run(self.check, image, image.stat().st_size)
        if code in self.check_passes:
            return None
        return f"{exit_text(code)}: {printed.strip() or '(no output)'}"

    def start(self, loop: Loop, image: Path, size: int | None) -> "Running":
        """Serve an image of ``size`` bytes, or of whatever size it has. Raises DriverError."""
        return Running(self, loop, self.fixed_image or image, size)

    def describe(self) -> dict[str, object]:
        """Return what a trace's header says about the driver. For information only: never run a
        command or open a path that a header names."""
        return {"name": self.name, "serve": list(self.serve or ())}

    def below(self) -> dict[str, Path]:
        """Return the values of ``{start}`` and ``{base}``, where there are such files."""
        files = {"start": self.start_image, "base": self.base}
        return {name: path for name, path in files.items() if path is not None}

    def _run(self, command: tuple[str, ...], image: Path, size: int) -> tuple[int, str]:
        """Run a command to its end. Return its exit code and what it printed."""
        argv = fill(command, image=image, size=size, **self.below())
        started = time.monotonic()
        with ExitStack() as stack:
            output = stack.enter_context(Output())
            try:
                with held():  # a command that outlived us might make its image again
                    process = stack.enter_context(subprocess.Popen(
                        argv, stdin=subprocess.DEVNULL, stdout=output.writer,
                        stderr=subprocess.STDOUT, env={**os.environ, **self.env},
                    ))  # fmt: skip
                    stack.callback(process.kill)  # does nothing once it has ended
            except OSError as error:
                raise DriverError(f"{self.name}: cannot run {argv[0]}: {error.strerror}") from error
            output.started()
            code = process.wait()
            printed = output.text()
        detail(f"{shell(argv)}: {exit_text(code)}, {time.monotonic() - started:.3f} s")
        return code, printed


class Running:
    """A driver that serves an image. A context manager: leaving the block kills the driver.

    Raises DriverError if the driver does not start or serves a disk of another size.
    """

    device: Device
    """The served disk."""

    def __init__(self, driver: Driver, loop: Loop, image: Path, size: int | None) -> None:
        self.driver = driver
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder: PrivateFolder | None = None
        self._output: Output | None = None
        self._loop = loop
        self._address = driver.address
        self._more: list[NbdDevice] = []
        try:
            if driver.address is not None:
                self.device = NbdDevice.connect(loop, driver.address)
            elif driver.serve is None:
                self.device = FileDevice(image)
            else:
                self.device = self._spawn(driver.serve, loop, image, size)
            if size is not None:
                self._check_size(size)
        except NbdError as error:
            ended, log = self.exited(), self.log()
            self._end()
            raise DriverError(self._broken(error, ended), log) from error
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def close(self) -> None:
        """Kill the driver if it still runs. A second call does nothing."""
        self._end()

    def log(self) -> str:
        """Return what the driver wrote to stderr and stdout: how it begins and how it ends."""
        return self._output.text() if self._output is not None else ""

    @property
    def note(self) -> str:
        """What of the driver's offer was adjusted: a line, or nothing."""
        odd = self.device.client.note if isinstance(self.device, NbdDevice) else ""
        return f"{self.driver.name}: {odd}" if odd else ""

    @property
    def lost(self) -> Exception | None:
        """Why a connection to the driver is lost; None if none is."""
        connections = (self.device, *self._more)
        return next((one.lost for one in connections if one.lost is not None), None)

    def connect(self) -> Device | None:
        """Open another connection to the disk. Return None if the driver does not promise that they
        agree (NBD_FLAG_CAN_MULTI_CONN in proto.md), or takes no more of them."""
        several = self.device.export.flags & TransmissionFlag.CAN_MULTI_CONN
        if self._address is None or not several or len(self._more) + 1 >= MAX_CONNECTIONS:
            return None
        try:
            device = NbdDevice.connect(self._loop, self._address, CONNECT_TIMEOUT)
        except (NbdError, Unreachable):
            return None
        self._more.append(device)
        return device

    def reconnect(self) -> None:
        """Close all connections and open a new one. Raises NbdError, Unreachable."""
        if self._address is None:
            return
        for device in (*self._more, self.device):
            device.close()
        self._more = []
        self.device = NbdDevice.connect(self._loop, self._address, CONNECT_TIMEOUT)

    def disconnect(self, device: Device) -> None:
        """Close a connection that ``connect`` opened."""
        device.close()
        self._more = [one for one in self._more if one is not device]

    def exited(self) -> str | None:
        """Return how the driver's process ended (``exit_text``), or None while it runs."""
        if self._process is None:
            return None
        try:
            # when its connection breaks, a driver may still be about to exit
            code = self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return None
        return exit_text(code)

    def _broken(self, error: NbdError, ended: str | None) -> str:
        """Say why we cannot talk to the driver, which ``ended`` so, if it did."""
        if self.driver.address is not None:
            return str(error)  # it names the address, as the driver's name does
        if ended not in (None, exit_text(0)):  # 0: since we left
            return f"{self.driver.name} ended while it started: {ended}"
        return f"{self.driver.name}: {re.sub(PRIVATE, '', str(error))}"

    def stop(self, timeout: float = STOP_TIMEOUT) -> str | None:
        """Stop the driver as an orderly shutdown does: disconnect, then send SIGTERM. After
        ``timeout`` seconds, kill it. Return what went wrong, or None."""
        for device in (*self._more, self.device):
            if isinstance(device, NbdDevice):
                device.disconnect()
        problem = None
        if self._process is not None:
            early = self._process.poll()
            if early is None and self._guard is not None:
                signal_group(self._guard.pid, signal.SIGTERM)
            try:
                code = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                problem = f"it did not end within {timeout:g} s of being asked to"
            else:
                if early:  # 0: it may end by itself once its last client has left
                    problem = f"it ended by itself ({exit_text(early)})"
                elif code not in STOPPED:
                    problem = f"asked to stop, it failed: {exit_text(code)}"
        self._end()
        return problem

    def _check_size(self, size: int) -> None:
        """Raise DriverError unless the driver serves ``size`` bytes, perhaps rounded up, in blocks
        of which these are a whole number."""
        export = self.device.export
        if export.size not in {-(-size // unit) * unit for unit in ROUNDING}:
            raise DriverError(
                f"{self.driver.name} serves {export.size} bytes where {size} were asked for",
                self.log(),
            )
        block = export.sizes.minimum
        if size % block:
            raise DriverError(
                f"{self.driver.name} takes requests in blocks of {block} bytes: it needs a disk "
                f"whose size is a multiple of that, and {size} is none"
            )

    def _spawn(
        self, serve: tuple[str, ...], loop: Loop, image: Path, size: int | None
    ) -> NbdDevice:
        with held():
            folder = self._folder = PrivateFolder(Use.DRIVER)
            guard = self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(folder.path)],
                stdin=subprocess.PIPE, process_group=0,
            )  # fmt: skip
        socket = folder.path / "nbd"
        argv = fill(serve, image=image, size=size or 0, socket=socket, **self.driver.below())
        with held():
            output = self._output = Output()
            try:
                process = self._process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=output.writer, stderr=output.writer,
                    env={**os.environ, **self.driver.env}, process_group=guard.pid,
                )  # fmt: skip
            except OSError as error:
                raise DriverError(
                    f"{self.driver.name}: cannot run {argv[0]}: {error.strerror}"
                ) from error
            finally:
                output.started()
        detail(shell(argv))
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if process.poll() is not None:
                how = exit_text(process.returncode)
                if not process.returncode:
                    how += "; if serve goes to the background, keep it in the foreground"
                raise DriverError(f"{self.driver.name} did not start: {how}", self.log())
            if socket.exists():
                try:
                    address = Address(self.driver.export, path=str(socket))
                    self._address = address
                    return NbdDevice.connect(loop, address, START_TIMEOUT)
                except Unreachable:
                    if process.poll() is None and time.monotonic() > deadline:
                        raise
            if time.monotonic() > deadline:
                raise DriverError(
                    f"{self.driver.name} did not open its socket within {START_TIMEOUT:g} s",
                    self.log(),
                )
            time.sleep(0.005)

    def _end(self) -> None:
        """Kill the driver and its guard if they still run; remove their folder."""
        for device in self._more:
            device.close()
        if hasattr(self, "device"):
            self.device.close()
        if self._guard is not None:
            signal_group(self._guard.pid, signal.SIGKILL)
            if self._process is not None:
                self._process.wait()
            self._guard.wait()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
        if self._output is not None:
            self._output.close()
        if self._folder is not None:
            for line in self.log().splitlines()[-DETAILED:]:
                detail(f"{self.driver.name} printed: {line}")
            self._folder.close()
        self._process = self._guard = None
