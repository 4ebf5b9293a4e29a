"""Reading the log of QEMU's blklogwrites."""

import struct
from pathlib import Path

import pytest

from tests.kit.peers import need, peer
from tracer.below.log_writes import DISCARD, ENTRY, FLUSH, FUA, MAGIC, SUPER, VERSION, entries
from tracer.below.op import LowerKind
from tracer.digest import digest
from tracer.errors import Undecidable
from tracer.op import SECTOR, ZERO_DIGEST


def entry(sector: int, count: int, flags: int = 0, data: bytes = b"") -> bytes:
    return ENTRY.pack(sector, count, flags, 0).ljust(SECTOR, b"\0") + data


def log(folder: Path, *packed: bytes) -> Path:
    path = folder / "log"
    path.write_bytes(SUPER.pack(MAGIC, VERSION, 0, SECTOR).ljust(SECTOR, b"\0") + b"".join(packed))
    return path


def test_each_kind(tmp_path: Path) -> None:
    data = b"a" * SECTOR
    path = log(
        tmp_path,
        entry(3, 1, 0, data),
        entry(0, 0, FLUSH),
        entry(8, 4, DISCARD),
        entry(16, 2, FUA, bytes(2 * SECTOR)),
    )
    found = list(entries(path))
    assert [(op.kind, op.offset, op.length, op.fua) for op in found] == [
        (LowerKind.WRITE, 3 * SECTOR, SECTOR, False),
        (LowerKind.FLUSH, 0, 0, False),
        (LowerKind.DISCARD, 8 * SECTOR, 4 * SECTOR, False),
        (LowerKind.ZERO, 16 * SECTOR, 2 * SECTOR, True),
    ]
    assert [op.number for op in found] == [0, 1, 2, 3]
    assert found[0].digest == digest(data)
    assert found[3].digest == ZERO_DIGEST
    held = path.read_bytes()
    assert held[found[0].data_at : found[0].log_end] == data
    assert found[3].log_end == len(held)


def test_a_flush_with_data_comes_first(tmp_path: Path) -> None:
    found = list(entries(log(tmp_path, entry(0, 1, FLUSH, b"x" * SECTOR))))
    assert [op.kind for op in found] == [LowerKind.FLUSH, LowerKind.WRITE]


@pytest.mark.parametrize("cut", [1, SECTOR, SECTOR + 1, 2 * SECTOR - 1])
def test_a_log_that_breaks_off_has_its_whole_ops(tmp_path: Path, cut: int) -> None:
    path = log(tmp_path, entry(1, 1, 0, b"a" * SECTOR), entry(2, 1, 0, b"b" * SECTOR))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [op.offset for op in entries(path)] == [SECTOR]


def test_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert list(entries(tmp_path / "log")) == []


def test_a_torn_log_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path, entry(1, 1, 0, b"a" * SECTOR), bytes(SECTOR), entry(2, 0, FLUSH))
    with pytest.raises(Undecidable, match=f"torn at byte {3 * SECTOR}"):
        list(entries(path))


def test_a_log_that_qemu_has_written(tmp_path: Path) -> None:
    need("qemu-io")
    raw, path = tmp_path / "raw", tmp_path / "log"
    raw.write_bytes(bytes(1 << 20))
    path.touch()
    peer(
        "qemu-io", "--image-opts",
        f"driver=blklogwrites,file.driver=file,file.filename={raw},"
        f"log.driver=file,log.filename={path}",
        "-c", "write -P 7 4k 8k", "-c", "flush", "-c", "write -z 64k 4k", "-c", "discard 0 4k",
    )  # fmt: skip
    found = [(op.kind, op.offset, op.length) for op in entries(path)]
    flush = (LowerKind.FLUSH, 0, 0)
    assert [op for op in found if op != flush] == [
        (LowerKind.WRITE, 4096, 8192),
        (LowerKind.ZERO, 65536, 4096),
        (LowerKind.DISCARD, 0, 4096),
    ]
    assert found[1] == flush
    assert struct.unpack("<Q", path.read_bytes()[:8]) == (MAGIC,)
