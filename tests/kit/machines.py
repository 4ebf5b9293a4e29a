"""Bytes in and out of protocol state machines."""

from collections.abc import Iterable
from typing import Any


def feed(machine: Any, data: bytes, sizes: Iterable[int] = ()) -> list[Any]:
    """Give bytes to a machine in pieces of the sizes given, then all the rest; return its
    messages."""
    found: list[Any] = []
    cuts = iter(sizes)
    at = 0
    while at < len(data):
        target = machine.target()
        count = min(len(target), next(cuts, len(data)), len(data) - at)
        assert count > 0, "a machine must always have room for more"
        target[:count] = data[at : at + count]
        at += count
        found += machine.received(count)
    return found


def drain(machine: Any) -> bytes:
    """Take what a machine wants to send."""
    data = b"".join(bytes(piece) for piece in machine.outgoing)
    machine.outgoing.clear()
    return data
