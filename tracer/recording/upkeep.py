"""What a recording does to its driver between requests: it gives each guest's connection one of its
own, and restarts the driver when a guest comes back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tracer.driver.served import Served, Trouble
from tracer.mirror.mirror import Mirror
from tracer.recording.connection import Guest


class Traffic(Protocol):
    """The recorder, as far as it matters here."""

    @property
    def guests(self) -> list[Guest]: ...
    @property
    def idle(self) -> bool: ...
    @property
    def changes(self) -> int: ...


@dataclass(slots=True, kw_only=True)
class Upkeep:
    """The upkeep of one driver."""

    traffic: Traffic
    mirror: Mirror
    served: Served
    finish: Callable[[], None]
    """Submits what makes the disk ready for a restart: reads of what is open, and a flush."""
    restarted: Callable[[], None]
    """Is called once the driver serves again."""
    restarting: bool = False
    """Whether guests have to wait for a restart."""
    trouble: Trouble | None = None
    """What a restart showed; None: nothing. Otherwise the driver is stopped."""
    _left: bool = False  # whether all guests have left since the disk was changed
    _before: int = 0  # the changes before the driver was started
    _known: set[int] = field(default_factory=set)  # guests with a connection, or a share in one
    _own: set[int] = field(default_factory=set)  # those with one of their own

    def before_requests(self) -> None:
        """See to guests that have come or gone, before their requests are admitted."""
        self._note_return()
        self._match_connections()

    def after_requests(self) -> None:
        """Note whether all guests have left."""
        if not self.traffic.guests:
            self._left = self.traffic.changes > self._before

    def _note_return(self) -> None:
        """If all guests have left, and one comes back, restart the driver: the guest may have
        rebooted. What is not flushed is flushed first, as at a shutdown."""
        traffic = self.traffic
        if not traffic.idle:
            return
        if self.restarting:
            self.restarting = self._left = False
            self._before = traffic.changes
            self.mirror.give_up()
            self.trouble = self.served.restart()
            if self.trouble is None:
                self.mirror.reopened(self.served.running.device)
                self._known.clear()
                self._own.clear()
            self.restarted()
        elif self._left and traffic.guests:
            self.restarting = True
            self.finish()

    def _match_connections(self) -> None:
        """Give each guest's connection one of its own to the driver, if the driver allows that; the
        first one uses that of our own ops."""
        traffic = self.traffic
        for guest in list(traffic.guests):
            if guest.number not in self._known:
                first = not self._known
                self._known.add(guest.number)
                device = None if first else self.served.running.connect()
                if device is not None:
                    self.mirror.connect(guest.number, device)
                    self._own.add(guest.number)
        if self._own:
            here = {guest.number for guest in traffic.guests}
            for number in [number for number in self._own if number not in here]:
                device = self.mirror.disconnect(number)
                if device is not None:
                    self.served.running.disconnect(device)
                    self._own.remove(number)
