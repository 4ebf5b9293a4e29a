"""The commands of a driver: filled in, ended, and how they ended in words."""

import os
import re
import signal

LOG_TAIL = 2000
"""Bytes of what a driver wrote to stderr that are shown."""


def fill(command: tuple[str, ...], **values: object) -> list[str]:
    """Replace ``{name}`` in a command's arguments. ``{image_option}`` is the image's path as QEMU's
    option syntax wants it, with commas doubled."""
    if "image" in values:
        values["image_option"] = str(values["image"]).replace(",", ",,")
    places = re.compile("{(" + "|".join(values) + ")}")  # in one pass: a path may contain {size}
    return [places.sub(lambda match: str(values[match[1]]), argument) for argument in command]


def exit_text(code: int) -> str:
    """An exit code in words: ``exit status 3``, or ``signal SIGSEGV`` for a negative one."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _tail(data: bytes) -> str:
    kept = data[-LOG_TAIL:]
    if len(kept) < len(data):
        kept = kept[kept.find(b"\n") + 1 :]  # whole lines, if there is a whole one
    return kept.decode(errors="replace")
