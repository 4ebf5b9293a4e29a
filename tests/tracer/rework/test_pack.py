"""``trace pack``: packed traces read as before, what is shared is stored once, and no kill loses a
block."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import blkbox
from tests.kit.command import trace
from tests.kit.data import pattern
from tracer.digest import digest
from tracer.errors import Exit, TraceError, UsageError
from tracer.op import Kind, Op
from tracer.rework.pack import pack
from tracer.trace.data import TraceWithData
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.packed import FOLDER, is_packed
from tracer.trace.records import End
from tracer.verdict import VerdictKind

LENGTH = 64 << 10

WRITES = 40
"""Ops in each trace: 2.5 MiB, three blocks."""


def written(path: Path, seeds: range) -> Path:
    """A trace that writes data made from each of the seeds."""
    with TraceOutput(path, Header(size=WRITES * LENGTH)) as output:
        for seq, seed in enumerate(seeds):
            data = pattern(LENGTH, seed)
            op = Op(seq, int(Kind.WRITE), 0, seq * LENGTH, LENGTH, submitted=seq * 10,
                    completed=seq * 10 + 5, digest=digest(data), connection=1)  # fmt: skip
            op.payload = output.put(op.digest, data)
            output.op(op)
        output.close(End(len(seeds), 0, len(seeds) * 10, "clean"))
    return path


def shelf(folder: Path) -> list[Path]:
    """Three traces; the second has half of its data from the first, the third all."""
    return [
        written(folder / "a.trace", range(1, 1 + WRITES)),
        written(folder / "b.trace", range(21, 21 + WRITES)),
        written(folder / "c.trace", range(1 + WRITES, 1, -1)),
    ]


def content(path: Path) -> list[bytes]:
    with TraceWithData(path) as source:
        return [bytes(source.data(op) or b"") for op in source.trace.ops()]


def blocks(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(f"{FOLDER}/??/*")}


def test_packed_traces_read_as_before_and_share(tmp_path: Path) -> None:
    traces = shelf(tmp_path)
    before = {path: content(path) for path in traces}
    result = pack(tmp_path)
    assert result.packed == ["a.trace", "b.trace", "c.trace"]
    assert result.after < result.before * 0.6
    for path in traces:
        assert is_packed(path.with_suffix(".payloads"))
        assert content(path) == before[path]
        assert blkbox.verify(path).ok
    again = pack(tmp_path)
    assert (again.packed, again.removed, again.blocks) == ([], 0, result.blocks)
    # one that comes later shares too
    written(tmp_path / "d.trace", range(5, 5 + WRITES))
    later = pack(tmp_path)
    assert later.packed == ["d.trace"]
    assert later.blocks == result.blocks


def test_every_verb_reads_a_packed_trace(tmp_path: Path) -> None:
    [path, *_] = shelf(tmp_path)
    pack(tmp_path)
    assert blkbox.replay(path, driver="raw").verdict is VerdictKind.CLEAN
    blkbox.checkout(path, tmp_path / "disk.raw")
    blkbox.cut(path, tmp_path / "part.trace", first="3", last="5")
    assert (tmp_path / "disk.raw").read_bytes() == b"".join(content(path))
    assert not is_packed(tmp_path / "part.payloads")
    with blkbox.open(path) as frames:
        assert frames.expected(range(1)) == content(path)[0][:512]
    blkbox.report(path, tmp_path / "page.html")
    out = trace("export", path, "-o", tmp_path / "out.log", "--format", "dm-log-writes",
                cwd=tmp_path)  # fmt: skip
    assert out.returncode == 0


def test_garbage_goes_and_nothing_else(tmp_path: Path) -> None:
    traces = shelf(tmp_path)
    before = {path: content(path) for path in traces}
    pack(tmp_path)
    for name in ("a.trace", "a.payloads"):
        (tmp_path / name).unlink()
    result = pack(tmp_path)  # c needs what a had
    assert result.removed == 0
    (tmp_path / "b.trace").unlink()
    (tmp_path / "b.payloads").unlink()
    assert pack(tmp_path).removed > 0
    assert content(traces[2]) == before[traces[2]]


def test_nothing_is_removed_if_an_index_cannot_be_read(tmp_path: Path) -> None:
    shelf(tmp_path)
    pack(tmp_path)
    there = blocks(tmp_path)
    index = tmp_path / "b.payloads"
    good = index.read_bytes()
    for bad in (good[:-5], b"nothing of ours", good[:10]):
        index.write_bytes(bad)
        with pytest.raises(TraceError):
            pack(tmp_path)
        assert blocks(tmp_path) == there
    index.write_bytes(good)
    assert pack(tmp_path).removed == 0


def test_what_is_damaged_or_not_closed_stays_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "a.trace", range(1, 5))
    raw = path.read_bytes()
    path.write_bytes(raw[: -len(raw) // 10])
    store = (tmp_path / "a.payloads").read_bytes()
    result = pack(tmp_path)
    assert "it is not closed" in result.skipped["a.trace"]
    assert (tmp_path / "a.payloads").read_bytes() == store
    path.write_bytes(raw)
    pack(tmp_path)
    [block] = tmp_path.glob(f"{FOLDER}/??/*")
    damaged = bytearray(block.read_bytes())
    damaged[-1] ^= 1
    block.write_bytes(damaged)
    found = blkbox.verify(path)
    assert not found.ok
    assert found.missing + found.damaged == 4
    block.unlink()
    assert "need the folder payload-blocks" in blkbox.verify(path).problems[0]


def test_a_changed_index_or_block_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    path = written(tmp_path / "a.trace", range(1, 8))
    pack(tmp_path)
    [block] = tmp_path.glob(f"{FOLDER}/??/*")
    chance = random.Random(7)
    for file in (tmp_path / "a.payloads", block):
        good = file.read_bytes()
        for _ in range(150):
            changed = bytearray(good)
            if chance.random() < 0.2:
                del changed[chance.randrange(len(good)) :]
            else:
                changed[chance.randrange(min(len(good), 300))] ^= 1 << chance.randrange(8)
            file.write_bytes(changed)
            found = blkbox.verify(path)
            assert bytes(changed) == good or not found.ok or content(path)
        file.write_bytes(good)
    assert blkbox.verify(path).ok


KILLED = """
import os, signal, sys
from pathlib import Path

left = int(sys.argv[2])

def killing(function):
    def step(*arguments, **options):
        global left
        if function is opening and not arguments[1] & os.O_CREAT:
            return function(*arguments, **options)
        for moment in ("before", "after"):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment == "before":
                result = function(*arguments, **options)
        return result
    return step

opening = os.open
for name in ("open", "fsync", "replace", "mkdir", "unlink"):
    setattr(os, name, killing(getattr(os, name)))
from tracer.rework.pack import pack
pack(Path(sys.argv[1]))
"""
"""Packs a folder, and is killed before or after one of the system calls that change something."""


@pytest.mark.slow
def test_a_kill_at_any_step_loses_nothing(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    traces = shelf(fresh)
    before = [content(path) for path in traces]
    pack(fresh)
    written(fresh / "d.trace", range(100, 100 + WRITES))
    before.append(content(fresh / "d.trace"))
    for name in ("b.trace", "b.payloads"):  # garbage to collect
        (fresh / name).unlink()
    del before[1]
    names = ["a.trace", "c.trace", "d.trace"]
    step, killed = 1, 0
    while True:
        folder = tmp_path / f"step-{step}"
        shutil.copytree(fresh, folder)
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(step)],
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                              check=False)  # fmt: skip
        assert [content(folder / name) for name in names] == before
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1
        pack(folder)
        assert [content(folder / name) for name in names] == before
        assert is_packed(folder / "d.payloads")
        assert not list(folder.rglob(".packing-*"))
        shutil.rmtree(folder)
        step += 1
    assert killed > 10


def test_the_verb(tmp_path: Path) -> None:
    shelf(tmp_path)
    done = trace("pack", ".", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["packed"] == ["a.trace", "b.trace", "c.trace"]
    assert "packed:  0 traces" in trace("pack", ".", cwd=tmp_path).stdout
    refused = trace("pack", "none", cwd=tmp_path, expect=Exit.USAGE)
    assert "none is not a folder" in refused.stderr
    with pytest.raises(UsageError):
        pack(tmp_path / "a.trace")
