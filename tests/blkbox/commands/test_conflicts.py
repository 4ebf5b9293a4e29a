"""Ops that conflict in flight, several connections, and restarts: recorded and replayed."""

import json
from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import mine, record
from tests.kit.command import trace
from tests.kit.drivers import toml
from tests.kit.faulty.workload import make_trace
from tests.kit.guests import nbdsh, shell
from tests.kit.peers import need
from tracer.errors import Exit
from tracer.op import Conflicts, Kind, Op
from tracer.trace.file import Trace
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End

K = 1024

OVERLAPPING = f"""
import nbd
data = [nbd.Buffer.from_bytearray(bytearray(bytes([n + 1]) * {64 * K})) for n in range(8)]
for start in range(20):
    cookies = [h.aio_pwrite(one, start * {4 * K}) for one in data]
    while cookies:
        h.poll(-1)
        cookies = [one for one in cookies if not h.aio_command_completed(one)]
print(h.pread({256 * K}, 0)[:1].hex())
"""


@pytest.mark.parametrize("driver", ["raw", "qcow2", "none"])
def test_writes_of_one_place_in_flight_together(tmp_path: Path, driver: str) -> None:
    """Whichever of them the disk holds in the end, the trace knows it."""
    need("nbdsh")
    if driver == "qcow2":
        need("qemu-nbd", "qemu-img")
    done = trace("record", "t.trace", "--driver", driver, "--size", "1M", "--json", "--",
                 *nbdsh(OVERLAPPING), cwd=tmp_path)  # fmt: skip
    assert json.loads(done.stdout[done.stdout.index("{\n") :])["verdict"] == "clean"
    assert trace("verify", "t.trace", cwd=tmp_path).stdout.endswith("ok\n")
    checked = json.loads(
        trace("checkout", "t.trace", "-o", "state.raw", "--json", cwd=tmp_path).stdout
    )
    assert checked["open"] == []
    assert (tmp_path / "state.raw").read_bytes() == (tmp_path / "t.raw").read_bytes()
    with Trace(tmp_path / "t.trace") as opened:
        assert opened.header.conflicts is Conflicts.SENT
    # a build may settle each conflict in its own way
    for options in ([], ["--seed", "3"], ["--depth", "1"], ["--conflicts", "hold"]):
        trace("replay", "t.trace", "--driver", "raw", "--no-plot", *options, cwd=tmp_path)


@pytest.mark.parametrize("winner", [0, 1])
@pytest.mark.parametrize("conflicts", ["send", "hold"])
def test_a_replay_may_settle_a_conflict_otherwise_than_the_recording(
    tmp_path: Path, winner: int, conflicts: str
) -> None:
    """Two writes of one place in flight together, and a read that returned what one of them
    brought: with conflicts held back, it always returns the second."""
    with TraceOutput(tmp_path / "t.trace", Header(1 << 20)) as output:
        writes = [Op(seq, int(Kind.WRITE), 0, 0, 4096, 0, 10 + seq) for seq in (0, 1)]
        for op in writes:
            output.store(op, bytes([op.seq + 1]) * 4096)
            output.op(op)
        output.op(Op(2, int(Kind.READ), 0, 0, 4096, 20, 30, digest=writes[winner].digest))
        output.close(End(3, 0, 30, "clean"))
    trace("replay", "t.trace", "--driver", "raw", "--no-plot", "--conflicts", conflicts,
          cwd=tmp_path)  # fmt: skip


def test_conflicts_can_be_held(tmp_path: Path) -> None:
    need("nbdsh")
    record(tmp_path, "raw", *nbdsh(OVERLAPPING), options=["--conflicts", "hold"])

    with Trace(tmp_path / "t.trace") as opened:
        assert opened.header.conflicts is Conflicts.HELD
        assert opened.settles() == []
    assert sum(op.kind == Kind.WRITE for op in mine(tmp_path)) == 160


def test_what_nobody_has_read_is_open_in_a_checkout(tmp_path: Path) -> None:
    both = [(Kind.WRITE, 0, 4096, 0)] * 2
    make_trace(tmp_path / "t.trace", both, payloads="hash", together=2)
    done = trace("checkout", "t.trace", "-o", "state.raw", cwd=tmp_path)
    assert "open:    8 sectors may hold another value, the first is sector 0" in done.stdout


PLUGIN = """
API_VERSION = 2
disk = bytearray(1 << 20)

def open(readonly):
    return {}

def get_size(h):
    return len(disk)

def can_multi_conn(h):
    return %s

def pwrite(h, buf, offset, flags):
    h[offset] = bytes(buf)

def pread(h, buf, offset, flags):
    buf[:] = h.get(offset, disk[offset : offset + len(buf)])

def flush(h, flags):
    for offset, data in h.items():
        disk[offset : offset + len(data)] = data
    h.clear()
"""

TWO = """
import nbd
a, b = h, nbd.NBD()
b.connect_uri(uri)
a.pwrite(b"A" * 4096, 0)
b.flush()
print(bytes(b.pread(4096, 0)[:1]))
b.shutdown()
"""


@pytest.mark.parametrize(("promises", "exit_code"), [(True, Exit.DIFFERENT), (False, Exit.CLEAN)])
def test_a_flush_on_one_connection_covers_all(
    tmp_path: Path, promises: bool, exit_code: Exit
) -> None:
    """The driver has a cache per connection. Without a promise, all guests share one."""
    need("nbdkit", "nbdsh")
    (tmp_path / "plugin.py").write_text(PLUGIN % promises)
    name = toml(
        tmp_path, create=["touch", "{image}"],
        serve=["nbdkit", "-f", "-U", "{socket}", "--no-sr", "python", str(tmp_path / "plugin.py")],
    )  # fmt: skip
    guest = nbdsh("import os; uri = os.environ['NBD_URI']" + TWO)
    trace("record", "t.trace", "--driver", name, "--size", "1M", "--on-mismatch", "continue", "--",
          *guest, cwd=tmp_path, expect=exit_code)  # fmt: skip
    assert {op.connection for op in mine(tmp_path)} == {1, 2}
    trace("replay", "t.trace", "--driver", name, "--no-plot", cwd=tmp_path, expect=exit_code)
    trace("replay", "t.trace", "--driver", name, "--no-plot", "--connections", 1, cwd=tmp_path)


REBOOTS = """
for n in 1 2 3; do
    nbdsh -u "$1" -c "h.pwrite(bytes([$n]) * 4096, $n * 4096)" || exit 1
done
"""


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_guest_that_comes_back_finds_a_driver_that_was_restarted(
    tmp_path: Path, driver: str
) -> None:
    need("nbdsh")
    record(tmp_path, driver, *shell(REBOOTS))
    with Trace(tmp_path / "t.trace") as opened:
        restarts = opened.restarts()
        ops = sorted(opened.ops(), key=lambda op: op.seq)
    assert [restart.why for restart in restarts] == ["guest returned"] * 2
    for restart in restarts:
        before, after = ops[restart.seq - 1], ops[restart.seq]
        assert (before.kind, before.connection) == (Kind.FLUSH, 0)
        assert (after.kind, after.connection > 1) == (Kind.WRITE, True)
    done = trace("replay", "t.trace", "--driver", driver, "--no-plot", "-v", cwd=tmp_path)
    if driver == "qcow2":  # two restarts, and the reopening at the end
        assert done.stderr.count("--format=qcow2") == 4
    trace("replay", "t.trace", "--driver", driver, "--no-plot", "--restart-every", 1, cwd=tmp_path)


def test_a_check_that_fails_at_a_restart_is_located(tmp_path: Path) -> None:
    """The check objects to a byte that the third write brings; nothing else is wrong."""
    need("qemu-nbd", "qemu-img")
    make_trace(tmp_path / "t.trace", [(Kind.WRITE, n * 4096, 4096, 0) for n in range(6)])
    name = toml(
        tmp_path, create=["truncate", "-s", "{size}", "{image}"],
        serve=["qemu-nbd", "--persistent", "--format=raw", "--socket={socket}", "{image}"],
        check=["sh", "-c", "test -z $(dd if=$0 bs=4096 skip=2 count=1 | tr -d '\\0' | head -c1 | "
               "wc -c | grep -v 0)", "{image}"],
    )  # fmt: skip
    done = trace("replay", "t.trace", "--driver", name, "--no-plot", "--json", "--restart-every", 2,
                 cwd=tmp_path, expect=Exit.DIFFERENT)  # fmt: skip
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["symptom"]) == ("failed", "check")
    assert verdict["culprit"]["seq"] == 2
    assert verdict["confirmed"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--connections", "0"], "--connections: give a number from 1 to 16"),
        (["--connections", "17"], "--connections: give a number from 1 to 16"),
        (["--restart-every", "0"], "--restart-every must be above 0"),
    ],
)
def test_wrong_numbers(tmp_path: Path, options: list[str], why: str) -> None:
    make_trace(tmp_path / "t.trace", [(Kind.WRITE, 0, 4096, 0)])
    done = trace("replay", "t.trace", "--driver", "raw", *options, cwd=tmp_path, expect=Exit.USAGE)
    assert why in done.stderr
