"""``trace record --driver none``: the reference image alone, to be judged by a replay."""

import json
import sys
from pathlib import Path

import pytest

import blkbox
from tests.blkbox.commands.recorded import SIZE, mine, rebuild, record
from tests.kit.command import trace
from tests.kit.data import MIB, pattern
from tests.kit.faulty.workload import write_driver
from tests.kit.guests import nbdsh, qemu_io, shell
from tests.kit.peers import need
from tests.kit.traces import kinds, read_trace
from tracer.digest import digest
from tracer.op import Flag, Kind
from tracer.verdict import VerdictKind

REQUESTS = ("write -P 5 4k 1k", "write -f -P 6 8k 1k", "write -z -u 12k 1k", "discard 8k 1k")


def test_the_trace_is_like_any_other_and_took_no_driver(tmp_path: Path) -> None:
    result = record(tmp_path, "none", *qemu_io(*REQUESTS, "read -P 5 4k 1k", "flush"))
    assert (result["driver"], result["reason"]) == ("none", "no driver: nothing was compared")
    assert (result["mismatches"], result["damage"]) == ([], [])
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.header.driver["name"] == "none"
    assert opened.header.start_image == "blank"
    assert opened.end is not None
    assert opened.end.verdict == "recorded"
    assert ops == mine(tmp_path)
    assert kinds(ops)[:5] == ["write", "write", "zero", "trim", "read"]
    assert [op.flags for op in ops[:2]] == [0, Flag.FUA]
    assert ops[0].digest == ops[4].digest == digest(b"\5" * 1024)
    for op in ops:
        assert (op.test_ns, op.reference_status, op.test_status) == (0, 0, 0)
        assert op.reference_ns > 0
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"t.trace", "t.payloads", "t.raw"}


def test_the_summary_says_that_nothing_was_judged(tmp_path: Path) -> None:
    done = trace("record", "t.trace", "--driver", "none", "--size", "1M", "--",
                 *qemu_io("write 0 4k"), cwd=tmp_path)  # fmt: skip
    assert "recorded: no driver: nothing was compared; trace replay judges" in done.stdout
    assert "verdict" not in done.stdout
    assert "clean" not in done.stdout


def test_a_guest_that_fails_is_told(tmp_path: Path) -> None:
    done = trace("record", "t.trace", "--driver", "none", "--size", "1M", "--",
                 *shell("nbdinfo --size $1; exit 3"), cwd=tmp_path, expect=125)  # fmt: skip
    assert "undecidable (none)" in done.stdout
    assert "no guest op: nothing was tested; the guest's exit status is 3" in done.stdout


def test_an_image_that_exists_is_the_start(tmp_path: Path) -> None:
    raw = tmp_path / "mine.raw"
    raw.write_bytes(pattern(MIB))
    record(
        tmp_path,
        "none",
        *qemu_io("read 0 64k", "write -P 1 64k 4k"),
        options=["--raw", raw, "--size", MIB],
    )
    opened, ops = read_trace(tmp_path / "t.trace")
    assert (opened.header.start_image, opened.header.size) == ("recorded", MIB)
    assert ops[0].kind == Kind.START
    assert mine(tmp_path)[0].digest == digest(pattern(MIB)[: 64 << 10])
    assert rebuild(tmp_path / "t.trace") == raw.read_bytes()


def test_digests_alone(tmp_path: Path) -> None:
    record(tmp_path, "none", *qemu_io("write -P 7 0 4k"), options=["--payloads", "hash"])
    assert not (tmp_path / "t.payloads").exists()
    assert mine(tmp_path)[0].digest == digest(b"\7" * 4096)


def test_marks(tmp_path: Path) -> None:
    need("qemu-io")
    write = 'qemu-io -f raw -c "write 0 4k" "$1"'
    script = f"{write} && {sys.executable} -m blkbox mark half && {write}"
    record(tmp_path, "none", *shell(script))
    opened, _ = read_trace(tmp_path / "t.trace")
    assert [mark.name for mark in opened.marks] == ["half"]


def test_with_old_or_zero_a_trim_keeps_the_old_bytes(tmp_path: Path) -> None:
    guest = qemu_io("write -P 7 0 4k", "discard 0 4k", "read -P 7 0 4k")
    record(tmp_path, "none", *guest, options=["--trim", "old-or-zero"])
    assert (tmp_path / "t.raw").read_bytes()[:4096] == b"\7" * 4096


def test_block_status_and_everything_else_a_file_can_do(tmp_path: Path) -> None:
    script = """
    seen = []
    h.pwrite(b"x" * 65536, 65536)
    assert h.can_trim() and h.can_zero() and h.can_fua() and h.can_fast_zero() and h.can_cache()
    assert h.can_multi_conn()
    h.cache(4096, 65536)
    h.block_status(1 << 20, 0, lambda context, at, entries, error: seen.append(list(entries)))
    assert seen == [[65536, 3, 65536, 0, (1 << 20) - 131072, 3]], seen
    """
    need("nbdsh")
    text = "h.add_meta_context('base:allocation'); h.connect_uri(uri)"
    body = "\n".join(line.strip() for line in script.strip().splitlines())
    guest = ["nbdsh", "-c", f"import os; uri = os.environ['NBD_URI']; {text}", "-c", body]
    record(tmp_path, "none", *guest)
    assert kinds(mine(tmp_path)) == ["write", "cache", "block_status"]


def test_many_requests_in_flight(tmp_path: Path) -> None:
    script = (
        "cookies = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([n + 1]) * 4096), n * 2048)"
        " for n in range(200)]\n"
        "while h.aio_in_flight(): h.poll(-1)"
    )
    record(tmp_path, "none", *nbdsh(script))
    ops = mine(tmp_path)
    assert [op.seq for op in ops] == list(range(200))
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_replay_on_a_good_driver_is_clean(tmp_path: Path, driver: str) -> None:
    need("qemu-nbd", "qemu-img")
    record(tmp_path, "none", *qemu_io(*REQUESTS, "read 0 64k"))
    done = trace("replay", "t.trace", "--driver", driver, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] == "clean"


def test_a_replay_finds_what_a_bad_driver_does(tmp_path: Path) -> None:
    record(tmp_path, "none", *qemu_io("write -P 1 0 64k", "write -P 2 20k 4k", "read 0 64k"))
    driver = write_driver(tmp_path, "write-lost", "server")
    done = trace("replay", "t.trace", "--driver", driver, "--json", "--no-plot", cwd=tmp_path,
                 expect=1)  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["verdict"], found["culprit"]["seq"], found["confirmed"]) == ("damaged", 1, True)


def test_from_python(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    found = blkbox.record(path, driver="none", command=qemu_io("write -P 1 0 4k"), size=SIZE)
    assert (found.verdict, found.ops["write"]) == (VerdictKind.CLEAN, 1)
    assert found.reason == "no driver: nothing was compared"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["record", "t.trace", "--driver", "none", "--image", "x.img", "--", "true"], "--image"),
        (["replay", "w.trace", "--driver", "none"], "a replay needs a driver"),
        (["replay", "w.trace", "--driver", "raw", "--reopen-with", "none"], "needs a driver"),
    ],
)
def test_where_none_makes_no_sense(tmp_path: Path, argv: list[str], says: str) -> None:
    record(tmp_path, "none", *qemu_io("write 0 4k"))
    (tmp_path / "t.trace").rename(tmp_path / "w.trace")
    (tmp_path / "t.payloads").rename(tmp_path / "w.payloads")
    done = trace(*argv, cwd=tmp_path, expect=200)
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not (tmp_path / "t.trace").exists()
