"""One recording from start to end: images, driver, address, guest, the last comparison, the summary."""

import gc
import ipaddress
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from tracer import sparse, tools
from tracer.compare import Comparison
from tracer.device import FileDevice
from tracer.digest import is_zero
from tracer.driver import Driver, Running, make_raw
from tracer.errors import BlkboxError, DriverHung, Exit, StorageError, Undecidable, UsageError
from tracer.guest import GuestCommand, Signals
from tracer.loop import Loop
from tracer.mirror import Difference
from tracer.nbd.uri import Address, parse_listen
from tracer.op import KIND_BY_NUMBER, SECTOR, Kind, Op
from tracer.payload import PayloadWriter, payload_path
from tracer.progress import LiveLine, bar
from tracer.recorder import Recorder
from tracer.sweep import sweep
from tracer.trace import MAX_SIZE, End, Fault, Header, TraceWriter

START_PIECE = 1 << 20
"""Bytes of the start image in one op."""

MAX_FINAL = 1000
"""Damaged ranges after the run that are recorded; more would say nothing new."""


@dataclass(slots=True)
class Plan:
    """What to record. Sizes are bytes."""

    trace: Path
    driver: Driver
    raw: Path | None = None
    image: Path | None = None
    size: int = 16 << 30
    listen: str | None = None
    allow_remote: bool = False
    payloads: str = "full"
    on_mismatch: str = "stop"
    trim: str = "any"
    once: bool = False
    trust_start: bool = False
    sync: bool = False
    force: bool = False
    command: list[str] = field(default_factory=list)
    guest_stdout: int | None = None


@dataclass(slots=True)
class Recording:
    """What came of it."""

    verdict: str
    reason: str
    trace: str
    driver: str
    size: int
    ops: dict[str, int]
    bytes: dict[str, int]
    mismatches: list[dict[str, object]]
    damage: list[dict[str, int]]
    trace_bytes: int
    payload_bytes: int
    connections: int
    guest_exit: int | None
    schema: int = 1

    @property
    def exit_code(self) -> int:
        if self.verdict in ("damaged", "failed"):
            return Exit.BAD_DRIVER
        return Exit.UNDECIDABLE if self.verdict == "undecidable" else Exit.CLEAN


def record(plan: Plan, say: Callable[[str], None]) -> Recording:
    """Record until the guest is done. Raises BlkboxError where nothing could be recorded, or where our
    own files failed; what was recorded up to then reads back."""
    payloads_at = payload_path(plan.trace)
    if plan.trace == payloads_at:
        raise UsageError(f"{plan.trace} is where its payloads would go: call it NAME.trace")
    for path in (plan.trace, payloads_at):
        if path.exists() and not plan.force:
            raise UsageError(f"{path} exists: name another, or give --force to replace it")
    if not plan.trace.parent.is_dir():
        raise UsageError(f"there is no folder {plan.trace.parent}")
    _listen_address(plan)
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        images = _Images(plan)
        try:
            reference = FileDevice(images.raw, durable=False)
            stack.callback(reference.close)
            running = stack.enter_context(plan.driver.start(loop, images.test, images.size))
            comparison = Comparison(plan.trim)
            if not plan.trust_start:
                _compare_start(loop, reference, running, comparison)
            recorder, trace, payloads = _open(plan, loop, reference, running, comparison, say)
        except BaseException:
            images.remove_new()
            raise
        try:
            return _Session(plan, loop, running, recorder, trace, payloads, comparison, say).run()
        except UsageError:  # the address is taken, or the command cannot be run: nothing was recorded
            trace.abandon()
            if payloads is not None:
                payloads.close()
            _remove_outputs(plan)
            images.remove_new()
            raise


def _remove_outputs(plan: Plan) -> None:
    for path in (plan.trace, payload_path(plan.trace)):
        if path.is_file():
            path.unlink()


class _Images:
    """The raw and the test image: used when there, made when missing."""

    def __init__(self, plan: Plan) -> None:
        stem = plan.trace.with_suffix("")
        self.raw = plan.raw or stem.with_suffix(".raw")
        self.test = plan.image or stem.with_suffix(f".test.{plan.driver.suffix}")
        self._new: list[Path] = []
        self.size = plan.size
        driver = plan.driver
        outputs = {plan.trace.resolve(), payload_path(plan.trace).resolve()}
        for image in (self.raw, self.test) if driver.owns_image else (self.raw,):
            if image.resolve() in outputs:
                raise UsageError(f"{image} cannot be an image and the trace or its payloads as well")
        try:
            if self.raw.exists():
                self.size = self.raw.stat().st_size
            elif not driver.owns_image:
                self.size = self._served_size(driver)
            if not 0 < self.size <= MAX_SIZE or self.size % SECTOR:
                raise UsageError(
                    f"the disk's size, {self.size} bytes, must be a multiple of {SECTOR} above 0, "
                    "and at most 4 EiB"
                )
            if not self.raw.exists():
                self._new.append(self.raw)
                make_raw(self.raw, self.size)
            if driver.owns_image and not self.test.exists():
                self._new.append(self.test)
                driver.create_image(self.test, self.size)
            if driver.owns_image and self.test.samefile(self.raw):
                raise UsageError(f"{self.raw} cannot be both the raw and the test image")
        except BaseException:
            self.remove_new()
            raise

    def _served_size(self, driver: Driver) -> int:
        with Loop() as loop, driver.start(loop, self.test, 0) as running:
            return running.device.export.size

    def remove_new(self) -> None:
        """Leave nothing behind that was made for a recording that did not start."""
        for path in self._new:
            path.unlink(missing_ok=True)


def _compare_start(loop: Loop, reference: FileDevice, running: Running, comparison: Comparison) -> None:
    with bar("comparing the images", reference.export.size) as progress:
        start = sweep(loop, reference, running.device, comparison, progress=progress)
    if start.first is None:
        return
    if start.first.fault in (Fault.STATUS, Fault.LOST):
        raise Undecidable(
            f"{running.driver.name} cannot read its image at sector {start.first.offset // SECTOR}"
        )
    raise UsageError(
        f"the raw and the test image differ, first in sector {start.first.offset // SECTOR}: make them "
        "alike (qemu-img convert), or give --trust-start to begin all the same"
    )


def _open(
    plan: Plan,
    loop: Loop,
    reference: FileDevice,
    running: Running,
    comparison: Comparison,
    say: Callable[[str], None],
) -> tuple[Recorder, TraceWriter, PayloadWriter | None]:
    """Start the trace, with what the disk holds already."""
    size = reference.export.size
    data = [(a, b) for a, b, is_data in sparse.extents(reference.fd, 0, size) if is_data]
    header = Header(
        size=size,
        payloads=plan.payloads,
        driver=plan.driver.describe(),
        host={"name": platform.node(), "kernel": platform.release(), "machine": platform.machine()},
        tools=_versions(plan.driver),
        started=time.time_ns(),
        trim=plan.trim,
        start_image="recorded" if data else "blank",
    )
    payloads = None
    old = payload_path(plan.trace)
    try:
        trace = TraceWriter(plan.trace, header)
        if plan.payloads == "full":
            payloads = PayloadWriter(old, header.id)
        else:
            old.unlink(missing_ok=True)
    except StorageError:
        _remove_outputs(plan)
        raise
    recorder = Recorder(
        loop, reference, running.device, comparison, trace, payloads,
        stop_on_mismatch=plan.on_mismatch == "stop", sync=plan.sync, say=say,
    )  # fmt: skip
    with bar("recording what the disk holds", sum(b - a for a, b in data)) as progress:
        for start, end in data:
            for offset in range(start, end, START_PIECE):
                piece = reference.read(offset, min(START_PIECE, end - offset))
                if not is_zero(piece):
                    while payloads is not None and payloads.full:
                        time.sleep(0.01)
                    recorder.record_start(offset, piece)
                progress(len(piece))
    return recorder, trace, payloads


def _versions(driver: Driver) -> dict[str, str]:
    """What made this trace. Facts for a reader; nothing acts on them."""
    from importlib.metadata import version

    versions = {"blkbox": version("blkbox"), "python": platform.python_version()}
    versions["msgpack"] = ".".join(map(str, msgpack.version))
    if driver.serve:
        told = tools.version(driver.serve[0])
        if told:
            versions[Path(driver.serve[0]).name] = told
    return versions


class _Session:
    """The part of a recording that has a guest."""

    def __init__(
        self,
        plan: Plan,
        loop: Loop,
        running: Running,
        recorder: Recorder,
        trace: TraceWriter,
        payloads: PayloadWriter | None,
        comparison: Comparison,
        say: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.loop = loop
        self.running = running
        self.recorder = recorder
        self.trace = trace
        self.payloads = payloads
        self.comparison = comparison
        self.say = say
        self.line = LiveLine()
        self.verdict, self.reason = "clean", "no difference"
        self.damage: list[tuple[int, int]] = []
        self.guest: GuestCommand | None = None
        self._started = time.monotonic()

    def run(self) -> Recording:
        plan, recorder = self.plan, self.recorder
        gc.freeze()  # nothing on the data path makes cycles: spare the collector what is there already
        with ExitStack() as stack:
            stack.callback(self.line.clear)
            address = self._listen(stack)
            signals = stack.enter_context(Signals(self.loop))
            if plan.command:
                self.guest = GuestCommand(self.loop, plan.command, address.uri(), plan.guest_stdout)
                signals.forward = self.guest.signal
            else:
                self.say(f"serving {address.uri()}")
            self._serve(signals)
            self.line.clear()
            if self.guest is not None and self.guest.exited is None:
                self.guest.end(self._turn)
            recorder.disconnect_guests()
        self._finish()
        return self._summary()

    def _listen(self, stack: ExitStack) -> Address:
        plan = self.plan
        address = _listen_address(plan)
        if address is None:
            directory = tempfile.mkdtemp(prefix="blkbox-", dir="/tmp")  # mode 0700
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            address = Address(path=f"{directory}/nbd")
        family = socket.AF_UNIX
        if not address.path:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        stack.callback(sock.close)
        try:
            if address.path:
                sock.bind(address.path)
                stack.callback(Path(address.path).unlink, missing_ok=True)
                os.chmod(address.path, 0o600)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address.host, address.port))
                address = Address(host=address.host, port=sock.getsockname()[1])
            sock.listen(64)
        except OSError as error:
            raise UsageError(f"cannot listen on {address.uri()}: {error.strerror or error}") from error
        self.recorder.listen(sock)
        stack.callback(self.loop.remove, sock.fileno())
        return address

    def _serve(self, signals: Signals) -> None:
        """Until the guest is done, someone interrupts, or there is nothing more to record."""
        recorder = self.recorder
        while recorder.stopped is None and recorder.mirror.test.lost is None:
            self._turn(0.2)
            if self.guest is not None:
                if self.guest.exited is not None:
                    break
            elif signals.received is not None or (
                self.plan.once and recorder.connections and not recorder.guests
            ):
                break
        # what is in flight was asked for before the end: let it come to one
        patience = time.monotonic() + 30
        while not recorder.idle and recorder.mirror.test.lost is None:
            self._turn(0.2)
            if time.monotonic() > patience:
                self._judge("failed", "the driver did not answer what was in flight")
                return

    def _turn(self, timeout: float) -> None:
        self.recorder.turn(timeout)
        if self.line.due():
            recorder = self.recorder
            seconds = time.monotonic() - self._started
            moved = recorder.bytes[Kind.READ] + recorder.bytes[Kind.WRITE]
            self.line.show(
                f"{recorder.counts.total():,} ops  {recorder.counts.total() / seconds:,.0f}/s  "
                f"{moved / seconds / (1 << 20):.1f} MiB/s  {recorder.mirror.in_flight} in flight  "
                f"{recorder.mismatches} mismatches"
            )

    def _finish(self) -> None:
        """Flush, compare both images whole, end the driver, close the trace."""
        recorder, device = self.recorder, self.running.device
        closing: BlkboxError | None = recorder.error
        try:
            if recorder.error is None:
                if device.lost is None and self.verdict == "clean":
                    self._compare_end()
                if device.lost is not None:
                    how = self.running.exited()
                    self._judge("failed", f"the driver went away: {how or device.lost}")
                    self.say(f"blkbox: {self.reason}\n{self.running.log()}".rstrip())
                elif (problem := self.running.stop()) is not None:
                    self._judge("failed", f"the driver: {problem}")
                if self.verdict == "clean" and recorder.differences:
                    faults = {difference.fault for difference in recorder.differences}
                    verdict = "failed" if faults <= {Fault.STATUS, Fault.LOST} else "damaged"
                    self._judge(verdict, "the test image differs from the reference")
                guest = self.guest.exited if self.guest is not None else None
                if self.verdict == "clean" and guest:
                    self._judge("undecidable", f"no difference, but the guest's exit status is {guest}")
            verdict = self.verdict if closing is None else "incomplete"
            end = End(recorder.seq, recorder.mismatches, time.monotonic_ns() - recorder.started, verdict)
            self.trace.close(end)
        except BlkboxError as error:
            closing = closing or error
        if self.payloads is not None:
            try:
                self.payloads.close()
            except BlkboxError as error:
                closing = closing or error
        if closing is not None:
            raise closing

    def _compare_end(self) -> None:
        recorder, device = self.recorder, self.running.device
        try:
            recorder.add(Op(0, int(Kind.FLUSH)))
            recorder.turn(0)  # sends it out; the turns below would wait for something to come first
            patience = time.monotonic() + 30
            while not recorder.idle and device.lost is None and time.monotonic() < patience:
                recorder.turn(0.2)
            reference = recorder.mirror.reference
            with bar("comparing the images", reference.export.size) as progress:
                # adopt: a later recording on these images must find them alike
                result = sweep(
                    self.loop, reference, device, self.comparison, progress=progress, adopt=True
                )
        except DriverHung as error:
            self._judge("failed", str(error))
            return
        if result.first is None:
            return
        self.damage = list(result.damage)
        recorder.note(result.first)
        for start, end in self.damage[:MAX_FINAL]:
            if not start <= result.first.offset < end:
                recorder.note_range(start, end)

    def _judge(self, verdict: str, reason: str) -> None:
        if self.verdict == "clean":
            self.verdict, self.reason = verdict, reason

    def _summary(self) -> Recording:
        recorder, plan = self.recorder, self.plan
        payloads = payload_path(plan.trace)
        return Recording(
            verdict=self.verdict,
            reason=self.reason,
            trace=str(plan.trace),
            driver=plan.driver.name,
            size=recorder.export.size,
            ops={KIND_BY_NUMBER[kind].label: n for kind, n in sorted(recorder.counts.items())},
            bytes={KIND_BY_NUMBER[kind].label: n for kind, n in sorted(recorder.bytes.items()) if n},
            mismatches=[_mismatch(difference) for difference in recorder.differences],
            damage=[
                {"sector": start // SECTOR, "sectors": (end - start) // SECTOR}
                for start, end in self.damage
            ],
            trace_bytes=plan.trace.stat().st_size,
            payload_bytes=payloads.stat().st_size if self.payloads is not None else 0,
            connections=recorder.connections,
            guest_exit=self.guest.exited if self.guest is not None else None,
        )


def _mismatch(difference: Difference) -> dict[str, object]:
    return {
        "seq": difference.op.seq if difference.op is not None else None,
        "fault": difference.fault.name.lower(),
        "sector": difference.offset // SECTOR,
        "sectors": -(-(difference.offset + difference.length) // SECTOR) - difference.offset // SECTOR,
    }


def _listen_address(plan: Plan) -> Address | None:
    """The address that --listen names, if it may be used; None for a private socket."""
    if plan.listen is None:
        return None
    address = parse_listen(plan.listen)
    if not address.path and not plan.allow_remote and not _is_loopback(address.host):
        raise UsageError(
            f"{address.host} can be reached from other machines, and NBD has no password: "
            "give --allow-remote if that is meant"
        )
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
