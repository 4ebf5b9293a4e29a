"""What to record, and how."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.op import TrimRule

if TYPE_CHECKING:  # the command reads the enums below, and starts fast without drivers
    from tracer.driver.driver import Driver


class Payloads(StrEnum):
    """What a trace keeps of the data that ops wrote."""

    FULL = "full"
    HASH = "hash"
    """Digests alone."""


class OnMismatch(StrEnum):
    """What to do when the two sides differ."""

    STOP = "stop"
    """Fail the request and end the recording."""
    CONTINUE = "continue"
    """Note it and go on."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What the user asks of a recording."""

    trace: Path
    driver: "Driver"
    raw: Path | None = None
    """The reference image; None: ``TRACE.raw``."""
    image: Path | None = None
    """The test image; None: ``TRACE.test.FORMAT``."""
    size: int = 16 << 30
    """The disk's size in bytes, where the images are missing."""
    listen: str | None = None
    """``unix:PATH`` or ``tcp:HOST:PORT``; None: a private unix socket."""
    allow_remote: bool = False
    payloads: Payloads = Payloads.FULL
    on_mismatch: OnMismatch = OnMismatch.STOP
    trim: TrimRule = TrimRule.ANY
    once: bool = False
    """End when the last client has left."""
    trust_start: bool = False
    """Do not compare the images at the start."""
    sync: bool = False
    """A flush or FUA of the guest's also flushes the trace to disk."""
    force: bool = False
    """Replace an existing trace."""
    command: tuple[str, ...] = ()
    """The guest's command; none: serve until interrupted."""
    guest_stdout: int | None = None
    """A descriptor for what the guest prints; None: our own stdout."""
    handle_signals: bool = False
    """Take SIGINT, SIGTERM and SIGHUP as the wish to end, and pass them on to the guest. Only the main
    thread may."""
