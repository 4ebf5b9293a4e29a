"""Crash states as images: what they hold does not depend on the states before them."""

import random
from pathlib import Path

import pytest

from replay.below.states.image import CrashImage, DataOf
from replay.below.states.points import Crash, Points
from tracer.below.op import LowerKind, LowerOp
from tracer.op import SECTOR

K = LowerKind


def data_in(log: bytes) -> DataOf:
    return lambda op, start, end: log[op.data_at :][start - op.offset : end - op.offset]


def naive(start: bytes, data_of: DataOf, points: Points, crash: Crash) -> bytes:
    """The image of a state, from nothing."""
    held = bytearray(start)
    for number, op in enumerate(points.ops[: crash.point]):
        if number in crash.missing:
            continue
        end = op.offset + crash.torn if number == crash.point - 1 and crash.torn else op.end
        if op.kind is K.TRUNCATE:
            held = held[: op.length].ljust(op.length, b"\0")
        elif op.kind is K.DISCARD:
            end = min(end, len(held))
            held[op.offset : end] = bytes(max(0, end - op.offset))
        elif op.kind in (K.WRITE, K.ZERO):
            held = held.ljust(end, b"\0")
            data = data_of(op, op.offset, op.end) if op.kind is K.WRITE else bytes(op.length)
            held[op.offset : end] = data[: end - op.offset]
    return bytes(held)


def random_ops(chance: random.Random, count: int) -> tuple[list[LowerOp], bytes]:
    log = bytearray(SECTOR)
    ops = []
    for number in range(count):
        kind = chance.choice([K.WRITE] * 5 + [K.ZERO, K.DISCARD, K.FLUSH, K.TRUNCATE])
        offset, length = chance.randrange(40) * SECTOR, chance.randrange(1, 20) * SECTOR
        if kind is K.FLUSH:
            offset = length = 0
        if kind is K.TRUNCATE:
            offset, length = 0, chance.randrange(30, 70) * SECTOR
        at = len(log)
        if kind is K.WRITE:
            log += chance.randbytes(length)
        fua = kind is K.WRITE and chance.random() < 0.2
        ops.append(LowerOp(number, kind, offset, length, fua=fua, log_at=at, log_end=len(log)))
    return ops, bytes(log)


@pytest.mark.parametrize("seed", range(8))
def test_each_state_is_what_its_ops_make(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    ops, log = random_ops(chance, 40)
    start = chance.randbytes(16 * SECTOR) + bytes(20 * SECTOR)
    (tmp_path / "start").write_bytes(start)
    points = Points(ops, seed)
    numbers = sorted(chance.sample(range(points.states), min(300, points.states)))
    digests: dict[bytes, bytes] = {}
    with CrashImage(tmp_path / "start", data_in(log), points, tmp_path, "raw") as image:
        for number in numbers:
            crash = points.state(number)
            digest = image.build(crash)
            held = image.path.read_bytes()
            assert held == naive(start, data_in(log), points, crash), crash
            assert digests.setdefault(digest, held) == held
    assert len(set(digests.values())) == len(digests)


def test_states_go_forward(tmp_path: Path) -> None:
    (tmp_path / "start").write_bytes(bytes(SECTOR))
    points = Points([LowerOp(0, K.FLUSH, 0, 0)])
    with CrashImage(tmp_path / "start", data_in(b""), points, tmp_path, "raw") as image:
        image.build(Crash(1))
        with pytest.raises(ValueError, match="ascending"):
            image.build(Crash(0))
