"""A guest for the soaks: random ops, DEPTH of them in flight."""

import random
from collections.abc import Callable
from pathlib import Path

from tracer.digest import digest
from tracer.disk.device import Data
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.nbd.uri import Address
from tracer.op import Extents, Kind

DEPTH = 32
KINDS = [Kind.WRITE] * 5 + [Kind.READ] * 4 + [Kind.ZERO, Kind.TRIM]


def guest(
    socket: Path, size: int, chance: random.Random, more: Callable[[int], bool], acked: list[bytes]
) -> int:
    """Send random ops of up to 8 KiB to a disk of ``size`` bytes, until ``more`` returns False or
    the server is gone. On a small disk they overlap all the time.

    ``more`` gets the number of ops sent. Returns how many ops succeeded, and adds the digests of
    the successful writes to ``acked``.
    """
    done_count = in_flight = sent = 0
    blob = chance.randbytes(1 << 20)
    with Loop() as loop, NbdDevice.connect(loop, Address(path=str(socket))) as device:
        while device.lost is None and (in_flight or more(sent)):
            while in_flight < DEPTH and device.lost is None and more(sent):
                kind = chance.choice(KINDS)
                length = 512 * chance.randint(1, 16)
                at = chance.randrange(len(blob) - length)
                data = blob[at : at + length] if kind == Kind.WRITE else None

                def done(
                    error: int, _d: Data | None, _e: Extents, data: bytes | None = data
                ) -> None:
                    nonlocal in_flight, done_count
                    in_flight -= 1
                    done_count += not error
                    if data is not None and not error:
                        acked.append(digest(data))

                in_flight += 1
                sent += 1
                offset = 512 * chance.randrange((size - length) // 512 + 1)
                device.submit(int(kind), 0, offset, length, data, done)
            device.kick()
            loop.poll(1.0)
    return done_count
