"""``trace checkout`` and ``trace history``, with a real guest and on the command line."""

import json
import os
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.data import MIB, pattern
from tests.kit.peers import need
from tests.kit.small_disk import SIZE, write
from tests.kit.system import entries, file_size_limit
from tests.kit.traces import read_trace
from tracer.digest import digest
from tracer.errors import StorageError, TraceError, UsageError
from tracer.op import SECTOR, Kind, Op
from tracer.rework.checkout import checkout
from tracer.trace.file import TraceWriter
from tracer.trace.order import by_seq
from tracer.trace.payloads import payload_path
from tracer.trace.records import Mark, pack_op

WORKLOAD = (
    "write -P 1 0 64k", "write -P 2 1M 128k", "read 1M 4k", "discard 1M 64k", "write -z 32k 16k",
    "write -z -u 48k 4k", "write -P 3 4k 512", "read 0 64k", "flush", "write -P 4 1088k 1M",
)  # fmt: skip


def write_op(seq: int, sector: int, sectors: int = 1) -> tuple[Op, bytes]:
    data = pattern(sectors * SECTOR, seq)
    return Op(seq, int(Kind.WRITE), 0, sector * SECTOR, len(data), digest=digest(data)), data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two writes, and a mark between them."""
    many = [write_op(0, 1), write_op(1, 2)]
    path = write(tmp_path / "some.trace", many)
    writer = TraceWriter(path, read_trace(path)[0].header)
    writer.write([pack_op(many[0][0])])
    writer.mark(Mark(1, 0, "between"))
    writer.write([pack_op(many[1][0])])
    writer.abandon()
    return path


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_the_end_is_the_reference_that_recording_leaves(tmp_path: Path, driver: str) -> None:
    need("qemu-io", "qemu-nbd", "qemu-img")
    guest = ["qemu-io", "-f", "raw", *(word for one in WORKLOAD for word in ("-c", one)), "{nbd}"]
    trace("record", "g.trace", "--driver", driver, "--size", "4M", "--", *guest, cwd=tmp_path)
    told = json.loads(trace("checkout", "g.trace", "-o", "end.raw", "--json", cwd=tmp_path).stdout)
    assert (tmp_path / "end.raw").read_bytes() == (tmp_path / "g.raw").read_bytes()
    assert told["schema"] == 1
    assert told["size"] == 4 * MIB
    assert told["allocated"] == (tmp_path / "end.raw").stat().st_blocks * 512 < 2 * MIB
    # at every op: the state when a recording of the ops up to it ended
    _, ops = read_trace(tmp_path / "g.trace")
    disk = bytearray(4 * MIB)
    writes = {1: (0, 1, 64 << 10), 2: (1 << 20, 2, 128 << 10), 3: (4 << 10, 3, 512)}
    wanted = iter(writes.values())
    for op in by_seq(ops):
        if op.kind == Kind.WRITE:
            value = next(wanted, (1088 << 10, 4, 1 << 20))
            assert op.offset == value[0]
            disk[op.offset : op.end] = bytes([value[1]]) * value[2]
        elif op.kind in (Kind.TRIM, Kind.ZERO):
            disk[op.offset : op.end] = bytes(op.length)
        checkout(tmp_path / "g.trace", tmp_path / "at.raw", str(op.seq), force=True)
        assert (tmp_path / "at.raw").read_bytes() == disk, op.describe()


def test_a_blank_disk_takes_no_space(path: Path, tmp_path: Path) -> None:
    zeroes = [(Op(0, int(Kind.WRITE), 0, 0, SIZE), bytes(SIZE))]
    zeroes.append((Op(1, int(Kind.ZERO), 2, 0, SIZE), b""))
    made = checkout(write(tmp_path / "zero.trace", zeroes), tmp_path / "zero.raw")
    assert made.allocated == 0
    assert (tmp_path / "zero.raw").stat().st_size == SIZE
    assert (made.before, made.applied, made.failed) == (2, 2, 0)


def test_a_mark_is_the_moment_before_its_op(path: Path, tmp_path: Path) -> None:
    out = trace("checkout", path, "--at", "between", "-o", "state.raw", cwd=tmp_path).stdout
    assert "after op #0: 1 op changed it" in out
    assert (tmp_path / "state.raw").read_bytes() == bytes(SECTOR) + pattern(SECTOR) + bytes(
        SIZE - 1024
    )


def test_moments(path: Path, tmp_path: Path) -> None:
    for at, before in {None: 2, "0": 1, "#1": 2, "between": 1}.items():
        assert checkout(path, tmp_path / "state.raw", at, force=True).before == before
    for at, told in {"2": "has no op #2: the last is #1", "-1": "has no mark '-1'"}.items():
        with pytest.raises(UsageError, match=told):
            checkout(path, tmp_path / "other.raw", at)
    assert not (tmp_path / "other.raw").exists()


def test_before_the_first_op_the_disk_is_blank(path: Path, tmp_path: Path) -> None:
    writer = TraceWriter(path, read_trace(path)[0].header)
    writer.mark(Mark(0, 0, "begin"))
    writer.write([pack_op(write_op(0, 0)[0])])
    writer.abandon()
    out = trace("checkout", path, "--at", "begin", "-o", "state.raw", cwd=tmp_path).stdout
    assert "before the first op: 0 ops changed it" in out
    assert (tmp_path / "state.raw").read_bytes() == bytes(SIZE)


def test_ops_come_in_the_order_of_submission_also_after_one_that_is_missing() -> None:
    """In flight when the recorder was killed, it has no record."""
    ops = [Op(seq, int(Kind.FLUSH)) for seq in (1, 0, 5, 3, 4)]
    assert [op.seq for op in by_seq(ops)] == [0, 1, 3, 4, 5]


def test_nothing_is_overwritten_unless_forced(path: Path, tmp_path: Path) -> None:
    image = tmp_path / "state.raw"
    image.write_text("mine")
    done = trace("checkout", path, "-o", image, cwd=tmp_path, expect=200)
    assert (
        done.stderr == f"trace: {image} exists: name another file, or give --force to replace it\n"
    )
    assert image.read_text() == "mine"
    trace("checkout", path, "-o", image, "--force", cwd=tmp_path)
    assert image.stat().st_size == SIZE


def test_the_trace_itself_is_not_replaced_even_so(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").hardlink_to(payload_path(path))
    before = [path.read_bytes(), payload_path(path).read_bytes()]
    for own in (path, payload_path(path), tmp_path / "link"):
        with pytest.raises(
            UsageError, match="cannot be both the image and the trace or its payloads"
        ):
            checkout(path, own, force=True)
    for place, told in {
        tmp_path: "is not a file",
        tmp_path / "no" / "state.raw": "there is no folder",
    }.items():
        with pytest.raises(UsageError, match=told):
            checkout(path, place, force=True)
    assert before == [path.read_bytes(), payload_path(path).read_bytes()]


def test_what_cannot_be_made_leaves_nothing(path: Path, tmp_path: Path) -> None:
    image = tmp_path / "state.raw"
    with file_size_limit(SIZE // 2), pytest.raises(StorageError, match="cannot"):
        checkout(path, image)
    with pytest.raises(UsageError, match="has no op #2"):
        checkout(path, image, "2")
    os.truncate(payload_path(path), payload_path(path).stat().st_size - 1)
    image.write_text("mine")
    with pytest.raises(TraceError, match="is missing"):
        checkout(path, image, force=True)
    assert image.read_text() == "mine"
    assert entries(tmp_path) == ["some.payloads", "some.trace", "state.raw"]


def test_digests_alone_are_said_to_be_so(tmp_path: Path) -> None:
    path = write(tmp_path / "some.trace", [write_op(0, 0)], payloads="hash")
    out = trace("checkout", path, "-o", "state.raw", cwd=tmp_path).stdout
    assert "not the guest's" in out
    assert (tmp_path / "state.raw").read_bytes()[:SECTOR] not in (bytes(SECTOR), pattern(SECTOR))


def test_ops_that_failed_are_counted(tmp_path: Path) -> None:
    failed = write_op(0, 0)
    failed[0].reference_status = 28
    made = checkout(
        write(tmp_path / "some.trace", [failed, write_op(1, 3)]), tmp_path / "state.raw"
    )
    assert (made.applied, made.failed) == (1, 1)
    assert (tmp_path / "state.raw").read_bytes()[:SECTOR] == bytes(SECTOR)


# ---------------------------------------------------------------- trace history


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    many = [write_op(0, 0, 4), (Op(1, int(Kind.READ), 0, 0, SECTOR), b"")]
    many += [write_op(2, 1, 1), write_op(3, 0, 1)]
    many += [(Op(seq, int(Kind.READ), 0, 0, SECTOR), b"") for seq in range(4, 12)]
    for op, _ in many:
        op.submitted, op.completed = op.seq * 10**6, op.seq * 10**6 + 500_000
    return write(tmp_path / "some.trace", many)


def test_history_lists_versions_and_who_read_them(busy: Path, tmp_path: Path) -> None:
    lines = trace("history", busy, "--sector", 0, cwd=tmp_path).stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["-", "blank", "0.000000", "0.000000"],
        ["#0", "write", "0.000500", "0.003000"],
        ["#3", "write", "0.003500", "-"],
    ]
    assert lines[1].endswith("#0  -")
    assert lines[2].endswith("#3  #1")
    assert lines[3].endswith("-  #4 #5 #6 #7 #8 #9 and 2 more  <- held at the end")


def test_history_up_to_an_op(busy: Path, tmp_path: Path) -> None:
    lines = trace("history", busy, "--sector", 0, "--at", 2, cwd=tmp_path).stdout.splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith("#3  #1  <- held after op #2")
    told = json.loads(
        trace("history", busy, "--sector", 0, "--at", 5, "--json", cwd=tmp_path).stdout
    )
    assert (told["schema"], told["sector"], told["at"]) == (1, 0, 5)
    assert [one["seq"] for one in told["versions"]] == [None, 0, 3]
    assert [one["read_by"] for one in told["versions"]] == [[], [1], [4, 5]]
    assert [one["replaced_by"] for one in told["versions"]] == [0, 3, None]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--sector", "12"], "there is no sector 12: the disk's last is 11"),
        (["--sector", "-1"], "there is no sector -1: the disk's last is 11"),
        (["--sector", "0", "--at", "12"], "some.trace has no op #12: the last is #11"),
        (["--sector", "0", "--at", "noon"], "some.trace has no mark 'noon'; it has none"),
        ([], "Missing option"),
    ],
)
def test_history_of_what_is_not_there(
    busy: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    done = trace("history", busy, *options, cwd=tmp_path, expect=200)
    assert done.stderr.startswith("trace: ")
    assert told in done.stderr
    assert done.stdout == ""
