"""What the kernel's tracers print: ftrace's block events, and bcc's biosnoop."""

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
from tracer.errors import TraceError
from tracer.op import Flag

FTRACE = """\
# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
          fio-412     [001] .....  5123.000000: block_bio_queue: 8,0 WFS 2048 + 8 [fio]
          fio-412     [001] .....  5123.000001: block_getrq: 8,0 WFS 2048 + 8 [fio]
 kworker/7:1H-250     [007] d..1.  5123.000100: block_rq_issue: 8,0 WS 4096 () 2048 + 8 be,0,4 [kw]
CPU:2 [LOST 12 EVENTS]
       <idle>-0       [001] d.h1.  5123.000300: block_rq_complete: 8,0 WS () 2048 + 8 be,0,4 [0]
 kworker/7:1H-250     [007] ....   5123.000400: block_rq_issue: 8,0 FF 0 () 0 + 0 [kw]
<idle>-0 (  -----) [001] ..s. 5123.000500: block_rq_complete: 8,0 FF () 18446744073709551615 + 0 [0]
       <idle>-0       [001] d.s.  5123.000501: block_rq_complete: 8,0 WS () 2048 + 0 [0]
          a b-4       [001] .....  5123.000600: block_rq_issue: 8,0 RA 4096 () 8 + 8 [a b]
          a b-4       [001] .....  5123.000700: block_rq_issue: 8,0 DS 4096 () 16 + 8 [a]
          a b-4       [001] .....  5123.000800: block_rq_complete: 8,0 RA () 8 + 8 [-5]
          a b-4       [001] .....  5123.000900: block_rq_complete: 8,0 DS () 16 + 8 [0]
          a b-4       [001] .....  5123.001000: block_rq_issue: 8,0 N 36 (12 00 (00)) 0 + 0 [u]
          a b-4       [001] .....  5123.001100: block_rq_issue: 8,0 WZS 0 () 64 + 8 [u]
          a b-4       [001] .....  5123.001200123: block_rq_complete: 8,0 WZS () 64 + 8 [0]
"""

SNOOP = """\
TIME(s)     COMM           PID    DISK    T SECTOR     BYTES  LAT(ms)
0.000000    jbd2/sdb1-8    380    sdb     W 8          4096      3.21
0.001000    my task        5689   sdb     R 16         512       2.00
0.004578    ?              0              R 0          0         4.00
0.007575    jbd2/sdb1-8    380    sdb     W 24         4096      0.10
"""


def test_ftrace(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "trace_pipe", FTRACE)
    assert (made.format, made.device) == ("ftrace", "8,0")
    assert brief(ops) == [
        (WRITE, 1048576, 4096, Flag.FUA), (FLUSH,), (READ, 4096, 4096), (TRIM, 8192, 4096),
        (ZERO, 32768, 4096),
    ]  # fmt: skip
    us = [(0, 200), (300, 400), (500, 700), (600, 800)]
    assert times(ops) == [*((1000 * a, 1000 * b) for a, b in us), (1_000_000, 1_100_123)]
    assert [op.test_status for op in ops] == [0, 0, 5, 0, 0]
    assert made.skipped == {
        "event of another kind": 1,
        "event that the kernel lost": 12,
        "passthrough or zone request": 1,
    }
    replays_clean(tmp_path / "trace_pipe.trace")


def test_a_device_that_issues_nothing(tmp_path: Path) -> None:
    line = " fio-4 [001] ..... 1.00000{}: block_bio_{}: 253,0 {}\n"
    text = line.format(0, "queue", "FWFS 8 + 8 [fio]") + line.format(1, "complete", "WFS 8 + 8 [0]")
    made, ops = bring_in(tmp_path / "t.txt", text)
    assert brief(ops) == [(FLUSH,), (WRITE, 4096, 4096, Flag.FUA)]
    assert (made.device, made.skipped) == ("253,0", {})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("hello", "not an event as ftrace prints it"),
        (" a-1 [001] ..... 6.000000: block_rq_issue: 8,0 W", "not a block_rq_issue event"),
        (" a-1 [001] ..... 6.000000: block_rq_complete: 8,0 W () 8 + 8 [x]", "'x' is not an errno"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, line: str, problem: str) -> None:
    place = FTRACE.count("\n") + 1
    with pytest.raises(TraceError, match=f": line {place}: {re.escape(problem)}"):
        bring_in(tmp_path / "t.txt", FTRACE + line + "\n")


def test_biosnoop(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "b.txt", SNOOP)
    assert (made.format, made.device) == ("biosnoop", "sdb")
    assert brief(ops) == [(WRITE, 4096, 4096), (READ, 8192, 512), (WRITE, 12288, 4096)]
    assert times(ops) == [(0, 3_210_000), (2_210_000, 4_210_000), (10_685_000, 10_785_000)]
    assert made.skipped == {"line without a disk or bytes (a flush, or a command)": 1}
    replays_clean(tmp_path / "b.trace")


def test_biosnoop_with_more_columns(tmp_path: Path) -> None:
    text = """\
TIME(s)     COMM           PID     DISK      T PATTERN SECTOR     BYTES   QUE(ms) LAT(ms)
0.000000    fio            380     nvme0n1   W S       8          4096      0.01   0.321
"""
    _, ops = bring_in(tmp_path / "b.txt", text)
    assert brief(ops) == [(WRITE, 4096, 4096)]
    assert times(ops) == [(0, 321_000)]


def test_files_cut_off_or_damaged(tmp_path: Path) -> None:
    for name, sample in (("ftrace", FTRACE), ("biosnoop", SNOOP)):
        every_cut(tmp_path / "t.txt", sample.encode(), name)
        any_damage(tmp_path / "t.txt", sample.encode(), name)
