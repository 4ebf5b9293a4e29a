"""The log of nbdkit's log filter: what nbdkit writes, and what it may."""

import re
from pathlib import Path

import pytest

from tests.kit.foreign import (
    FLUSH,
    READ,
    TRIM,
    WRITE,
    ZERO,
    any_damage,
    brief,
    bring_in,
    every_cut,
    replays_clean,
    times,
)
from tests.kit.peers import need, peer
from tests.kit.traces import read_trace
from tracer.errors import TraceError
from tracer.op import Flag

OTHER = "line about the server or a connection"

LOG = """\
2020-08-06 02:07:23.080000 Ready thread_model=3
2020-08-06 02:07:23.080100 connection=1 Connect export="a b" tls=0 size=0x100000 write=1
2020-08-06 02:07:23.080200 connection=1 Write id=1 offset=0x1000 count=0x1000 fua=1 ...
2020-08-06 02:07:23.080300 connection=1 Read id=2 offset=0x8000 count=0x200 ...
2020-08-06 02:07:23.080400 connection=1 ...Write id=1 return=0
2020-08-06 02:07:23.080500 connection=1 ...Read id=2 return=-1 error=EIO
2020-08-06 02:07:23.080600 connection=1 Zero id=3 offset=0x0 count=0x200 trim=0 fua=0 fast=1 ...
2020-08-06 02:07:23.080700 connection=1 ...Zero id=3 return=0
2020-08-06 02:07:23.080800 connection=1 Flush id=4 ...
"""


def test_what_a_log_says(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "n.log", LOG)
    assert (made.format, made.device) == ("nbdkit", "a b")
    assert brief(ops) == [
        (WRITE, 4096, 4096, Flag.FUA), (READ, 32768, 512),
        (ZERO, 0, 512, Flag.NO_HOLE | Flag.FAST_ZERO), (FLUSH,),
    ]  # fmt: skip
    us = [(0, 200), (100, 300), (400, 500), (600, 600)]
    assert times(ops) == [(1000 * begin, 1000 * end) for begin, end in us]
    assert [op.test_status for op in ops] == [0, 5, 0, 0]
    assert made.skipped == {OTHER: 2, "completion that is missing": 1}
    assert read_trace(tmp_path / "n.trace")[0].header.started == 1_596_679_643_080_200_000


def test_a_log_of_two_servers(tmp_path: Path) -> None:
    """What the first did not complete ends where the second uses its number again."""
    made, ops = bring_in(tmp_path / "n.log", LOG + LOG.replace("02:07:23", "02:07:24"))
    assert len(ops) == 8
    assert made.skipped == {OTHER: 4, "completion that is missing": 2}


def test_what_nbdkit_writes(tmp_path: Path) -> None:
    need("nbdkit")
    need("qemu-io")
    commands = ["write 0 4k", "write -z 64k 64k", "discard 128k 64k", "flush", "read 0 8k"]
    run = "qemu-io -f raw -t writeback $uri " + " ".join(f"-c '{words}'" for words in commands)
    peer("nbdkit", "-U", "-", "--filter=log", "memory", "1M", "logfile=n.log", "--run", run,
         cwd=tmp_path)  # fmt: skip
    made, ops = bring_in(tmp_path / "n.log", (tmp_path / "n.log").read_bytes())
    assert made.format == "nbdkit"
    assert [row for row in brief(ops) if row != (FLUSH,)] == [
        (WRITE, 0, 4096), (ZERO, 65536, 65536, Flag.NO_HOLE), (TRIM, 131072, 65536),
        (READ, 0, 8192),
    ]  # fmt: skip
    assert (FLUSH,) in brief(ops)
    assert set(made.skipped) == {OTHER}
    replays_clean(tmp_path / "n.trace")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("hello", "not a line of nbdkit's log filter"),
        ("2020-13-06 02:07:23.080000 Read id=1", "is not a time"),
        ("2020-08-06 02:07:24.080000 connection=1 Read id=9 ...", "the request has no offset"),
        ("2020-08-06 02:07:24.080000 connection=1 Read offset=0x0 ...", "the request has no id"),
        ("2020-08-06 02:07:24.080000 connection=1 ...Flush id=4 return=-1 error=EODD",
         "EODD is not an errno"),
    ],
)  # fmt: skip
def test_an_error_names_the_line(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(TraceError, match=f": line 10: .*{re.escape(problem)}"):
        bring_in(tmp_path / "n.log", LOG + line + "\n")


def test_a_log_cut_off_or_damaged(tmp_path: Path) -> None:
    every_cut(tmp_path / "n.log", LOG.encode(), "nbdkit")
    any_damage(tmp_path / "n.log", LOG.encode(), "nbdkit")
