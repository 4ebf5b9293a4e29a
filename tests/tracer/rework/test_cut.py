"""``trace cut``: a part that replays by itself and does to the disk what it did in the whole."""

import json
import os
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.kit.command import trace
from tests.kit.faulty.workload import SIZE, WORKLOAD, make_trace, write_driver
from tests.kit.peers import need
from tests.kit.system import entries, file_size_limit
from tests.kit.traces import as_recorded, read_trace
from tracer.digest import digest
from tracer.errors import StorageError, UsageError
from tracer.op import MUTATING, NO_PAYLOAD, ZERO_DIGEST, Fault, Kind, Op
from tracer.rework.cut import cut
from tracer.rework.last_writers import CHUNK, LastWriters
from tracer.trace.data import TraceWithData
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.records import End, Mark, Mismatch, Settle

rewritten = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=200,
)

DISK = 64
"""Bytes of the disks that hypothesis draws: so few that most ops overlap."""


# ---------------------------------------------------------------- traces to cut


@dataclass(frozen=True)
class History:
    """Ops in the order in which they completed, the byte that each write begins with (0: it writes
    zeroes), and which of them to cut out."""

    ops: list[Op]
    contents: dict[int, int]
    first: int
    upto: int
    settles: list[Settle]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Ops of every kind. Some failed, some have no record, some completed late."""
    chance = draw(
        st.randoms(use_true_random=False)
    )  # spread evenly: small values would rarely overlap
    count = chance.randint(1, 14)
    ops = []
    for seq in range(count):
        kind = chance.choice([Kind.WRITE] * 4 + [Kind.ZERO, Kind.TRIM, Kind.READ, Kind.FLUSH])
        start = chance.randrange(DISK)
        length = 0 if kind == Kind.FLUSH else chance.randint(1, DISK - start)
        op = Op(
            seq, int(kind), 0, start if length else 0, length, seq * 10, seq * 10 + 5, connection=1
        )
        op.reference_status = chance.choice([0] * 7 + [5])
        ops.append(op)
    if count > 1:
        for place in chance.choices(range(count - 1), k=3):
            ops[place : place + 2] = ops[place + 1], ops[place]
        if chance.random() < 0.2:
            del ops[chance.randrange(count)]
    contents = {seq: chance.randint(0, 5) for seq in range(count)}
    first = chance.randint(0, count)
    ops = [op for op in as_recorded(ops) if isinstance(op, Op)]
    upto = chance.randint(first, count) + 1
    return History(ops, contents, first, upto, _settles(chance, ops, first, upto))


def _settles(chance: Random, ops: list[Op], first: int, upto: int) -> list[Settle]:
    """Settles as a recorder writes them: of ranges in which the winner and a later op changed data,
    and nothing did afterwards until a read decided."""
    changes = [op for op in ops if op.kind in (Kind.WRITE, Kind.ZERO) and not op.reference_status]
    found: list[Settle] = []
    pairs = [(a, b) for a, b in combinations(sorted(changes, key=lambda op: op.seq), 2)]
    for winner, loser in chance.sample(pairs, min(6, len(pairs))):
        start, end = max(winner.offset, loser.offset), min(winner.end, loser.end)
        deciders = [op.seq for op in ops if op.seq > loser.seq and op.kind == Kind.READ]
        if start >= end or not deciders:
            continue
        start = chance.randrange(start, end)
        end = chance.randint(start + 1, end)
        seq = min(deciders)
        if seq >= upto and loser.seq >= first:
            continue  # the part does not have the read
        taken = any(
            op.offset < end and start < op.end and op.seq not in (winner.seq, loser.seq)
            for op in ops
            if winner.seq <= op.seq <= seq and op.kind in MUTATING
        ) or any(one.offset < end and start < one.offset + one.length for one in found)
        if not taken:
            found.append(Settle(seq, start, end - start, winner.seq, 0, bytes(16)))
    return found


def write_history(path: Path, history: History, payloads: str, trim: str) -> Path:
    """A trace of it."""
    header = Header(DISK, payloads, trim=trim)
    with TraceOutput(path, header) as output:
        for op in history.ops:
            if op.kind == Kind.WRITE and not op.reference_status:
                content = history.contents[op.seq]
                data = bytes(content and (content + at) % 255 + 1 for at in range(op.length))
                output.store(op, data)
            output.op(op)
        for settle in history.settles:
            output.settle(settle)
        output.close(End(len(history.ops), 0, 1000, "clean"))
    return path


def states(path: Path) -> dict[int, bytes]:
    """What the reference holds after each op, by its number, as a replay makes it; -1: at the
    start."""
    with TraceWithData(path) as source:
        disk = bytearray(source.trace.header.size)
        trims_clear = source.trace.header.trim == "any"
        ops = sorted(source.trace.ops(), key=lambda op: op.seq)
        numbered = {op.seq: op for op in ops}
        steps = [((op.seq, 1), op, range(op.offset, op.end)) for op in ops] + [
            ((one.seq, 0), numbered[one.winner], range(one.offset, one.offset + one.length))
            for one in source.trace.settles()
        ]
        steps.sort(key=lambda step: step[0])
        found = {-1: bytes(disk)}
        for seq in numbered:
            disk = bytearray(source.trace.header.size)
            for _, op, part in steps:
                if op.seq > seq or op.reference_status:
                    continue
                if op.kind in (Kind.WRITE, Kind.START):
                    data = source.data(op)
                    assert data is not None
                    inside = slice(part.start - op.offset, part.stop - op.offset)
                    disk[part.start : part.stop] = data[inside]
                elif op.kind == Kind.ZERO or (op.kind == Kind.TRIM and trims_clear):
                    disk[part.start : part.stop] = bytes(len(part))
            found[seq] = bytes(disk)
    return found


def _twice_over() -> History:
    """Two writes that both won a part of what they share, and zeroes between, all before the
    cut."""
    places = [(0, 40), (8, 52), (20, 4)]
    ops = [
        Op(seq, int(Kind.WRITE if seq < 2 else Kind.ZERO), 0, at, length, seq, 9, connection=1)
        for seq, (at, length) in enumerate(places)
    ]
    ops.append(Op(3, int(Kind.READ), 0, 0, DISK, 10, 11, connection=1))
    ops.append(Op(4, int(Kind.WRITE), 0, 60, 2, 12, 13, connection=1))
    settles = [Settle(3, 30, 10, 0, 11, bytes(16)), Settle(3, 22, 1, 1, 11, bytes(16))]
    return History(ops, {0: 1, 1: 2, 4: 3}, 4, 5, settles)


@rewritten
@example(_twice_over(), "hash", "any")
@example(_twice_over(), "full", "any")
@given(histories(), st.sampled_from(["full", "hash"]), st.sampled_from(["any", "old-or-zero"]))
def test_every_op_of_a_part_leaves_the_disk_as_it_did_in_the_whole(
    tmp_path: Path, history: History, payloads: str, trim: str
) -> None:
    whole = write_history(tmp_path / "whole.trace", history, payloads, trim)
    first, upto = history.first, history.upto
    inside = [op for op in history.ops if first <= op.seq < upto]
    with TraceWithData(whole) as source:
        if not inside:
            with pytest.raises(UsageError, match="from #"):
                cut(source, first, upto, tmp_path / "part.trace", force=True)
            return
        result = cut(source, first, upto, tmp_path / "part.trace", force=True)

    before, after = states(whole), states(tmp_path / "part.trace")
    part, found = read_trace(tmp_path / "part.trace")
    shift = result.start_ops - first
    assert [op.seq for op in found] == [
        *range(result.start_ops),
        *(op.seq + shift for op in inside),
    ]
    at_start = max((seq for seq in before if seq < first), default=-1)
    assert after[result.start_ops - 1] == before[at_start]
    for op in inside:
        assert after[op.seq + shift] == before[op.seq]
    for op, copy in zip(inside, found[result.start_ops :], strict=True):
        assert (copy.kind, copy.flags, copy.digest) == (op.kind, op.flags, op.digest)
        assert (copy.offset, copy.length, copy.submitted, copy.completed) == (
            op.offset, op.length, op.submitted, op.completed,
        )  # fmt: skip
        assert (copy.reference_status, copy.connection) == (op.reference_status, op.connection)
    assert part.header.start_image == ("recorded" if result.start_ops else "blank")
    assert part.end == End(len(found), 0, max(op.completed for op in inside), "cut")
    if payloads == "full":  # disjoint, so that nothing is written which is not there at the end
        starts = sorted((op.offset, op.end) for op in found[: result.start_ops])
        assert all(one[1] <= other[0] for one, other in pairwise(starts))


# ---------------------------------------------------------------- the map of last writers

ranges = st.tuples(st.integers(0, 40), st.integers(1, 20))


@given(st.lists(st.tuples(ranges, st.integers(0, 3)), max_size=30), ranges)
@example([((0, 20), 1), ((5, 1), 2), ((3, 9), 0)], (0, 20))
def test_last_writers_are_those_of_a_plain_list(
    steps: list[tuple[tuple[int, int], int]], asked: tuple[int, int]
) -> None:
    # around a chunk's end, so that ranges span two; scaled, so that some span whole ones
    for base, scale in ((CHUNK - 30, 1), (0, CHUNK // 16)):
        writers, plain = LastWriters(), [0] * 61
        for (start, length), seq in steps:
            plain[start : start + length] = [seq] * length
            first, last = base + start * scale, base + (start + length) * scale
            if seq:
                writers.write(first, last, seq)
            else:
                writers.zero(first, last)
        found = [0] * 61
        start, length = asked
        for a, b, seq in writers.within(base + start * scale, base + (start + length) * scale):
            assert (a - base) % scale == (b - base) % scale == 0
            for at in range((a - base) // scale, (b - base) // scale):
                assert found[at] == 0
                found[at] = seq
        assert found[start : start + length] == plain[start : start + length]


# ---------------------------------------------------------------- as a user runs it


@pytest.mark.parametrize("payloads", ["full", "hash"])
def test_a_part_verifies_and_replays(tmp_path: Path, payloads: str) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD, payloads=payloads)
    arguments = ("cut", "w.trace", "--from", 17, "--to", "#25", "-o", "p.trace", "--json")
    result = json.loads(trace(*arguments, cwd=tmp_path).stdout)
    assert (result["schema"], result["first"], result["last"], result["ops"]) == (1, 17, 25, 9)
    assert result["start_ops"] == 16
    assert result["payload_bytes"] == (
        (tmp_path / "p.payloads").stat().st_size if payloads == "full" else 0
    )
    trace("verify", "p.trace", cwd=tmp_path)
    done = trace("replay", "p.trace", "--driver", "raw", cwd=tmp_path)
    assert "9 ops in 1 run" in done.stdout
    shown = trace("show", "p.trace", cwd=tmp_path).stdout
    whole = read_trace(tmp_path / "w.trace")[0].header.id
    assert f"cut:       #16 on are ops #17 to #25 of {whole}" in shown


def test_a_defect_shows_in_the_part_that_holds_its_culprit(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    trace("cut", "w.trace", "--from", "18", "-o", "p.trace", cwd=tmp_path)
    driver = write_driver(tmp_path, "zero-too-long")
    arguments = ("replay", "p.trace", "--driver", driver, "--json", "--no-plot")
    verdict = json.loads(trace(*arguments, cwd=tmp_path, expect=1).stdout)
    start_ops = read_trace(tmp_path / "p.trace")[0].header.cut["start_ops"]
    assert verdict["culprit"]["seq"] - start_ops + 18 == 19


def test_the_whole_of_a_trace_is_a_part_of_it(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    trace("cut", "w.trace", "-o", "p.trace", cwd=tmp_path)
    assert (
        "28 ops are alike" in trace("diff", "w.trace", "p.trace", "--timing", cwd=tmp_path).stdout
    )
    assert read_trace(tmp_path / "p.trace")[0].header.start_image == "blank"


def test_marks_and_mismatches_go_along(tmp_path: Path) -> None:
    path = tmp_path / "m.trace"
    data, wrong = bytes([1]) * 512, bytes([2]) * 512
    with TraceOutput(path, Header(4096)) as output:
        evidence = output.put(digest(wrong), wrong)
        for seq in range(6):
            output.mark(Mark(seq, seq * 10, f"m{seq}"))
            op = Op(seq, int(Kind.WRITE), 0, seq * 512, 512, seq * 10, seq * 10 + 5)
            output.store(op, data)
            output.op(op)
            fault = Mismatch(seq, Fault.DATA, seq * 512, 512, 0, 0, 9, evidence, digest(wrong))
            output.mismatch(fault)
        output.mark(Mark(6, 99, "m6"))
        output.mismatch(Mismatch(6, Fault.FINAL, 0, 512, 0, 0, 9, NO_PAYLOAD, ZERO_DIGEST))
        output.close(End(6, 7, 100, "damaged"))

    trace("cut", path, "--from", "m2", "--to", "m4", "-o", "a.trace", cwd=tmp_path)
    part, ops = read_trace(tmp_path / "a.trace")
    assert [(mark.name, mark.seq) for mark in part.marks] == [("m2", 2), ("m3", 3), ("m4", 4)]
    assert [op.offset // 512 for op in ops] == [0, 1, 2, 3]
    assert [(one.seq, one.fault) for one in part.mismatches] == [(2, Fault.DATA), (3, Fault.DATA)]
    with PayloadReader(tmp_path / "a.payloads", part.header.id) as reader:
        assert reader.read(part.mismatches[0].payload, 512) == wrong

    trace("cut", path, "--from", "4", "-o", "b.trace", cwd=tmp_path)
    part, _ = read_trace(tmp_path / "b.trace")
    assert [(one.seq, one.fault) for one in part.mismatches][-1] == (6, Fault.FINAL)
    assert part.end == End(6, 3, 55, "cut")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--from", "5", "--to", "4"], "there are no ops from #5 to #4"),
        (["--from", "28"], "has no op #28: the last is #27"),
        (["--to", "boot"], "has no mark 'boot'; it has none"),
        (["--to", "-1"], "has no mark '-1'"),
        (["-o", "w.trace"], "w.trace exists"),
        (["-o", "w.trace", "--force"], "which it is made from"),
        (["-o", "w.cut", "--force"], "w.cut would replace w.payloads"),
        (["-o", "x.payloads"], "call the trace NAME.trace"),
        (["-o", "nowhere/x.trace"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_cut_is_refused_and_nothing_written(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    output = [] if "-o" in arguments else ["-o", "p.trace"]
    done = trace("cut", "w.trace", *arguments, *output, cwd=tmp_path, expect=200)
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_missing_payloads_matter_where_they_are_needed(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    store = tmp_path / "w.payloads"
    store.write_bytes(store.read_bytes()[:-20])  # the last block, with what ops 15 on wrote
    done = trace("cut", "w.trace", "-o", "p.trace", cwd=tmp_path, expect=201)
    assert "is missing" in done.stderr
    assert entries(tmp_path) == ["w.payloads", "w.trace"]
    trace("cut", "w.trace", "--to", "14", "-o", "p.trace", cwd=tmp_path)
    trace("verify", "p.trace", cwd=tmp_path)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    make_trace(tmp_path / "p.trace", [(Kind.WRITE, 0, 512, 0)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with TraceWithData(tmp_path / "w.trace") as source:
        open_before = len(os.listdir("/proc/self/fd"))
        with file_size_limit(100_000), pytest.raises(StorageError, match="cannot write"):
            cut(source, 3, 20, tmp_path / "p.trace", force=True)
        assert len(os.listdir("/proc/self/fd")) == open_before
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_force_replaces_trace_and_payloads(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    make_trace(tmp_path / "h.trace", WORKLOAD, payloads="hash")
    trace("cut", "w.trace", "--to", "5", "-o", "p.trace", cwd=tmp_path)
    trace("cut", "w.trace", "--to", "7", "-o", "p.trace", "--force", cwd=tmp_path)
    assert len(read_trace(tmp_path / "p.trace")[1]) == 8
    trace("cut", "h.trace", "--to", "9", "-o", "p.trace", "--force", cwd=tmp_path)
    assert entries(tmp_path) == ["h.trace", "p.trace", "w.payloads", "w.trace"]
    assert read_trace(tmp_path / "p.trace")[0].header.size == SIZE
