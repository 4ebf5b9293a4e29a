"""Which structure of a qcow2 image an offset belongs to, by reading the image.

docs/interop/qcow2.txt of QEMU defines the format. Nothing in the image is believed further than it
can be read: a damaged image has fewer named clusters.
"""

import os
import struct
from pathlib import Path

HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
"""Magic, version, backing file's offset and length, cluster bits, size, encryption, L1 entries and
offset, refcount table's offset and clusters, snapshots and their offset."""

OFFSET = 0x00FF_FFFF_FFFF_FE00
"""The bits of an entry that are an offset in the file."""

COMPRESSED = 1 << 62
"""The bit of an L2 entry whose offset means something else."""

EXTENDED_L2 = 0x10
"""The bit in the last byte of the incompatible features: L2 entries have 16 bytes."""

MAX_TABLE = 32 << 20
"""The most bytes of an L1 or refcount table that are read: QEMU allows no larger ones."""

CLUSTERS = range(9, 22)
"""The numbers of bits that a cluster's size may have."""


class Structures:
    """The structures of an image. Other files than qcow2 have none. Raises OSError."""

    def __init__(self, image: Path) -> None:
        self._bits = 0
        self._names: dict[int, str] = {}
        """By cluster of the file."""
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._read(fd)
        finally:
            os.close(fd)

    def name(self, offset: int) -> str | None:
        """Return what the byte at ``offset`` is a part of: ``header``, ``L1 table``, ``L2 table``,
        ``refcount table``, ``refcount block``, ``data``; None if nothing refers to it."""
        return self._names.get(offset >> self._bits) if self._bits else None

    def _read(self, fd: int) -> None:
        head = os.pread(fd, HEADER.size, 0)
        if len(head) < HEADER.size:
            return
        magic, version, _, _, bits, _, _, l1_size, l1, table, table_clusters, _, _ = HEADER.unpack(
            head
        )
        if magic != b"QFI\xfb" or bits not in CLUSTERS:
            return
        self._bits, cluster = bits, 1 << bits
        features = os.pread(fd, 8, 72) if version >= 3 else b""
        extended = bool(features) and bool(features[-1] & EXTENDED_L2)
        self._note(0, 1, "header")
        for entry in self._entries(fd, l1, l1_size * 8, "L1 table"):
            for l2 in self._entries(fd, entry, cluster, "L2 table", 16 if extended else 8):
                if not l2 & COMPRESSED:
                    self._note(l2 & OFFSET, cluster, "data")
        for block in self._entries(fd, table, table_clusters * cluster, "refcount table"):
            self._note(block & OFFSET, cluster, "refcount block")

    def _entries(self, fd: int, at: int, length: int, name: str, step: int = 8) -> list[int]:
        """Note a table, and return its entries that are not zero."""
        at &= OFFSET
        if not at or length > MAX_TABLE:
            return []
        self._note(at, length, name)
        data = os.pread(fd, length, at)
        found = [int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data) - 7, step)]
        return [entry for entry in found if entry & OFFSET]

    def _note(self, at: int, length: int, name: str) -> None:
        if at or name == "header":
            for number in range(at >> self._bits, ((at + length - 1) >> self._bits) + 1):
                self._names.setdefault(number, name)
