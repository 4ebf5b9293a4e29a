"""The options of a recording."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.mirror.scope import USUAL, Scope
from tracer.op import OnConflict, TrimRule

if TYPE_CHECKING:  # the command line needs the enums, and starts faster without drivers
    from tracer.driver.driver import Driver
    from tracer.nbd.uri import Tls


class Payloads(StrEnum):
    """What a trace keeps of the data that ops wrote."""

    FULL = "full"
    HASH = "hash"
    """Digests alone, no payload store."""


class OnMismatch(StrEnum):
    """What a recording does when the two sides differ."""

    STOP = "stop"
    """Fail the request and end the recording."""
    CONTINUE = "continue"
    """Record the mismatch and go on."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """The options of a recording, as the user gives them."""

    trace: Path
    driver: "Driver"
    raw: Path | None = None
    """The reference image; None: ``TRACE.raw``."""
    image: Path | None = None
    """The test image; None: ``TRACE.test.FORMAT``."""
    size: int | None = None
    """The size of a new disk in bytes; None: 16 GiB."""
    fresh: bool = False
    """Make new images in place of existing ones."""
    listen: str | None = None
    """``unix:PATH`` or ``tcp:HOST:PORT``; None: a private unix socket."""
    allow_remote: bool = False
    """Allow an address that other machines can reach."""
    export_name: str = ""
    """The export's name. A guest that names none gets this export too."""
    tls: "Tls | None" = None
    """What guests must authenticate the connection with; None: no TLS."""
    payloads: Payloads = Payloads.FULL
    on_mismatch: OnMismatch = OnMismatch.STOP
    trim: TrimRule = TrimRule.ANY
    conflicts: OnConflict = OnConflict.SEND
    once: bool = False
    """End when the last guest has disconnected."""
    trust_start: bool = False
    """Do not compare the images at the start."""
    scope: Scope = USUAL
    """What the comparisons of the images read."""
    allowed: frozenset[int] = frozenset()
    """The errno values that the driver may return for an op."""
    sync: bool = False
    """On each flush and FUA of the guest, flush the trace to the disk too."""
    force: bool = False
    """Replace an existing trace."""
    below: bool = False
    """Whether the driver's own ops on its image are recorded too, beside the trace."""
    command: tuple[str, ...] = ()
    """The guest's command; empty: serve until interrupted."""
    guest_stdout: int | None = None
    """A descriptor for the guest's output; None: our own stdout."""
    handle_signals: bool = False
    """Handle SIGINT, SIGTERM and SIGHUP: pass them on to the guest's command; if there is none, end
    the recording. Only possible in the main thread."""
