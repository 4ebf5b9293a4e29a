"""Logs of dm-log-writes: we read those that QEMU's blklogwrites writes, and it reads ours."""

import re
import struct
from itertools import pairwise
from pathlib import Path

import pytest

from analysis.interop.exporting import export_trace
from tests.kit.data import MIB, pattern
from tests.kit.foreign import (
    FLUSH,
    RECORDINGS,
    TRIM,
    WRITE,
    any_damage,
    brief,
    bring_in,
    disk_after,
    every_cut,
    replays_clean,
)
from tests.kit.peers import need, peer
from tests.kit.traces import read_trace
from tracer.errors import TraceError, UsageError
from tracer.op import NO_SEQ, Flag, Kind, Op
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End, Restart, Settle

FUA, METADATA = 2, 16

COMMANDS = ["write -P 1 0 4k", "discard 64k 64k", "write -z 128k 64k", "write -P 3 8k 4k", "flush",
            "write -P 9 12k 8k"]  # fmt: skip


def log(*entries: tuple[int, int, int, bytes], sector: int = 512, version: int = 1) -> bytes:
    """A log as linux/drivers/md/dm-log-writes.c describes it: of ``(sector, sectors, flags,
    data)``."""
    blocks = [struct.pack("<QQQI", 0x6A736677736872, version, len(entries), sector)]
    for first, count, flags, data in entries:
        name = data if flags & 8 else b""
        blocks.append(struct.pack("<QQQQ", first, count, flags, len(name)) + name)
        if data and not name:
            blocks.append(data)
    return b"".join(block + bytes(-len(block) % sector) for block in blocks)


SAMPLE = log(
    (8, 1, 0, pattern(512, 1)),
    (0, 0, 8, b"mkfs is done"),
    (16, 2, FUA | METADATA, pattern(1024, 2)),
    (64, 64, 4, b""),
    (0, 0, 1, b""),
    (24, 1, 1 | FUA, pattern(512, 3)),
)


def blklogwrites(image: Path, file: Path, options: str, *commands: str) -> None:
    """Run commands of qemu-io's on an image, with QEMU's logging."""
    disk = f"driver=blklogwrites,file.driver=file,file.filename={image}"
    disk += f",log.driver=file,log.filename={file}"
    words = [word for command in commands for word in ("-c", command)]
    peer("qemu-io", "-t", "writeback", "--image-opts", f"{disk},{options}", *words)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_log_of_qemu_s(tmp_path: Path, sector: int) -> None:
    need("qemu-io")
    image, file = tmp_path / "disk.raw", tmp_path / "real.log"
    image.write_bytes(bytes(MIB))
    file.touch()
    blklogwrites(image, file, f"log-sector-size={sector}", *COMMANDS)
    made, ops = bring_in(file, file.read_bytes(), size=MIB)
    assert (made.format, made.payloads, made.skipped) == ("dm-log-writes", "full", {})
    assert brief(ops) == [
        (WRITE, 0, 4096),
        (TRIM, 65536, 65536),
        (WRITE, 131072, 65536),
        (WRITE, 8192, 4096),
        (FLUSH,),
        (WRITE, 12288, 8192),
        (FLUSH,),
    ]
    assert disk_after(tmp_path / "real.trace", MIB) == image.read_bytes()
    replays_clean(tmp_path / "real.trace")


def test_a_log_of_the_kernel_s(tmp_path: Path) -> None:
    """What was not flushed when a write with FUA was done comes behind that one in a log."""
    made, ops = bring_in(tmp_path / "k.log", (RECORDINGS / "linux.log").read_bytes(), size=MIB)
    assert (made.payloads, made.skipped) == ("full", {})
    assert brief(ops) == [
        (WRITE, 4096, 4096, Flag.FUA), (WRITE, 0, 4096), (FLUSH,), (WRITE, 4096, 4096), (FLUSH,),
        (TRIM, 65536, 65536), (WRITE, 0, 4096),
    ]  # fmt: skip
    marks = [(mark.seq, mark.name) for mark in read_trace(tmp_path / "k.trace")[0].marks]
    assert marks == [(3, "here"), (7, "dm-log-writes-end")]
    assert disk_after(tmp_path / "k.trace", MIB) == bytes(4096) + b"c" * 4096 + bytes(MIB - 8192)
    replays_clean(tmp_path / "k.trace")


def test_qemu_appends_to_a_log_of_ours(tmp_path: Path) -> None:
    """It reads the superblock and every entry to find the end."""
    need("qemu-io")
    bring_in(tmp_path / "s.log", SAMPLE)
    export_trace(tmp_path / "s.trace", tmp_path / "ours.log")
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(MIB))
    blklogwrites(image, tmp_path / "ours.log", "log-append=on", "write -P 7 128k 4k")
    _, before = bring_in(tmp_path / "s.log", SAMPLE)
    _, after = bring_in(tmp_path / "ours.log", (tmp_path / "ours.log").read_bytes())
    assert brief(after) == [*brief(before), (WRITE, 131072, 4096), (FLUSH,)]
    assert [op.digest for op in after[: len(before)]] == [op.digest for op in before]


def test_entries_flags_and_marks(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "s.log", SAMPLE)
    assert made.skipped["flag METADATA"] == 1
    assert made.size == MIB
    assert brief(ops) == [
        (WRITE, 4096, 512),
        (WRITE, 8192, 1024, Flag.FUA),
        (TRIM, 32768, 32768),
        (FLUSH,),
        (FLUSH,),
        (WRITE, 12288, 512, Flag.FUA),
    ]
    opened, _ = read_trace(tmp_path / "s.trace")
    assert [(mark.seq, mark.name) for mark in opened.marks] == [(1, "mkfs is done")]
    assert disk_after(tmp_path / "s.trace", MIB)[12288:12800] == pattern(512, 3)
    assert all(a.completed < b.submitted for a, b in pairwise(ops))


def test_sectors_are_the_log_s(tmp_path: Path) -> None:
    _, ops = bring_in(tmp_path / "s.log", log((2, 1, 0, bytes(4096)), (9, 3, 4, b""), sector=4096))
    assert brief(ops) == [(WRITE, 8192, 4096), (TRIM, 36864, 12288)]


def test_a_long_entry_becomes_several_ops(tmp_path: Path) -> None:
    with (tmp_path / "s.log").open("wb") as file:
        file.write(log((0, 80 * MIB // 512, 0, b"")))
        file.truncate(1024 + 80 * MIB)
    _, ops = bring_in(tmp_path / "s.log", (tmp_path / "s.log").read_bytes())
    assert [(op.offset // MIB, op.length // MIB) for op in ops] == [(0, 32), (32, 32), (64, 16)]


def test_our_log_is_as_the_kernel_s(tmp_path: Path) -> None:
    """Also as xfstests' replay-log checks: something is in each entry, and nothing behind it unless
    it is a mark (src/log-writes/log-writes.c, log_entry_valid)."""
    bring_in(
        tmp_path / "s.txt",
        "write -P 5 4k 1k\nwrite -z 8k 2k\nread 0 1k\nwrite -f 1k 1k\ndiscard 0 1M\nflush\n",
    )
    made = export_trace(tmp_path / "s.trace", tmp_path / "ours.log")
    assert made.left_out == {"read": 1}
    found = (tmp_path / "ours.log").read_bytes()
    assert made.bytes == len(found)
    assert found == log(
        (8, 2, 0, b"\5" * 1024),
        (16, 4, 0, bytes(2048)),
        (2, 2, FUA, b"\xcd" * 1024),
        (0, 2048, 4, b""),
        (0, 0, 1, b""),
    )


def test_what_won_over_a_later_op_comes_once_more(tmp_path: Path) -> None:
    one, two = pattern(2048, 1), pattern(2048, 2)
    path = tmp_path / "s.trace"
    with TraceOutput(path, Header(MIB)) as output:
        for seq, (kind, at, data) in enumerate(
            [(Kind.WRITE, 0, one), (Kind.ZERO, 4096, b""), (Kind.WRITE, 1024, two),
             (Kind.WRITE, 4096, two)]
        ):  # fmt: skip
            op = Op(seq, int(kind), 0, at, 2048, seq, 9)
            if data:
                output.store(op, data)
            output.op(op)
        output.op(Op(4, int(Kind.READ), 0, 0, 8192, 10, 11))
        settles = [(1024, 512, 0), (4608, 512, 1), (1700, 100, 0), (4096, 512, NO_SEQ)]
        for offset, length, winner in settles:
            output.settle(Settle(4, offset, length, winner, 11, bytes(16)))
        output.restart(Restart(5, 12, "phase"))
        output.close(End(5, 0, 12, "clean"))
    made = export_trace(path, tmp_path / "ours.log")
    assert made.left_out == {"read": 1, "settle": 2, "restart": 1}
    assert (tmp_path / "ours.log").read_bytes() == log(
        (0, 4, 0, one), (8, 4, 0, bytes(2048)), (2, 4, 0, two), (8, 4, 0, two),
        (2, 1, 0, one[1024:1536]), (9, 1, 0, bytes(512)),
    )  # fmt: skip


def test_what_a_log_cannot_say(tmp_path: Path) -> None:
    bring_in(tmp_path / "s.txt", "write 0 1k\nwrite 100 100\n")
    with pytest.raises(UsageError, match="op #1 does not begin and end with a sector"):
        export_trace(tmp_path / "s.trace", tmp_path / "ours.log")
    assert not (tmp_path / "ours.log").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (log(version=2), "byte 0: version 2"),
        (b"x" + SAMPLE[1:], "byte 0: not a superblock"),
        (log((0, 0, 32, b"")), "byte 512: not an entry"),
        (log((0, 0, 0, b"")), "byte 512: not an entry"),
        (log((1 << 62, 1, 0, b"")), "byte 512: 1 sectors at sector"),
        (log((1, 1 << 60, 4, b"")), "byte 512: "),
        (log((1, 9, 0, bytes(512))), "byte 512: the file is cut off"),
        (
            struct.pack("<QQQI", 0x6A736677736872, 1, 1, 513) + bytes(600),
            "byte 0: 513 is not a sector size",
        ),
        (struct.pack("<QQQI", 0x6A736677736872, 1, 1, 1 << 31) + bytes(600), "byte 0: 2147483648"),
        (
            SAMPLE[:1536] + struct.pack("<QQQQ", 0, 0, 8, 481) + SAMPLE[1568:],
            "byte 1536: a mark of 481",
        ),
    ],
)
def test_what_is_no_log(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(TraceError, match=re.escape(problem)):
        bring_in(tmp_path / "s.log", content, name="dm-log-writes")
    assert not (tmp_path / "s.trace").exists()


@pytest.mark.slow
def test_a_log_cut_off_or_damaged(tmp_path: Path) -> None:
    every_cut(tmp_path / "s.log", SAMPLE, "dm-log-writes")
    any_damage(tmp_path / "s.log", SAMPLE, "dm-log-writes")
