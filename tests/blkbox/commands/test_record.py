"""``trace record``: every request as it was sent, and the summary."""

import json
from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import DRIVERS, SIZE, mine, rebuild, record
from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.guests import nbdsh, qemu_io, shell
from tests.kit.peers import need
from tests.kit.traces import kinds, read_trace
from tracer.digest import digest, is_zero
from tracer.op import NO_PAYLOAD, NO_TIME, ZERO_DIGEST, Flag, Kind

# ---------------------------------------------------------------- single requests


REQUESTS = [
    ("write -P 5 4096 1024", Kind.WRITE, 0),
    ("write -f -P 5 8192 1024", Kind.WRITE, Flag.FUA),
    ("write -z 4096 1024", Kind.ZERO, Flag.NO_HOLE),
    ("write -z -u 12k 1024", Kind.ZERO, 0),
    ("write -z -f -u 16k 1024", Kind.ZERO, Flag.FUA),
    ("discard 8k 1024", Kind.TRIM, 0),
    ("read 32k 1024", Kind.READ, 0),
]


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_request_is_recorded_as_it_was_sent(tmp_path: Path, driver: str) -> None:
    record(tmp_path, driver, *qemu_io(*[command for command, _, _ in REQUESTS]))
    ops = [op for op in mine(tmp_path) if op.kind != Kind.FLUSH]
    assert [(op.kind, op.flags) for op in ops] == [(kind, flags) for _, kind, flags in REQUESTS]
    assert [op.offset // 1024 for op in ops] == [4, 8, 4, 12, 16, 8, 32]
    for op in ops:
        assert (op.length, op.reference_status, op.test_status, op.connection) == (1024, 0, 0, 1)
        assert op.submitted <= op.completed < NO_TIME
        # the reference changes once the guest has its reply: nobody waits for that
        assert (op.reference_ns > 0) is (op.kind == Kind.READ)
        assert op.test_ns > 0
        assert op.digest == (digest(b"\5" * 1024) if op.kind == Kind.WRITE else ZERO_DIGEST)


def test_a_flush_is_recorded(tmp_path: Path) -> None:
    record(tmp_path, "qcow2", *qemu_io("write 0 512", "flush", "write 512 512"))
    assert kinds(mine(tmp_path))[:3] == ["write", "flush", "write"]


def test_a_cache_request_is_recorded(tmp_path: Path) -> None:
    record(tmp_path, "raw", *nbdsh("h.cache(4096, 512)"))
    assert kinds(mine(tmp_path)) == ["cache"]


def test_the_trace_is_closed_and_says_what_it_is(tmp_path: Path) -> None:
    result = record(tmp_path, "qcow2", *qemu_io("write -P 1 0 4k", "read 0 4k"))
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.end is not None
    assert opened.end.verdict == "clean"
    assert opened.end.ops == len(ops)
    assert opened.torn_bytes == 0
    assert opened.header.size == SIZE
    assert opened.header.driver["name"] == "qcow2"
    assert "qemu-nbd" in opened.header.tools
    assert opened.header.start_image == "blank"
    assert (result["trace_bytes"], result["size"]) == ((tmp_path / "t.trace").stat().st_size, SIZE)


def test_the_disk_can_be_rebuilt_from_the_trace(tmp_path: Path) -> None:
    record(
        tmp_path,
        "qcow2",
        *qemu_io("write -P 1 0 1M", "write -P 2 512 100k", "write -z 64k 4k", "discard 0 64k"),
    )
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


def test_what_a_read_returned_has_its_digest(tmp_path: Path) -> None:
    record(tmp_path, "raw", *qemu_io("write -P 7 0 4k", "read 512 512", "read 8k 512"))
    assert [op.digest for op in mine(tmp_path) if op.kind == Kind.READ] == [
        digest(b"\7" * 512),
        ZERO_DIGEST,
    ]


def test_the_guest_reads_what_it_wrote(tmp_path: Path) -> None:
    record(tmp_path, "qcow2", *qemu_io("write -P 7 0 64k", "read -P 7 0 64k", "read -P 0 64k 64k"))


# ---------------------------------------------------------------- the summary


def test_the_summary_as_json(tmp_path: Path) -> None:
    result = record(tmp_path, "raw", *qemu_io("write -P 1 0 4k", "read 0 512", "discard 0 512"))
    assert set(result) == {
        "verdict", "reason", "trace", "driver", "size", "ops", "bytes", "mismatches", "damage",
        "trace_bytes", "payload_bytes", "connections", "guest_exit", "compared", "interrupted",
        "made", "schema",
    }  # fmt: skip
    assert result["schema"] == 1
    assert (result["verdict"], result["driver"], result["trace"]) == ("clean", "raw", "t.trace")
    assert {kind: result["ops"][kind] for kind in ("read", "write", "trim")} == {
        "read": 1,
        "write": 1,
        "trim": 1,
    }
    assert result["bytes"] == {"read": 512, "write": 4096, "trim": 512}
    assert result["mismatches"] == result["damage"] == []
    assert (result["connections"], result["guest_exit"]) == (1, 0)
    assert result["payload_bytes"] == (tmp_path / "t.payloads").stat().st_size


def test_the_summary_as_json_is_all_that_is_on_stdout(tmp_path: Path) -> None:
    options = ["--driver", "raw", "--size", "1M", "--json"]
    guest = shell('echo hello; qemu-io -f raw -c "read 0 512" "$1"')
    done = trace("record", "t.trace", *options, "--", *guest, cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] == "clean"


def test_the_summary_for_people(tmp_path: Path) -> None:
    done = trace(
        "record",
        "t.trace",
        "--driver",
        "raw",
        "--size",
        "1M",
        "--",
        *qemu_io("write 0 4k"),
        cwd=tmp_path,
    )
    assert "verdict:  clean (raw): no difference" in done.stdout
    assert "write      1  4.0 KiB" in done.stdout
    assert "guest:    exit status 0" in done.stdout


def test_the_address_is_in_the_environment_too(tmp_path: Path) -> None:
    script = "import nbd, os; h = nbd.NBD(); h.connect_uri(os.environ['NBD_URI']); h.pread(1, 0)"
    need("nbdsh")
    assert record(tmp_path, "raw", "nbdsh", "-c", script)["connections"] == 1


# ---------------------------------------------------------------- payloads


def test_digests_alone(tmp_path: Path) -> None:
    result = record(tmp_path, "raw", *qemu_io("write -P 7 0 4k"), options=["--payloads", "hash"])
    assert not (tmp_path / "t.payloads").exists()
    assert result["payload_bytes"] == 0
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.header.payloads == "hash"
    assert (ops[0].payload, ops[0].digest) == (NO_PAYLOAD, digest(b"\7" * 4096))


def test_digests_alone_leave_no_guests_data_in_the_trace(tmp_path: Path) -> None:
    secret = b"do not share this"
    script = f"h.pwrite({secret!r}.ljust(512), 0); assert h.pread(17, 0) == {secret!r}"
    record(tmp_path, "raw", *nbdsh(script), options=["--payloads", "hash"])
    assert secret in (tmp_path / "t.raw").read_bytes()
    assert secret not in (tmp_path / "t.trace").read_bytes()


def test_old_payloads_do_not_stay_beside_a_trace_of_digests(tmp_path: Path) -> None:
    record(tmp_path, "raw", *qemu_io("write -P 7 0 4k"))
    record(tmp_path, "raw", *qemu_io("read 0 4k"), options=["--force", "--payloads", "hash"])
    assert not (tmp_path / "t.payloads").exists()


def test_equal_contents_are_stored_once(tmp_path: Path) -> None:
    record(tmp_path, "raw", *qemu_io("write -P 7 0 4k", "write -P 7 1M 4k", "write -P 0 2M 4k"))
    one, two, zero = [op for op in mine(tmp_path) if op.kind == Kind.WRITE]
    assert one.payload == two.payload != NO_PAYLOAD
    assert (zero.payload, zero.digest) == (NO_PAYLOAD, ZERO_DIGEST)
    assert is_zero((tmp_path / "t.raw").read_bytes()[2 * MIB :])


def test_a_trace_that_is_flushed_with_the_disk(tmp_path: Path) -> None:
    commands = ("write -P 7 0 4k", "flush", "write -f -P 8 4k 4k", "read 0 8k")
    record(tmp_path, "raw", *qemu_io(*commands), options=["--sync"])
    assert kinds(mine(tmp_path))[:4] == ["write", "flush", "write", "read"]
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()
