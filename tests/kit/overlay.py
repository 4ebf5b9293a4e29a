"""An NBD server for an image with a backing file, and a defect that only the backing file shows.

    python -m tests.kit.overlay SOCKET IMAGE BASE [DEFECT]

IMAGE is raw. The file IMAGE.map has a byte for each block of it: 1 if the block is in IMAGE, 0 if
it is still in BASE. The defects:

    zero    write zeroes to a block that only BASE has is dropped
    base    a write to a block that only BASE has goes to BASE
    -       none
"""

import json
import os
import signal
import sys
from pathlib import Path

from tests.kit.faulty.disk import Reply, Request
from tests.kit.faulty.server import serve
from tracer.op import Kind

BLOCK = 64 << 10
"""Bytes."""


class Overlay:
    """A disk whose blocks are copied up from the backing file when they are first written."""

    def __init__(self, image: str, base: str, defect: str) -> None:
        self.top = os.open(image, os.O_RDWR)
        self.base = os.open(base, os.O_RDWR if defect == "base" else os.O_RDONLY)
        self.size = os.fstat(self.top).st_size
        self.defect = defect
        self.map = os.open(image + ".map", os.O_RDWR | os.O_CREAT, 0o644)
        blocks = -(-self.size // BLOCK)
        self.here = bytearray(os.pread(self.map, blocks, 0).ljust(blocks, b"\0"))

    def do(self, burst: list[Request]) -> list[Reply]:
        """Carry out requests, one after the other."""
        return [self._one(request) for request in burst]

    def _one(self, request: Request) -> Reply:
        if request.kind == Kind.BLOCK_STATUS:
            return Reply(extents=[(request.length, 0)])
        reply, end = Reply(), request.offset + request.length
        data = request.data or bytes(request.length)
        at = request.offset
        while at < end:
            stop = min((at // BLOCK + 1) * BLOCK, end)
            if request.kind == Kind.READ:
                fd = self.top if self.here[at // BLOCK] else self.base
                reply.data += os.pread(fd, stop - at, at)
            elif request.kind != Kind.TRIM:  # a trim may leave what is there
                piece = data[at - request.offset : stop - request.offset]
                self._put(request.kind, at, piece)
            at = stop
        return reply

    def _put(self, kind: int, at: int, data: bytes) -> None:
        block = at // BLOCK
        if not self.here[block]:
            if self.defect == "zero" and kind == Kind.ZERO:
                return
            if self.defect == "base":
                os.pwrite(self.base, data, at)
                return
            os.pwrite(self.top, os.pread(self.base, BLOCK, block * BLOCK), block * BLOCK)
            self.here[block] = 1
            os.pwrite(self.map, b"\1", block)
        os.pwrite(self.top, data, at)


def write_overlay(folder: Path, defect: str = "-", name: str = "overlay") -> Path:
    """A driver file for the server."""
    path = folder / f"{name}.toml"
    command = ["{python}", "-m", "tests.kit.overlay", "{socket}", "{image}", "{base}", defect]
    root = str(Path(__file__).parents[2])
    path.write_text(f"serve = {json.dumps(command)}\nenv = {{ PYTHONPATH = {json.dumps(root)} }}\n")
    return path


def main() -> None:
    """Serve as the command line says, until SIGTERM."""
    path, image, base, defect = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve(path, Overlay(image, base, defect), patient=False)


if __name__ == "__main__":
    main()
