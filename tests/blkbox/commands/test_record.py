"""``trace record`` with real programs as guests and as drivers."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import finish, recording, trace
from tests.kit.data import MIB, pattern
from tests.kit.peers import background, need, peer
from tests.kit.system import wait_until
from tests.kit.traces import kinds, read_trace
from tracer.digest import digest, is_zero
from tracer.driver.spec import FORMATS, parse_driver
from tracer.errors import DriverError
from tracer.op import NO_PAYLOAD, NO_TIME, ZERO_DIGEST, Flag, Kind, Op
from tracer.trace.payloads import PayloadReader, payload_path

SIZE = 8 * MIB

DRIVERS = ["raw", "qcow2"]
CHANGES = (Kind.START, Kind.WRITE, Kind.ZERO, Kind.TRIM)


def record(
    folder: Path, driver: str, *command: object, options: Sequence[object] = ()
) -> dict[str, Any]:
    """Record a guest's command on a new disk; it must end clean. Returns the summary."""
    if driver.partition("@")[0] in FORMATS and driver != "raw":
        need("qemu-nbd", "qemu-img")
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", SIZE, "--json", *options, "--", *command,
        cwd=folder,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert result["verdict"] == "clean", result
    return result


def qemu_io(*commands: str, cache: str = "writeback") -> list[str]:
    """A guest that sends single requests."""
    need("qemu-io")
    words = [word for command in commands for word in ("-c", command)]
    return ["qemu-io", "-f", "raw", "-d", "unmap", "-t", cache, *words, "{nbd}"]


def nbdsh(script: str) -> list[str]:
    """A guest in Python: ``h`` is connected to the disk."""
    need("nbdsh")
    return ["nbdsh", "-u", "{nbd}", "-c", script]


def mine(folder: Path) -> list[Op]:
    """The ops of the guest, in order; those that the recorder adds come from connection 0."""
    return [op for op in read_trace(folder / "t.trace")[1] if op.connection]


def rebuild(path: Path) -> bytes:
    """What the disk holds at the end, from the trace and its payloads alone."""
    opened, ops = read_trace(path)
    disk = bytearray(opened.header.size)
    with PayloadReader(payload_path(path), opened.header.id) as payloads:
        for op in ops:
            data = bytes(op.length)
            if op.payload != NO_PAYLOAD:
                data = payloads.read(op.payload, op.length)
                assert digest(data) == op.digest
            if op.kind in CHANGES and not op.test_status:
                disk[op.offset : op.end] = data
    return bytes(disk)


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
        assert op.reference_ns > 0
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
        "trace_bytes", "payload_bytes", "connections", "guest_exit", "schema",
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
    done = trace("record", "t.trace", *options, "--", "echo", "hello", cwd=tmp_path)
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
    script = "import nbd, os; nbd.NBD().connect_uri(os.environ['NBD_URI'])"
    need("nbdsh")
    assert record(tmp_path, "raw", "nbdsh", "-c", script)["connections"] == 1


# ---------------------------------------------------------------- qemu-img


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A raw image of data, zeroes and holes."""
    path = tmp_path / "content.img"
    with path.open("wb") as file:
        for at in range(0, SIZE, MIB):
            file.seek(at)
            file.write(pattern(100_000, at) + bytes(50_000))
        file.truncate(SIZE)
    return path


@pytest.mark.parametrize("driver", DRIVERS)
def test_qemu_img_converts_in_and_out(tmp_path: Path, content: Path, driver: str) -> None:
    need("qemu-img")
    script = (
        'set -e; qemu-img info "$1"; qemu-img convert -n -f raw -O raw content.img "$1"; '
        'qemu-img compare -f raw -F raw content.img "$1"; '
        'qemu-img convert -f raw -O raw "$1" back.img; cmp content.img back.img'
    )
    record(tmp_path, driver, "sh", "-c", script, "sh", "{nbd}")
    assert rebuild(tmp_path / "t.trace") == content.read_bytes()


# ---------------------------------------------------------------- libnbd


def test_nbdinfo_shows_what_is_offered(tmp_path: Path) -> None:
    need("nbdinfo")
    record(tmp_path, "raw", "sh", "-c", 'nbdinfo --json "$1" >info.json', "sh", "{nbd}")
    (export,) = json.loads((tmp_path / "info.json").read_text())["exports"]
    assert export["export-size"] == SIZE
    offered = {name for name, value in export.items() if value is True}
    assert offered == {
        "can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn", "can_trim",
        "can_zero",
    }  # fmt: skip
    assert export["contexts"] == ["base:allocation"]
    assert export["block_size_maximum"] == 32 * MIB


def test_what_the_driver_does_not_offer_is_not_offered(tmp_path: Path) -> None:
    need("nbdinfo", "nbdkit")
    driver = toml(
        tmp_path, serve=[*NBDKIT, "--filter=noextents", "--filter=nozero", "memory", "{size}"]
    )
    record(tmp_path, driver, "sh", "-c", 'nbdinfo --json "$1" >info.json', "sh", "{nbd}")
    (export,) = json.loads((tmp_path / "info.json").read_text())["exports"]
    assert not export["can_zero"]
    assert not export["can_fast_zero"]
    assert export["can_trim"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_nbdcopy_in_and_out(tmp_path: Path, content: Path, driver: str) -> None:
    need("nbdcopy")
    script = (
        'set -e; copy="nbdcopy --connections=4 --threads=4"; '
        '$copy content.img "$1"; $copy "$1" back.img; cmp content.img back.img'
    )
    result = record(tmp_path, driver, "sh", "-c", script, "sh", "{nbd}")
    assert result["connections"] >= 8
    assert rebuild(tmp_path / "t.trace") == content.read_bytes()


def test_guests_on_several_connections(tmp_path: Path) -> None:
    script = """
import nbd, os
others = [nbd.NBD() for _ in range(3)]
for other in others:
    other.connect_uri(os.environ["NBD_URI"])
h.pwrite(b"a" * 512, 0)
for at, other in enumerate(others):
    assert other.pread(512, at * 512) == b"a" * 512
    other.pwrite(b"a" * 512, (at + 1) * 512)
    other.flush()
assert h.pread(2048, 0) == b"a" * 2048
"""
    result = record(tmp_path, "qcow2", *nbdsh(script))
    assert result["connections"] == 4
    assert {op.connection for op in mine(tmp_path)} == {1, 2, 3, 4}


def test_structured_replies_and_block_status(tmp_path: Path) -> None:
    script = """
assert h.get_structured_replies_negotiated()
h.pwrite(b"a" * 65536, 1 << 20)
chunks = []
def chunk(data, at, what, error):
    chunks.append((bytes(data), at))
h.pread_structured(4096, 1 << 20, chunk, nbd.CMD_FLAG_DF)
assert chunks == [(b"a" * 4096, 1 << 20)], chunks
"""
    record(tmp_path, "qcow2", *nbdsh(script))
    extents = """
h = nbd.NBD()
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(os.environ["NBD_URI"])
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.pwrite(b"a" * 65536, 1 << 20)
found = []
h.block_status(1 << 21, 0, lambda context, at, entries, error: found.append((context, at, entries)))
assert found == [("base:allocation", 0, [1 << 20, 3, 65536, 0, (1 << 20) - 65536, 3])], found
one = []
h.block_status(1 << 21, 0, lambda context, at, entries, error: one.append(entries), nbd.CMD_FLAG_REQ_ONE)
assert one == [[1 << 20, 3]], one
"""
    record(tmp_path, "qcow2", "nbdsh", "-c", "import os", "-c", extents, options=["--force"])
    assert kinds(mine(tmp_path)) == ["write", "block_status", "block_status"]


def test_requests_that_break_the_rules_are_refused_and_not_recorded(tmp_path: Path) -> None:
    """And the connection goes on, in step."""
    script = """
import errno
h.set_strict_mode(0)
def refused(call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        return error.errno
    raise AssertionError("it was not refused")
size = h.get_size()
assert refused(h.pread, 512, size) == "EINVAL"
assert refused(h.pwrite, b"x" * 512, size) == "ENOSPC"
assert refused(h.trim, 512, size) == "ENOSPC"
assert refused(h.zero, 512, size - 256) == "ENOSPC"
assert refused(h.pread, 0, 0) == "EINVAL"
assert refused(h.pwrite, b"x" * 512, 0, 1 << 7) == "EINVAL"
assert refused(h.block_status, 512, 0, lambda *_: 0) == "EINVAL"
h.pwrite(b"y" * 512, 0)
assert h.pread(512, 0) == b"y" * 512
"""
    record(tmp_path, "raw", *nbdsh(script))
    assert kinds(mine(tmp_path)) == ["write", "read"]


def test_many_requests_in_flight(tmp_path: Path) -> None:
    """More than the recorder takes in at a time, overlapping, and a goodbye behind them."""
    script = """
import random
random.seed(5)
for at in range(2000):
    data = nbd.Buffer.from_bytearray(bytearray([at % 255 + 1]) * 1536)
    h.aio_pwrite(data, random.randrange(2000) * 512)
while h.aio_in_flight():
    h.poll(-1)
"""
    result = record(tmp_path, "qcow2", *nbdsh(script))
    assert result["ops"]["write"] == 2000
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


# ---------------------------------------------------------------- fio


@pytest.mark.parametrize("driver", DRIVERS)
def test_fio_verifies_what_it_wrote(tmp_path: Path, driver: str) -> None:
    need("fio")
    result = record(
        tmp_path, driver, "fio", "--name=load", "--ioengine=nbd", "--uri={nbd}", "--rw=randwrite",
        "--bsrange=4k-64k", "--size=4m", "--iodepth=16", "--verify=crc32c", "--randseed=7",
        "--fsync=20", "--output=fio.txt",
    )  # fmt: skip
    assert result["guest_exit"] == 0
    assert result["bytes"]["read"] >= result["bytes"]["write"] >= 4 * MIB - 65536
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


# ---------------------------------------------------------------- drivers


def make_luks(image: Path) -> None:
    """qemu-img 7.2 measures how fast the machine is, and on a busy one now and then fails at that."""
    need("qemu-nbd", "qemu-img")
    driver = parse_driver("luks")
    for _ in range(4):
        try:
            driver.create_image(image, SIZE)
        except DriverError as error:
            if "CPU usage" not in error.log:
                raise
        else:
            break


@pytest.mark.parametrize("name", ["vmdk", "vdi", "vhdx", "qed", "vpc", "luks", "parallels"])
def test_the_other_formats(tmp_path: Path, name: str) -> None:
    if name == "luks":
        make_luks(tmp_path / "t.test.luks")
    commands = (
        "write -P 1 0 128k",
        "write -z 64k 4k",
        "discard 0 64k",
        "write -P 2 4096 512",
        "flush",
    )
    record(tmp_path, name, *qemu_io(*commands, "read -P 2 4096 512", "read -P 1 100k 1k"))
    assert (tmp_path / f"t.test.{name}").exists()


def test_a_build_in_a_folder(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    folder = Path(shutil.which("qemu-nbd") or "").parent
    result = record(tmp_path, f"raw@{folder}", *qemu_io("write -P 1 0 4k", "read -P 1 0 4k"))
    assert result["driver"] == f"raw@{folder}"
    assert (tmp_path / "t.test.raw").read_bytes() == (tmp_path / "t.raw").read_bytes()


def test_a_build_in_a_folder_below(tmp_path: Path) -> None:
    """A relative folder, which must not depend on where commands run."""
    need("qemu-nbd", "qemu-img")
    (tmp_path / "build").mkdir()
    for program in ("qemu-nbd", "qemu-img"):
        (tmp_path / "build" / program).symlink_to(shutil.which(program) or "")
    record(tmp_path, "qcow2@build", *qemu_io("write -P 1 0 4k"))


NBDKIT = ["nbdkit", "--foreground", "--unix={socket}", "--exit-with-parent"]


def toml(folder: Path, **keys: list[str]) -> str:
    """A driver's file, with nbdkit's and its like's commands."""
    path = folder / "mine.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return path.name


GUEST = ("write -P 1 0 128k", "write -z 64k 4k", "write -P 2 1M 512", "flush", "read -P 1 0 64k")


@pytest.mark.parametrize(
    "serve",
    [
        [*NBDKIT, "memory", "{size}"],
        [*NBDKIT, "file", "{image}"],
        [*NBDKIT, "--filter=blocksize-policy", "memory", "{size}", "blocksize-minimum=4096"],
        ["qemu-storage-daemon",
         "--blockdev", "driver=file,node-name=disk,filename={image},discard=unmap",
         "--nbd-server", "addr.type=unix,addr.path={socket}",
         "--export", "type=nbd,id=e,node-name=disk,name=,writable=on"],
    ],
    ids=["nbdkit-memory", "nbdkit-file", "nbdkit-blocks-of-4k", "qemu-storage-daemon"],
)  # fmt: skip
def test_drivers_from_a_file(tmp_path: Path, serve: list[str]) -> None:
    need(serve[0])
    result = record(tmp_path, toml(tmp_path, serve=serve), *qemu_io(*GUEST, "discard 0 64k"))
    assert result["driver"] == "mine"
    assert result["ops"]["trim"] == 1


def test_a_driver_with_its_own_create_and_check(tmp_path: Path) -> None:
    need("qemu-img", "qemu-nbd")
    driver = toml(
        tmp_path,
        create=[
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "cluster_size=4k",
            "{image}",
            "{size}",
        ],
        serve=[
            "qemu-nbd",
            "--persistent",
            "--shared=2",
            "--socket={socket}",
            "-f",
            "qcow2",
            "{image}",
        ],
    )
    record(tmp_path, driver, *qemu_io(*GUEST))
    assert '"cluster-size": 4096' in peer(
        "qemu-img", "info", "--output=json", tmp_path / "t.test.img"
    )


def test_the_drivers_environment(tmp_path: Path) -> None:
    need("nbdkit")
    script = "echo $COLOUR >colour; exec " + " ".join(NBDKIT) + " memory {size}"
    driver = toml(tmp_path, serve=["sh", "-c", script])
    with (tmp_path / driver).open("a") as file:
        file.write('[env]\nCOLOUR = "blue"\n')
    record(tmp_path, driver, *qemu_io("write 0 512"))
    assert (tmp_path / "colour").read_text() == "blue\n"


def test_a_server_that_is_up_already(tmp_path: Path) -> None:
    need("nbdkit")
    socket = tmp_path / "s"
    with background(
        "nbdkit", "--foreground", f"--unix={socket}", "memory", "4M", cwd=tmp_path
    ) as server:
        wait_until(socket.exists)
        result = record(tmp_path, f"nbd+unix:///?socket={socket}", *qemu_io(*GUEST))
        assert result["size"] == 4 * MIB  # the server's, not what --size says
        assert server.poll() is None
        peer(
            "qemu-img",
            "compare",
            "-f",
            "raw",
            "-F",
            "raw",
            tmp_path / "t.raw",
            f"nbd+unix:///?socket={socket}",
        )
    assert not (tmp_path / "t.test.img").exists()


def test_a_read_only_driver(tmp_path: Path) -> None:
    script = "assert h.is_read_only(); assert h.pread(512, 0) == bytes(512)"
    need("nbdkit")
    driver = toml(tmp_path, serve=[*NBDKIT, "--readonly", "memory", "{size}"])
    record(tmp_path, driver, *nbdsh(script))


# ---------------------------------------------------------------- images that are there already


def filled(path: Path) -> bytes:
    """Make an image with data at its start, in its middle and at its end."""
    with path.open("wb") as file:
        for at in (0, 4 * MIB, SIZE - 8192):
            file.seek(at)
            file.write(pattern(8192, at))
        file.truncate(SIZE)
    return path.read_bytes()


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_the_disk_holds_at_the_start_is_recorded(tmp_path: Path, driver: str) -> None:
    need("qemu-img")
    data = filled(tmp_path / "t.raw")
    peer(
        "qemu-img", "convert", "-f", "raw", "-O", driver, "t.raw", f"t.test.{driver}", cwd=tmp_path
    )
    record(tmp_path, driver, *qemu_io("write -P 1 64k 512"))
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.header.start_image == "recorded"
    start = [op for op in ops if op.kind == Kind.START]
    assert start == ops[: len(start)]
    assert {(op.connection, op.submitted, op.completed) for op in start} == {(0, 0, 0)}
    held = bytearray(SIZE)
    with PayloadReader(tmp_path / "t.payloads", opened.header.id) as payloads:
        for op in start:
            held[op.offset : op.end] = payloads.read(op.payload, op.length)
    assert bytes(held) == data
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


def test_zeroes_at_the_start_are_not_recorded(tmp_path: Path) -> None:
    for name in ("t.raw", "t.test.raw"):
        (tmp_path / name).write_bytes(bytes(3 * MIB) + b"x" * MIB)
    record(tmp_path, "raw", "true")
    start = [op for op in read_trace(tmp_path / "t.trace")[1] if op.kind == Kind.START]
    assert [(op.offset, op.length) for op in start] == [(3 * MIB, MIB)]


def test_images_by_name(tmp_path: Path) -> None:
    record(
        tmp_path,
        "raw",
        *qemu_io("write -P 1 0 512"),
        options=["--raw", "a.img", "--image", "b.img"],
    )
    assert (tmp_path / "a.img").read_bytes() == (tmp_path / "b.img").read_bytes()
    assert not (tmp_path / "t.raw").exists()


def test_a_recording_can_go_on_where_another_ended(tmp_path: Path) -> None:
    """Even after trims, which the two sides may have done in different ways."""
    record(tmp_path, "qcow2", *qemu_io("write -P 1 0 1M", "discard 0 512", "discard 70k 200k"))
    options = ["--force"]
    record(tmp_path, "qcow2", *qemu_io("read -P 1 512 1k", "write -P 2 0 4k"), options=options)
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


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


# ---------------------------------------------------------------- listening


def test_tcp_on_loopback(tmp_path: Path) -> None:
    need("qemu-io")
    with recording(
        "t.trace", "--driver", "raw", "--size", "1M", "--listen", "tcp:127.0.0.1:0", cwd=tmp_path
    ) as (process, uri):
        assert uri.startswith("nbd://127.0.0.1:")
        assert not uri.startswith("nbd://127.0.0.1:0")
        peer("qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", "-c", "read -P 1 0 4k", uri)
        assert finish(process)[0] == 0
    assert "write" in kinds(mine(tmp_path))


def test_a_unix_socket_by_name_is_private_and_goes_away(tmp_path: Path) -> None:
    need("qemu-io")
    socket = tmp_path / "my socket"
    with recording(
        "t.trace", "--driver", "raw", "--size", "1M", "--listen", f"unix:{socket}", cwd=tmp_path
    ) as (process, uri):
        assert socket.stat().st_mode & 0o777 == 0o600
        peer("qemu-io", "-f", "raw", "-c", "read 0 4k", uri)
        assert finish(process)[0] == 0
    assert not socket.exists()


def test_several_guests_one_after_the_other(tmp_path: Path) -> None:
    need("qemu-io")
    with recording("t.trace", "--driver", "qcow2", "--size", "1M", cwd=tmp_path) as (process, uri):
        for at in range(3):
            peer("qemu-io", "-f", "raw", "-c", f"write -P 1 {at * 512} 512", uri)
        peer("qemu-io", "-f", "raw", "-c", "read -P 1 0 1536", uri)
        assert finish(process)[0] == 0
    assert {op.connection for op in mine(tmp_path)} == {1, 2, 3, 4}


def test_once_ends_when_the_last_client_has_left(tmp_path: Path) -> None:
    need("qemu-io")
    with recording("t.trace", "--driver", "raw", "--size", "1M", "--once", cwd=tmp_path) as (
        process,
        uri,
    ):
        peer("qemu-io", "-f", "raw", "-c", "write 0 512", uri)
        code, out, _ = finish(process, None)
    assert code == 0
    assert "verdict:  clean" in out


def test_a_private_socket_is_removed(tmp_path: Path) -> None:
    with recording("t.trace", "--driver", "raw", "--size", "1M", cwd=tmp_path) as (process, uri):
        folder = Path(uri.partition("socket=")[2]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert finish(process)[0] == 0
    assert not folder.exists()


def test_a_client_that_talks_nonsense_disturbs_no_other(tmp_path: Path) -> None:
    need("nbdsh")
    script = """
import os, socket
path = os.environ["NBD_URI"].partition("socket=")[2]
for nonsense in (b"GET / HTTP/1.0\\r\\n\\r\\n", bytes(100), b""):
    rude = socket.socket(socket.AF_UNIX)
    rude.connect(path)
    rude.sendall(nonsense)
    rude.close()
    h.pwrite(b"fine" * 128, 0)
    assert h.pread(512, 0) == b"fine" * 128
"""
    assert record(tmp_path, "raw", *nbdsh(script))["connections"] == 4


def test_a_guest_that_hangs_up_in_the_middle(tmp_path: Path) -> None:
    need("nbdsh")
    script = """
import os
h.pwrite(b"a" * 512, 0)
h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"b" * (8 << 20))), 0)
os._exit(0)
"""
    record(tmp_path, "qcow2", *nbdsh(script))
