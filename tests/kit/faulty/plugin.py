"""An nbdkit plugin with known defects.

    nbdkit python plugin.py image=FILE defect=NAME starts=FILE

It runs in nbdkit's own Python, one request at a time; what it does with the image is in disk.py.
"""

import nbdkit

from tests.kit.faulty.defects import find
from tests.kit.faulty.disk import Disk, Reply, Request
from tracer.op import Kind

API_VERSION = 2
settings: dict[str, str] = {}
disks: list[Disk] = []


def config(key, value):
    settings[key] = value


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def get_ready():
    disks.append(Disk(settings["image"], find(settings["defect"]), settings["starts"]))


def open(readonly):
    return disks[0]


def close(disk):
    disk.close()


def cleanup():
    """nbdkit 1.32 now and then leaves out ``close``, or this, where SIGTERM comes with the
    goodbye."""
    disks[0].close()


def get_size(disk):
    return disk.size


def can_flush(disk):
    return True


def can_trim(disk):
    return True


def can_zero(disk):
    return True


def can_fua(disk):
    return nbdkit.FUA_NATIVE


def can_extents(disk):
    return True


def do(disk: Disk, kind: Kind, offset: int = 0, length: int = 0, data: bytes = b"") -> Reply:
    """Carry out one request."""
    reply = disk.do([Request(kind, offset, length, data)])[0]
    if reply.error:
        nbdkit.set_error(reply.error)
        raise RuntimeError("a defect")
    return reply


def pread(disk, buf, offset, flags):
    buf[:] = do(disk, Kind.READ, offset, len(buf)).data


def pwrite(disk, buf, offset, flags):
    do(disk, Kind.WRITE, offset, len(buf), bytes(buf))


def flush(disk, flags):
    do(disk, Kind.FLUSH)


def zero(disk, count, offset, flags):
    do(disk, Kind.ZERO, offset, count)


def trim(disk, count, offset, flags):
    do(disk, Kind.TRIM, offset, count)


def extents(disk, count, offset, flags):
    pieces = []
    for length, state in do(disk, Kind.BLOCK_STATUS, offset, count).extents:
        pieces.append((offset, length, state))  # nbdkit has the protocol's numbers
        offset += length
    return pieces
