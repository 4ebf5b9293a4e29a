"""Small functions for running a driver's commands: fill in arguments, signal, describe the
result."""

import os
import re
import signal


def fill(command: tuple[str, ...], **values: object) -> list[str]:
    """Replace ``{name}`` in a command's arguments by the value of that name.

    If there is an ``image``, ``{image_option}`` becomes its path with commas doubled, as QEMU's
    option syntax requires.
    """
    if "image" in values:
        values["image_option"] = str(values["image"]).replace(",", ",,")
    # in a single pass: a path may contain {size}
    places = re.compile("{(" + "|".join(values) + ")}")
    return [places.sub(lambda match: str(values[match[1]]), argument) for argument in command]


def exit_text(code: int) -> str:
    """Describe an exit code: ``exit status 3``, or ``killed by SIGSEGV`` if it is negative."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def check_failed(found: str) -> str:
    """Say in a line what ``Driver.check_image`` found wrong."""
    return f"the check failed, {found.splitlines()[0]}"


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group ``pid``. Do nothing if it no longer exists."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
