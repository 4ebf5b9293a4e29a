"""Acknowledged means recorded: whatever kills the recorder, no op that a guest saw done is lost."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.kit.command import recording, trace
from tests.kit.data import MIB
from tests.kit.traces import read_trace
from tracer.digest import digest
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.nbd.uri import parse_uri
from tracer.op import Kind
from tracer.rework.verify import verify
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import payload_path

pytestmark = pytest.mark.slow

DEPTH = 16


def write_until_dead(
    uri: str, chance: random.Random, kill_after: float, kill: object
) -> list[bytes]:
    """Write random blocks, DEPTH in flight, until the server is gone; the digests of those that
    were acknowledged, in order. ``kill`` is called after ``kill_after`` seconds, and not before one
    was."""
    acknowledged: list[bytes] = []
    in_flight = 0
    assert callable(kill)
    with Loop() as loop, NbdDevice.connect(loop, parse_uri(uri)) as device:
        deadline: float | None = time.monotonic() + kill_after
        while device.lost is None:
            while in_flight < DEPTH and device.lost is None:
                data = chance.randbytes(512 * chance.randint(1, 16))

                def done(error: int, *_: object, key: bytes = digest(data)) -> None:
                    nonlocal in_flight
                    in_flight -= 1
                    if not error:
                        acknowledged.append(key)

                in_flight += 1
                offset = 512 * chance.randrange((4 * MIB - len(data)) // 512)
                device.submit(int(Kind.WRITE), 0, offset, len(data), data, done)
            device.kick()
            loop.poll(0.01)
            if deadline is not None and acknowledged and time.monotonic() > deadline:
                kill()
                deadline = None
    return acknowledged


@pytest.mark.parametrize("round_", range(10))
def test_killing_the_recorder_loses_no_acknowledged_op(tmp_path: Path, round_: int) -> None:
    chance, driver = random.Random(round_), ("raw", "none")[round_ % 2]
    with recording("k.trace", "--driver", driver, "--size", "4M", cwd=tmp_path) as (process, uri):
        acknowledged = write_until_dead(uri, chance, chance.uniform(0, 0.3), process.kill)
        assert process.wait() == -signal.SIGKILL
    path = tmp_path / "k.trace"
    recorded, found_ops = read_trace(path)
    ops = {op.digest: op for op in found_ops}
    assert recorded.end is None
    assert acknowledged, "the guest had no time to do anything"
    assert set(acknowledged) <= ops.keys()
    # each payload is there and right, or verify says that it is not
    with PayloadReader(payload_path(path), recorded.header.id) as reader:
        lost = sum(op.payload + op.length > reader.end for op in ops.values())
    found = verify(path)
    assert (found.missing, found.damaged) == (lost, 0)
    assert any("not closed" in problem for problem in found.problems)


def test_what_a_killed_recorder_left_replays(tmp_path: Path) -> None:
    chance = random.Random(99)
    arguments = ("k.trace", "--driver", "raw", "--size", "4M", "--payloads", "hash")
    with recording(*arguments, cwd=tmp_path) as (process, uri):
        write_until_dead(uri, chance, 0.2, process.kill)
    trace("replay", "k.trace", "--driver", "raw", cwd=tmp_path)


def test_sync_puts_payloads_on_the_disk_before_a_flush_is_answered(tmp_path: Path) -> None:
    with recording("s.trace", "--driver", "raw", "--size", "4M", "--sync", cwd=tmp_path) as (
        process,
        uri,
    ):
        answers: list[int] = []
        with Loop() as loop, NbdDevice.connect(loop, parse_uri(uri)) as device:
            data = random.Random(5).randbytes(4096)
            for kind, length, payload in ((Kind.WRITE, 4096, data), (Kind.FLUSH, 0, None)):
                device.submit(
                    int(kind), 0, 0, length, payload, lambda error, *_: answers.append(error)
                )
                device.kick()
                while len(answers) < 1 + (kind == Kind.FLUSH):
                    loop.poll(1)
            process.kill()
        assert answers == [0, 0]
        process.wait()
    found = verify(tmp_path / "s.trace")
    assert (found.ops, found.payloads, found.missing, found.damaged) == (2, 1, 0, 0)
