"""qemu-io scripts: an import says what qemu-io does."""

import re
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.foreign import (
    FLUSH,
    READ,
    TRIM,
    WRITE,
    ZERO,
    any_damage,
    brief,
    bring_in,
    disk_after,
    every_cut,
    replays_clean,
)
from tests.kit.peers import need
from tests.kit.traces import read_trace
from tracer.errors import TraceError
from tracer.op import Flag, Op

SCRIPT = """\
# comments and empty lines mean nothing

write -P 1 0 4k
read -P 1 0 4k
aio_write -P 0x22 64k 64k
aio_write -z 128k 64k
aio_read 0 4k 4k
aio_flush
discard -q 64k 32k
write -zu 128k 4k
write -z -n -u 132k 4K
w 0x40000 1.5k
writev 300k -P 033 1k 2k
write -f 10k 512b
flush
r -v 0 512k
q
write 0 1k
"""


def test_every_command_becomes_its_op(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "s.txt", SCRIPT)
    assert (made.format, made.size, made.payloads) == ("qemu-io", MIB, "full")
    assert brief(ops) == [
        (WRITE, 0, 4096),
        (READ, 0, 4096),
        (WRITE, 65536, 65536),
        (ZERO, 131072, 65536, Flag.NO_HOLE),
        (READ, 0, 8192),
        (TRIM, 65536, 32768),
        (ZERO, 131072, 4096),
        (ZERO, 135168, 4096, Flag.FAST_ZERO),
        (WRITE, 262144, 1536),
        (WRITE, 307200, 3072),
        (WRITE, 10240, 512, Flag.FUA),
        (FLUSH,),
        (READ, 0, 524288),
    ]
    disk = disk_after(tmp_path / "s.trace", MIB)
    assert disk[0:1] == b"\1"
    assert disk[98304:98305] == b"\x22"
    assert disk[262144:262145] == b"\xcd"
    assert disk[307200:307201] == bytes([0o33])


def test_asynchronous_requests_are_in_flight_together(tmp_path: Path) -> None:
    _, ops = bring_in(tmp_path / "s.txt", SCRIPT)
    first, second, third, after = ops[2], ops[3], ops[4], ops[5]
    assert max(first.submitted, second.submitted, third.submitted) < first.completed
    assert first.completed == second.completed == third.completed < after.submitted
    assert ops[1].completed < first.submitted


def test_qemu_io_does_the_same(tmp_path: Path) -> None:
    need("qemu-io")
    script = re.sub(r"(?m)^#.*\n", "", SCRIPT).replace("write -z -n -u 132k", "write -z -u 132k")
    _, ops = bring_in(tmp_path / "s.txt", script)
    shell = f"qemu-io -f raw {{nbd}} < {tmp_path / 's.txt'}"
    trace(
        "record",
        "real.trace",
        "--driver",
        "raw",
        "--size",
        "1M",
        "--",
        "sh",
        "-c",
        shell,
        cwd=tmp_path,
    )
    recorded = sorted(read_trace(tmp_path / "real.trace")[1], key=lambda op: op.seq)

    def same(op: Op) -> tuple[int, ...]:
        # without -t, qemu-io adds FUA to every write
        return op.kind, op.offset, op.length, op.flags & ~Flag.FUA, int.from_bytes(op.digest, "big")

    # qemu-io flushes when it closes the disk, and the recorder does at the end
    assert [same(op) for op in ops] == [same(op) for op in recorded[:-2]]


def test_it_replays(tmp_path: Path) -> None:
    bring_in(tmp_path / "s.txt", SCRIPT)
    replays_clean(tmp_path / "s.trace")


def test_a_large_write_becomes_several(tmp_path: Path) -> None:
    _, ops = bring_in(tmp_path / "s.txt", "write -P 7 4k 65M\nread 0 33M\ndiscard 0 3G\n")
    assert [(op.offset, op.length // MIB) for op in ops] == [
        (4096, 32), (4096 + 32 * MIB, 32), (4096 + 64 * MIB, 1),
        (0, 32), (32 * MIB, 1), (0, 2048), (2048 * MIB, 1024),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("open x.img", "'open': not a command that can be imported"),
        ("write 0", "expected an offset and a length"),
        ("write 0 1k 1k", "expected an offset and a length"),
        ("write -P 256 0 1k", "'256' is not a byte"),
        ("write -P -1 0 1k", "'-1' is not a byte"),
        ("write -P 0x 0 1k", "'0x' is not a byte"),
        ("write -s other.bin 0 1k", "another file"),
        ("write -b 0 1k", "VM state"),
        ("write -u 0 1k", "-z"),
        ("write -z -P 1 0 1k", "contradict"),
        ("read -w 0 1k", "option -w"),
        ("read 1x 1k", "'1x' is not a number of bytes"),
        ("read -- -1 1k", "'-1' is not a number of bytes"),
        ("read 7e 1k", "no disk is so large"),
        ("\x1b[1m 0 1k", r"'\x1b[1m'"),
    ],
)
def test_what_cannot_be_said_is_an_error_with_its_line(
    tmp_path: Path, line: str, problem: str
) -> None:
    with pytest.raises(TraceError, match=re.escape(problem)) as caught:
        bring_in(tmp_path / "s.txt", f"write 0 1k\n\n{line}\n", name="qemu-io")
    assert ": line 3: " in str(caught.value)
    assert not (tmp_path / "s.trace").exists()


def test_a_script_cut_off_or_damaged(tmp_path: Path) -> None:
    every_cut(tmp_path / "s.txt", SCRIPT.encode(), "qemu-io")
    any_damage(tmp_path / "s.txt", SCRIPT.encode(), "qemu-io")
