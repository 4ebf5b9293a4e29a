"""A reference image in memory, for tests that make thousands of them."""

from tracer.disk.device import Data
from tracer.disk.file import FileDevice
from tracer.nbd.protocol import Export
from tracer.op import Buffer, Extents, Kind


class Memory(FileDevice):
    """Takes reads and changes, as a file would."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.export = Export(len(content), 0)
        self.fd = -1
        self.lost = None

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.content[offset : offset + length])

    def execute(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None
    ) -> tuple[int, Data | None, Extents]:
        if kind == Kind.READ:
            return 0, self.read(offset, length), []
        if kind in (Kind.WRITE, Kind.ZERO, Kind.TRIM):
            self.content[offset : offset + length] = bytes(length) if data is None else data
        return 0, None, []
