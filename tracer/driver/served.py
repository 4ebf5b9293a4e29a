"""A driver that serves a test image, and can be stopped and started again."""

from dataclasses import dataclass
from pathlib import Path

from tracer.closing import Closing
from tracer.disk.loop import Loop
from tracer.driver.command import check_failed
from tracer.driver.complaints import sanitizer_report
from tracer.driver.driver import Driver, Running
from tracer.driver.memory import forgets
from tracer.errors import DriverError, NbdError


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a restart showed. One of the two is set."""

    stop: str | None = None
    """What went wrong when the driver stopped, or started again."""
    check: str | None = None
    """What the check command found wrong."""
    log: str = ""
    """The tail of what the driver printed."""

    def __str__(self) -> str:
        if self.check is not None:
            return check_failed(self.check)
        return f"the driver: {self.stop}"


class Served(Closing):
    """A driver that serves an image. Raises DriverError if it does not start.

    ``forgets`` is whether it keeps nothing over a restart; None: that is found out when it matters.
    """

    def __init__(
        self,
        driver: Driver,
        loop: Loop,
        image: Path,
        size: int | None,
        forgets: bool | None = None,
    ) -> None:
        self.forgets = forgets
        self._driver = driver
        self._loop = loop
        self._image = image
        self._size = size
        self.running: Running = driver.start(loop, image, size)

    def restart(self) -> Trouble | None:
        """Stop the driver, run its check command, and start it again. A driver that keeps nothing
        when it stops only gets new connections. Return what is wrong: then it is stopped."""
        if self.forgets is None:
            size = self._size or self.running.device.export.size
            self.forgets = forgets(self._driver, self._loop, size)
        log = self.running.log()
        if self.forgets:
            try:
                self.running.reconnect()
            except NbdError as error:
                return Trouble(stop=f"connecting again: {error}", log=self.running.log())
            return None
        problem = self.running.stop()
        if problem is not None:
            return Trouble(stop=f"stopping: {problem}", log=log)
        report = sanitizer_report(self.running.log())
        if report is not None:
            return Trouble(stop=f"it printed {report}", log=log)
        found = self.check()
        if found is not None:
            return Trouble(check=found, log=log)
        try:
            self.running = self._driver.start(self._loop, self._image, self._size)
        except DriverError as error:
            return Trouble(stop=f"starting again: {error}", log=error.log)
        return None

    def check(self) -> str | None:
        """Run the check command on the image. Return what it found wrong, or None. The driver has
        stopped."""
        return self._driver.check_image(self._image) if self._driver.owns_image else None

    def close(self) -> None:
        """Kill the driver if it still runs."""
        self.running.close()
