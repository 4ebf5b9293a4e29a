"""An nbdkit plugin with known defects: a raw image that goes wrong in one chosen way.

    nbdkit python plugin.py image=FILE defect=NAME

Runs in nbdkit's own Python: nothing but the standard library here. The workload that triggers the
defects, and which op is the culprit of each, is in workload.py beside this file.
"""

import errno
import os
import time

import nbdkit

API_VERSION = 2
KIB = 1024
settings = {"defect": "none"}
state = {"fd": -1, "armed": False, "flushes": 0, "unsaved": None}


def config(key, value):
    settings[key] = value


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def get_ready():
    state["fd"] = os.open(settings["image"], os.O_RDWR)
    if settings["defect"] == "chance":
        # a coin that falls the same way in every test
        with os.fdopen(os.open(settings["starts"], os.O_CREAT | os.O_RDWR), "r+") as file:
            start = len(file.read())
            file.write(".")
        state["armed"] = "1001000100100100"[start % 16] == "1"


def open(readonly):
    return 1


def get_size(h):
    return os.fstat(state["fd"]).st_size


def can_flush(h):
    return True


def can_trim(h):
    return True


def can_zero(h):
    return True


def can_fua(h):
    return nbdkit.FUA_NATIVE


def can_extents(h):
    return True


def put(data, offset):
    os.pwrite(state["fd"], data, offset)


def hit(defect, condition):
    """Whether the chosen defect is this one, and its condition holds."""
    return settings["defect"] == defect and condition


def pread(h, buf, offset, flags):
    buf[:] = os.pread(state["fd"], len(buf), offset)
    if state["unsaved"] is not None:
        data, at = state["unsaved"]
        start, end = max(offset, at), min(offset + len(buf), at + len(data))
        if start < end:
            buf[start - offset : end - offset] = data[start - at : end - at]
    first = offset == 0 and len(buf) == 64 * KIB
    if hit("read-damages-disk", first):
        put(bytes(512), 8 * KIB)
    if hit("read-returns-wrong", first):
        buf[1000] ^= 1


def pwrite(h, buf, offset, flags):
    data, small, last = bytes(buf), offset == 20 * KIB, offset == 900 * KIB
    if hit("first-write-lost", offset == 0) or hit("write-lost", small) or hit("last-write-lost", last):
        return
    if hit("chance", small and state["armed"]):
        return
    if hit("write-torn", offset == 60 * KIB):
        data = data[: 4 * KIB]
    if hit("write-misdirected", small):
        offset += 64 * KIB
    if hit("write-zeroed", small):
        data = bytes(len(data))
    if hit("bit-flip", last):
        data = data[:77] + bytes([data[77] ^ 4]) + data[78:]
    if hit("write-shifted", last):
        data = data[16:] + data[:16]
    if hit("wrong-errno", last):
        nbdkit.set_error(errno.ENOSPC)
        raise RuntimeError("no room, it says")
    if hit("hang", offset == 512 * KIB + 4 * KIB):
        time.sleep(60)
    if hit("lost-on-close", small):
        state["unsaved"] = data, offset
        return
    if hit("delayed", offset == 60 * KIB):
        state["armed"] = True
    put(data, offset)


def flush(h, flags):
    state["flushes"] += 1
    if hit("flush-damages", state["flushes"] == 1):
        put(bytes(1024), 192 * KIB)
    if hit("delayed", state["armed"]):
        state["armed"] = False
        put(b"late" * 128, 320 * KIB)
    os.fdatasync(state["fd"])


def zero(h, count, offset, flags):
    if hit("crash-on-zero", True):
        os.abort()
    if hit("check-only", True):
        with os.fdopen(os.open(settings["image"] + ".bad", os.O_CREAT | os.O_WRONLY), "w") as mark:
            mark.write("metadata is wrong")
    if hit("zero-ignored", True):
        return
    put(bytes(count + (4 * KIB if hit("zero-too-long", True) else 0)), offset)


def trim(h, count, offset, flags):
    put(bytes(count + (64 * KIB if hit("trim-too-long", True) else 0)), offset)


def extents(h, count, offset, flags):
    """All data, but for what a defect calls a hole."""
    end = offset + count
    lie = (900 * KIB, 904 * KIB)
    if not hit("false-hole", any(os.pread(state["fd"], 4 * KIB, lie[0]))) or end <= lie[0]:
        return [(offset, count, 0)]
    pieces = [(offset, lie[0], 0), (*lie, nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO), (lie[1], end, 0)]
    return [
        (max(start, offset), min(stop, end) - max(start, offset), kind)
        for start, stop, kind in pieces
        if max(start, offset) < min(stop, end)
    ]
