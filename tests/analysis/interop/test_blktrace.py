"""blktrace's binary files and blkparse's text: both say the same, and blkparse and fio agree."""

import random
import re
import struct
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from analysis.interop import blk_events
from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.foreign import (
    FLUSH,
    READ,
    RECORDINGS,
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
from tracer.errors import TraceError, UsageError
from tracer.op import Flag, Op

R, W, FL, SYNC, PC, META, DISCARD, FUA = (1 << bit for bit in (0, 1, 2, 3, 9, 12, 13, 15))
WRITE_ZEROES, ZONE_APPEND = 1 << 22, 1 << 16
ACTIONS = {"Q": (1, 4), "M": (2, 4), "G": (4, 4), "R": (6, 5), "D": (7, 6), "C": (8, 7),
           "P": (9, 4), "T": (1, 10), "N": (0, 10)}  # fmt: skip
SDA, SDB = 8 << 20, 8 << 20 | 16


class Log:
    """A file of blktrace's being made: linux/include/uapi/linux/blktrace_api.h."""

    def __init__(self, version: int = 7, order: str = "<") -> None:
        self.version, self.order = version, order
        self.events: list[bytes] = []

    def add(
        self,
        time: int,
        letter: str,
        category: int,
        sector: int = 0,
        sectors: int = 0,
        *,
        error: int = 0,
        data: bytes = b"",
        device: int = SDA,
    ) -> None:
        """An event, by blkparse's letter; or a notice, T for the time and N for a process's
        name."""
        number, bit = ACTIONS[letter]
        action = (category | 1 << bit) << 16 | number
        magic = 0x65617400 | self.version
        head = (magic, len(self.events) + 1, time, sector, sectors * 512)
        tail = (device, 0, error & 0xFFFF, len(data))
        if self.version == 7:
            packed = struct.pack(f"{self.order}IIQQIIIIIHH", *head, action, 77, *tail)
        else:
            packed = struct.pack(f"{self.order}IIQQIIQIIHH12x", *head, 77, action, *tail)
        self.events.append(packed + data)

    @property
    def content(self) -> bytes:
        return b"".join(self.events)


def sample(**options: Any) -> Log:
    """Requests that are in flight together, fail, are requeued, are completed in parts."""
    log = Log(**options)
    log.add(90, "T", 0, data=struct.pack(f"{log.order}II", 1_700_000_000, 500))
    log.add(95, "N", 0, data=b"dd\0")
    log.add(100, "Q", W | SYNC, 8, 8)
    log.add(110, "G", W | SYNC, 8, 8)
    log.add(200, "D", W | SYNC, 8, 8)
    log.add(250, "D", R, 64, 16)
    log.add(300, "C", W | SYNC, 8, 8)
    log.add(400, "C", R, 64, 16, error=-5)
    log.add(500, "D", FL)
    log.add(600, "C", FL)
    log.add(700, "D", W | FUA | META, 128, 8)
    log.add(710, "R", W | FUA | META, 128, 8)
    log.add(720, "D", W | FUA | META, 128, 8)
    log.add(800, "C", W | FUA | META, 128, 2)
    log.add(900, "C", W | FUA | META, 130, 6)
    log.add(1000, "D", W | DISCARD, 256, 256)
    log.add(1050, "D", R | PC, 0, 1, data=b"\x12\0\0\0\x60\0")
    log.add(1060, "C", R | PC, 0, 1, data=b"\x12\0\0\0\x60\0")
    log.add(1100, "C", W | DISCARD, 256, 256)
    log.add(1200, "D", W, 0, 8)
    log.add(1300, "P", 0)
    return log


WANTED = [
    (WRITE, 4096, 4096),
    (READ, 32768, 8192),
    (FLUSH,),
    (WRITE, 65536, 4096, Flag.FUA),
    (TRIM, 131072, 131072),
    (WRITE, 0, 4096),
]
QUEUE = "event inside the kernel's queue, or message"
SKIPPED = {"passthrough or zone request": 1, "completion that is missing": 1, QUEUE: 2}


def test_what_a_kernel_wrote(tmp_path: Path) -> None:
    """blktrace 1.2.0 in a guest with Linux 6.1 and two CPUs, while dd wrote (also with O_DSYNC: the
    disk has no FUA), read and flushed, and blkdiscard trimmed and zeroed. A recorder on the other
    side of the disk saw the same, but for the FUA: the kernel made flushes of it."""
    first, second = (RECORDINGS / f"guest.blktrace.{cpu}" for cpu in range(2))
    (tmp_path / second.name).write_bytes(second.read_bytes())
    made, ops = bring_in(tmp_path / first.name, first.read_bytes())
    assert (made.format, made.device, made.skipped) == ("blktrace", "254,0", {QUEUE: 36})
    assert brief(ops) == [
        (WRITE, 0, 4096), (WRITE, 4096, 4096), (WRITE, 8192, 4096),
        (WRITE, 12288, 4096, Flag.FUA), (FLUSH,), (FLUSH,), (WRITE, 16384, 4096, Flag.FUA),
        (FLUSH,), (FLUSH,),
        (READ, 0, 16384), (WRITE, 6553600, 65536), (READ, 16384, 16384), (READ, 32768, 16384),
        (WRITE, 6619136, 65536), (FLUSH,), (TRIM, 8 << 20, 1 << 20), (WRITE, 4 << 20, 1 << 20),
    ]  # fmt: skip
    # the first read and the write beside it are in flight together
    assert times(ops)[9:11] == [(112_644_280, 113_774_230), (114_042_310, 115_157_640)]
    replays_clean(tmp_path / "guest.blktrace.trace")


def test_a_request_is_completed_again_after_its_flush(tmp_path: Path) -> None:
    log = Log()
    log.add(100, "D", FL)
    log.add(150, "D", W, 0, 8)
    log.add(200, "C", FL)
    log.add(210, "C", W | SYNC, 0, 0)
    log.add(300, "C", W, 0, 8)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert made.skipped == {}
    assert times(ops) == [(0, 100), (50, 200)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [7, 8])
def test_requests_begin_when_issued_and_end_when_completed(
    tmp_path: Path, version: int, order: str
) -> None:
    made, ops = bring_in(tmp_path / "b.bin", sample(version=version, order=order).content)
    assert (made.format, made.device, made.size, made.payloads) == ("blktrace", "8,0", MIB, "hash")
    assert brief(ops) == WANTED
    assert made.skipped == SKIPPED
    assert times(ops) == [(0, 100), (50, 200), (300, 400), (500, 700), (800, 900), (1000, 1000)]
    assert [op.reference_status for op in ops] == [0, 5, 0, 0, 0, 0]
    opened, _ = read_trace(tmp_path / "b.trace")
    assert opened.header.started == 1_700_000_000_000_000_500 + 110
    replays_clean(tmp_path / "b.trace")


def test_version_8_says_write_zeroes(tmp_path: Path) -> None:
    log = Log(version=8)
    log.add(100, "D", W | WRITE_ZEROES, 8, 8)
    log.add(200, "C", W | WRITE_ZEROES, 8, 8)
    log.add(300, "D", W | ZONE_APPEND, 8, 8)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert brief(ops) == [(ZERO, 4096, 4096)]
    assert made.skipped == {"passthrough or zone request": 1}


def test_blkparse_reads_the_same(tmp_path: Path) -> None:
    need("blkparse")
    _, ops = bring_in(tmp_path / "sda.blktrace.0", sample().content)
    text = peer("blkparse", "-i", "sda.blktrace.0", cwd=tmp_path)
    assert "D  WS 8 + 8 [dd]" in text
    assert "CPU0 (sda)" in text  # its summary
    made, parsed = bring_in(tmp_path / "sda.txt", text)
    assert (made.format, made.device, made.skipped) == ("blkparse", "8,0", SKIPPED)
    assert brief(parsed) == brief(ops) == WANTED
    assert times(parsed) == times(ops)
    assert [op.reference_status for op in parsed] == [op.reference_status for op in ops]
    replays_clean(tmp_path / "sda.trace")


def test_what_blkparse_dumps(tmp_path: Path) -> None:
    need("blkparse")
    (tmp_path / "sda.blktrace.0").write_bytes(sample().content)
    peer("blkparse", "-i", "sda.blktrace.0", "-d", "dump.bin", "-O", cwd=tmp_path)
    _, ops = bring_in(tmp_path / "dump.bin", (tmp_path / "dump.bin").read_bytes())
    assert brief(ops) == WANTED


def test_fio_reads_the_same(tmp_path: Path) -> None:
    """What fio asks of a disk when it is given the file, recorded: it replays what was queued."""
    need("fio")
    if "nbd" not in peer("fio", "--enghelp"):
        pytest.skip("this fio has no nbd engine")
    log = Log()
    for number in range(40):
        kind, sectors = (W, R)[number % 2], 8 + number % 3
        log.add(number * 1000, "Q", kind, number * 16, sectors)
        log.add(number * 1000 + 500, "C", kind, number * 16, sectors)
    _, ops = bring_in(tmp_path / "b.bin", log.content)
    guest = ["fio", "--name=j", "--read_iolog=b.bin", "--replay_redirect=disk", "--ioengine=nbd",
             "--uri={nbd}", "--output=out"]  # fmt: skip
    trace("record", "real.trace", "--driver", "raw", "--size", "1M", "--", *guest, cwd=tmp_path)
    recorded = sorted(read_trace(tmp_path / "real.trace")[1], key=lambda op: op.seq)
    assert brief(recorded[:-1]) == brief(ops)


def test_every_cpu_has_a_file(tmp_path: Path) -> None:
    one, two = Log(), Log()
    one.add(100, "D", W, 8, 8)
    two.add(150, "D", R, 64, 8)
    two.add(200, "C", W, 8, 8)
    one.add(300, "C", R, 64, 8)
    one.add(250, "P", 0)
    (tmp_path / "sda.blktrace.1").write_bytes(two.content)
    (tmp_path / "sdb.blktrace.0").write_bytes(sample().content)
    made, ops = bring_in(tmp_path / "sda.blktrace.0", one.content)
    assert (brief(ops), made.skipped) == ([(WRITE, 4096, 4096), (READ, 32768, 4096)], {QUEUE: 1})
    assert times(ops) == [(0, 100), (50, 200)]


def test_a_cpu_that_did_nothing_has_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "sda.blktrace.1").write_bytes(sample().content)
    _, ops = bring_in(tmp_path / "sda.blktrace.0", b"")
    assert brief(ops) == WANTED
    with pytest.raises(TraceError, match="is empty"):
        bring_in(tmp_path / "sda.bin", b"")


def test_a_pipe_has_one_cpu_after_the_other(tmp_path: Path) -> None:
    log = sample()
    shuffled = log.events[::2] + log.events[1::2]
    _, ops = bring_in(tmp_path / "b.bin", b"".join(shuffled))
    assert brief(ops) == WANTED


def test_one_of_several_devices(tmp_path: Path) -> None:
    log = sample()
    log.add(1400, "D", W, 16, 8, device=SDB)
    log.add(1500, "C", W, 16, 8, device=SDB)
    with pytest.raises(
        UsageError, match=re.escape("the devices 8,0 (17), 8,16 (2): give --device")
    ):
        bring_in(tmp_path / "b.bin", log.content)
    _, ops = bring_in(tmp_path / "b.bin", log.content, device="8,16")
    assert brief(ops) == [(WRITE, 8192, 4096)]


def test_a_device_that_issues_nothing_begins_where_it_queues(tmp_path: Path) -> None:
    """As device mapper's do; what was merged is completed together."""
    log = Log()
    log.add(100, "Q", W | FL | FUA, 8, 8)
    log.add(200, "Q", W, 16, 8)
    log.add(300, "C", W, 8, 16)
    log.add(400, "Q", W | FL)
    log.add(500, "C", W | FL)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert made.skipped == {}
    assert brief(ops) == [(FLUSH,), (WRITE, 4096, 4096, Flag.FUA), (WRITE, 8192, 4096), (FLUSH,)]
    assert times(ops) == [(0, 0), (1, 200), (100, 200), (300, 400)]


def test_what_only_the_queue_event_says(tmp_path: Path) -> None:
    """A disk without a volatile cache is issued neither flushes nor FUA."""
    log = Log()
    log.add(100, "Q", W | FL | FUA, 8, 16)
    log.add(200, "D", W, 8, 8)  # the kernel has split it
    log.add(210, "D", W, 16, 8)
    log.add(300, "C", W, 8, 8)
    log.add(310, "C", W, 16, 8)
    log.add(400, "D", W, 8, 8)
    log.add(500, "C", W, 8, 8)
    log.add(600, "Q", W | FL)
    log.add(700, "C", W | FL)
    log.add(800, "Q", W | FUA, 64, 8)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert brief(ops) == [
        (FLUSH,), (WRITE, 4096, 4096, Flag.FUA), (WRITE, 8192, 4096, Flag.FUA),
        (WRITE, 4096, 4096), (FLUSH,),
    ]  # fmt: skip
    assert times(ops) == [(0, 0), (1, 100), (10, 110), (200, 300), (500, 500)]
    assert made.skipped == {blk_events.NOT_ISSUED: 1}


def test_a_flush_that_was_issued_is_not_added_again(tmp_path: Path) -> None:
    log = Log()
    log.add(100, "Q", W | FL, 8, 8)
    log.add(150, "Q", W | FL)
    log.add(200, "D", FL)
    log.add(300, "C", FL)
    log.add(400, "D", W, 8, 8)
    log.add(500, "C", W, 8, 8)
    log.add(600, "Q", W | FL)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert brief(ops) == [(FLUSH,), (WRITE, 4096, 4096), (FLUSH,)]
    assert made.skipped == {"completion that is missing": 1}


def test_requests_that_are_never_issued_take_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blk_events, "LOST", 10)
    log = Log()
    for number in range(20):
        log.add(number, "Q", W | FUA, number * 8, 8)
    log.add(30, "D", W, 0, 8)  # its FUA is forgotten, and counted
    log.add(40, "C", W, 0, 8)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert brief(ops) == [(WRITE, 0, 4096)]
    assert made.skipped == {blk_events.NOT_ISSUED: 20}


def test_a_trim_in_pieces_ends_piece_by_piece(tmp_path: Path) -> None:
    """The kernel reports each piece with the start of the first."""
    log = Log()
    for number in range(3):
        log.add(number, "D", W | DISCARD, 2048 + 100 * number, 100)
    log.add(100, "C", W | DISCARD, 2048, 100)
    log.add(200, "C", W | DISCARD, 2048, 200)
    log.add(250, "D", W, 2148, 8)
    log.add(300, "C", W | DISCARD, 2048, 300)
    log.add(350, "C", W, 2148, 8)
    log.add(400, "C", W | DISCARD, 2048, 300)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert times(ops) == [(0, 100), (1, 200), (2, 300), (250, 350)]
    assert made.skipped == {"completion of what did not begin here": 1}


def test_the_name_of_all_cpus_files(tmp_path: Path) -> None:
    """As ``blkparse -i sda`` takes it."""
    (tmp_path / "sda.blktrace.1").write_bytes(sample().content)
    (tmp_path / "sda.blktrace.0").write_bytes(b"")
    (tmp_path / "sda.blktrace.old").write_bytes(b"x")
    trace("import", "sda", "-o", "x.trace", cwd=tmp_path)
    assert brief(sorted(read_trace(tmp_path / "x.trace")[1], key=lambda op: op.seq)) == WANTED


def test_lines_around_the_events(tmp_path: Path) -> None:
    event = "8,0 0 1 0.00000000{} 1 {} W 0 + 8 [0]\n"
    text = "Input file d.blktrace.0 added\nInput file d.blktrace.1 added\n\n"
    text += event.format(1, "D") + event.format(2, "C") + "CPU0 (d):\n Reads: 0\n"
    made, ops = bring_in(tmp_path / "p.txt", text + event.format(3, "D"))
    assert (made.format, brief(ops)) == ("blkparse", [(WRITE, 0, 4096)])
    assert made.skipped == {"event after the summary": 1}


def test_completions_that_were_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blk_events, "LOST", 10)
    log = Log()
    for number in range(20):
        log.add(number * 100, "D", W, number * 8, 8)
        if number != 3:
            log.add(number * 100 + 50, "C", W, number * 8, 8)
    log.add(2000, "C", W, 24, 8)
    made, ops = bring_in(tmp_path / "b.bin", log.content)
    assert made.skipped == {
        "completion that is missing": 1,
        "completion of what did not begin here": 1,
    }
    assert times(ops)[3] == (300, 1400)
    assert len(ops) == 20


def test_blkparse_text_of_many_kinds(tmp_path: Path) -> None:
    """Lines as blkparse_fmt.c prints them, with times that -t adds."""
    text = """\
  8,0    3        1     0.000000000   697  A   W 223490 + 8 <- (8,1) 223422
  8,0    3        1     0.000000010   697  Q   W 223490 + 8 [kjournald]
  8,0    3        2     0.000000020   697  D   W 223490 + 8 (     120) [kjournald]
259,0    0        0     0.000000025     0  m   N cfq697 insert_request
  8,0    1        3     0.000000030     0  C   W 223490 + 8 (    4000) [0]
  8,0    1        4     0.000000040     0  D  FN [kworker/1:1H]
  8,0    1        5     0.000000050     0  C  FN 0 [0]
  8,0    1        6     0.000000060    12  D  FWFSM 8 + 8 [(od) + [x]
  8,0    1        7     0.000000070     0  C  FWFSM 8 + 8 [65531]
  8,0    1        8     0.000000080    12  D   R 36 (12 00 00 00 24 ..) [udevd]
  8,0    1        9     0.000000090     0  C   R (12 00 00 00 24 ..) [0]
  8,0    1       10     0.000000100     0 UT   N [swapper] 1
CPU0 (sda):
 Reads Queued:           0,        0KiB
"""
    made, ops = bring_in(tmp_path / "p.txt", text)
    assert (made.device, made.skipped) == ("8,0", {"passthrough or zone request": 1, QUEUE: 2})
    assert brief(ops) == [
        (WRITE, 223490 * 512, 4096),
        (FLUSH,),
        (FLUSH,),
        (WRITE, 4096, 4096, Flag.FUA),
    ]
    assert times(ops) == [(0, 10), (20, 30), (40, 40), (41, 50)]
    assert [op.test_status for op in ops] == [0, 0, 0, 5]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("8,0 3 1 0.000000001 697 D W + 8 [x]", "expected a sector and a number"),
        ("8,0 3 1 0.000000001 697 D WX 1 + 8 [x]", "'WX' is not a known kind of request"),
        ("8,0 3 1 0.000000001 697 C W 1 + 8 [x]", "'x' is not an errno"),
        ("8,0 3 1 0.000000001 697 C W 1 + 8", "'' is not an errno"),
        ("8,0 3 1 0.1 697 D W 1 + 8 [x]", "not a line in blkparse's"),
        ("8,0 3 1 0.000000001 697 D W 36893488147419103232 + 8 [x]", "a request for 4096 bytes"),
    ],
)
def test_text_that_is_not_blkparse_s(tmp_path: Path, line: str, problem: str) -> None:
    good = "8,0 3 1 0.000000000 697 D W 1 + 8 [x]\n"
    with pytest.raises(TraceError, match=re.escape(f": line 2: {problem}")):
        bring_in(tmp_path / "p.txt", good + line + "\n", size=MIB)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (Log(version=9), "version 9 of blktrace"),
        (b"\x07taf" + bytes(60), "not an event"),
    ],
)
def test_events_that_are_not_blktrace_s(tmp_path: Path, content: Any, problem: str) -> None:
    if isinstance(content, Log):
        content.add(100, "D", W, 8, 8)
        content = content.content
    good = Log()
    good.add(100, "D", W, 8, 8)
    with pytest.raises(TraceError, match=re.escape(f": byte 48: {problem}")):
        bring_in(tmp_path / "b.bin", good.content + content)


@pytest.mark.slow
def test_binary_cut_off_or_damaged(tmp_path: Path) -> None:
    for version in (7, 8):
        every_cut(tmp_path / "b.bin", sample(version=version).content, "blktrace")
        any_damage(tmp_path / "b.bin", sample(version=version).content, "blktrace")


def test_text_cut_off_or_damaged(tmp_path: Path) -> None:
    need("blkparse")
    (tmp_path / "sda.blktrace.0").write_bytes(sample().content)
    text = peer("blkparse", "-q", "-i", "sda.blktrace.0", cwd=tmp_path).encode()
    every_cut(tmp_path / "p.txt", text, "blkparse")
    any_damage(tmp_path / "p.txt", text, "blkparse")


def test_many_requests_in_flight(tmp_path: Path) -> None:
    """What was in flight together in the source is so in the trace."""
    random.seed(5)
    spans = [(start := number * 10, start + random.randint(1, 400)) for number in range(300)]
    happened = [(a, "D", n) for n, (a, _) in enumerate(spans)] + [
        (b, "C", n) for n, (_, b) in enumerate(spans)
    ]
    log = Log()
    for at, letter, number in sorted(happened):
        log.add(at, letter, W, number * 8, 8)
    _, ops = bring_in(tmp_path / "b.bin", log.content)

    def before(a: Op, b: Op) -> bool:
        return a.completed < b.submitted

    order = sorted(range(300), key=lambda n: spans[n])
    for i, j in combinations(range(300), 2):
        # where times are equal, C stands before D in the file: then it was so
        assert before(ops[i], ops[j]) == (spans[order[i]][1] <= spans[order[j]][0])
    replays_clean(tmp_path / "b.trace")
