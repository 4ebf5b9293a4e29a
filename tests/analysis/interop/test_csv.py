"""The traces that research uses: MSR Cambridge, Alibaba, SPC, FIU, Tencent and SYSTOR '17."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from analysis.interop import sink, spans
from analysis.interop.importing import import_trace
from tests.kit.data import MIB
from tests.kit.foreign import (
    READ,
    WRITE,
    any_damage,
    brief,
    bring_in,
    every_cut,
    replays_clean,
    times,
)
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.errors import TraceError, UsageError

MSR = """\
128166372003061629,usr,0,Read,7014609920,24576,41286
128166372016382155,usr,0,Write,1317441536,8192,1963
128166372016384155,usr,0,Read,2436440064,4096,1835
128166372026382245,usr,0,Write,2436440064,0,1835
128166372026382245,usr,0,Write,2436440064,1024,1835
"""

ALIBABA = """\
419,W,8792728,16384,1577808144360767
419,R,40960,4096,1577808144360767
419,R,40960,4096,1577808144360766
419,W,512,512,1577808144400000
"""


def test_msr(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "usr_0.csv", MSR)
    assert (made.format, made.device, made.payloads) == ("msr", "usr_0", "hash")
    assert made.skipped == {"empty request": 1}
    assert made.size == 6690 * MIB
    assert brief(ops) == [
        (READ, 7014609920, 24576),
        (WRITE, 1317441536, 8192),
        (READ, 2436440064, 4096),
        (WRITE, 2436440064, 1024),
    ]
    # file times are units of 100 ns; the second was done 3.7 us before the third came
    assert times(ops) == [
        (0, 4_128_600),
        (1_332_052_600, 1_332_248_900),
        (1_332_252_600, 1_332_436_100),
        (2_332_061_600, 2_332_245_100),
    ]
    opened, _ = read_trace(tmp_path / "usr_0.trace")
    assert opened.header.started == 1_172_163_600_306_162_900  # 2007-02-22 17:00:00 UTC


def test_msr_requests_are_in_flight_together(tmp_path: Path) -> None:
    lines = [
        "128166372000000100,web,1,Write,0,4096,50",
        "128166372000000000,web,1,Write,8192,4096,1000",
        "128166372000000200,web,1,Read,65536,4096,10",
        "128166372000002000,web,1,Read,0,512,1",
    ]
    _, ops = bring_in(
        tmp_path / "web.csv", "Timestamp,Hostname,DiskNumber,Type,...\r\n" + "\r\n".join(lines)
    )
    assert [op.offset for op in ops] == [8192, 0, 65536, 0]
    assert times(ops) == [(0, 100_000), (10_000, 15_000), (20_000, 21_000), (200_000, 200_100)]
    assert [op.offset for op in read_trace(tmp_path / "web.trace")[1]] == [0, 65536, 8192, 0]
    replays_clean(tmp_path / "web.trace")


def test_what_is_in_flight_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "LOST", 3)
    lines = [f"{128166372000000000 + n},web,1,Write,{n * 4096},4096,{10**9 - n}" for n in range(6)]
    made, ops = bring_in(tmp_path / "web.csv", "\n".join(lines))
    assert made.skipped == {spans.TOO_LATE: 3}
    still = [(at, 10**11) for at in (301, 401, 501)]
    assert times(ops) == [(0, 300), (100, 400), (200, 500), *still]
    replays_clean(tmp_path / "web.trace")


def test_devices_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "MAX_DEVICES", 3)
    lines = [f"{128166372000000000 + n},web,{n},Write,0,4096,50" for n in range(4)]
    (tmp_path / "web.csv").write_text("\n".join(lines))
    with pytest.raises(TraceError, match=r"line 4: this is the device number 4: too many"):
        import_trace(tmp_path / "web.csv", tmp_path / "web.trace", device="web_0")
    assert entries(tmp_path) == ["web.csv"]


def test_alibaba(tmp_path: Path) -> None:
    made, ops = bring_in(
        tmp_path / "io.csv", "device_id,opcode,offset,length,timestamp\n" + ALIBABA
    )
    assert (made.format, made.device, made.payloads) == ("alibaba", "419", "hash")
    assert brief(ops) == [
        (WRITE, 8792728, 16384),
        (READ, 40960, 4096),
        (READ, 40960, 4096),
        (WRITE, 512, 512),
    ]
    assert [op.submitted for op in ops] == [0, 1, 2, 39_233_000]
    assert all(a.completed < b.submitted for a, b in pairwise(ops))
    opened, _ = read_trace(tmp_path / "io.trace")
    assert opened.header.started == 1_577_808_144_360_767_000
    replays_clean(tmp_path / "io.trace")


SPC = """\
0,8,8192,W,0.551706
0, 16, 512, r, 0.554041, 7, 8
1,8,512,R,0.6
0,24,0,W,0.7
"""

FIU = """\
89966680272 4892 syslogd 8 8 W 6 0 531e779d2a4fe0e0
89966690272 -1 my daemon 16 1 R 6 0 531e 71ab
"""

TENCENT = """\
1538323200,8,128,1,1283
1538323200,16,1,0,1283
"""

SYSTOR = """\
1456135200.013118000,0.000806000,R,0,4096,131072
1456135200.013218000,0.000100000,W,0,0,512
1456135200.014000000,,,0,0,512
1456135200.015000000,,W,0,8192,512
"""


def test_spc(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "f.spc", SPC, device="0")
    assert (made.format, brief(ops)) == ("spc", [(WRITE, 4096, 8192), (READ, 8192, 512)])
    assert [op.submitted for op in ops] == [0, 2_335_000]
    assert made.skipped == {"empty request": 1, "line's optional fields": 1}
    replays_clean(tmp_path / "f.trace")


def test_fiu(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "f.blkparse", FIU)
    assert (made.format, made.device, made.skipped) == ("fiu", "6,0", {})
    assert brief(ops) == [(WRITE, 4096, 4096), (READ, 8192, 512)]
    assert [op.submitted for op in ops] == [0, 10_000]
    replays_clean(tmp_path / "f.trace")


def test_tencent(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "f.csv", "Timestamp,Offset,Size,IOType,VolumeID\n" + TENCENT)
    assert (made.format, made.device, made.skipped) == ("tencent", "1283", {})
    assert brief(ops) == [(WRITE, 4096, 65536), (READ, 8192, 512)]
    assert [op.submitted for op in ops] == [0, 1]  # the order of the lines
    assert read_trace(tmp_path / "f.trace")[0].header.started == 1_538_323_200_000_000_000


def test_systor(tmp_path: Path) -> None:
    title = "Timestamp,Response,IOType,LUN,Offset,Size\n"
    made, ops = bring_in(tmp_path / "f.csv", title + SYSTOR)
    assert (made.format, made.device) == ("systor", "0")
    assert brief(ops) == [(READ, 4096, 131072), (WRITE, 0, 512), (WRITE, 8192, 512)]
    assert times(ops) == [(0, 806_000), (100_000, 200_000), (1_882_000, 1_882_000)]
    assert made.skipped == {"request without a response, which may be a read or a write": 1}
    assert read_trace(tmp_path / "f.trace")[0].header.started == 1_456_135_200_013_118_000
    replays_clean(tmp_path / "f.trace")


@pytest.mark.parametrize(
    ("content", "told", "device"),
    [
        (MSR + MSR.replace("usr,0", "usr,1"), "usr_0 (5), usr_1 (5)", "usr_1"),
        (ALIBABA + "7,R,0,512,1577808144400000\n", "419 (4), 7 (1)", "7"),
    ],
)
def test_one_of_several_disks(tmp_path: Path, content: str, told: str, device: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"has the devices {told}: give --device")):
        bring_in(tmp_path / "t.csv", content)
    made, ops = bring_in(tmp_path / "t.csv", content, device=device)
    assert made.device == device
    assert len(ops) == {"usr_1": 4, "7": 1}[device]


def test_many_disks_are_not_all_named(tmp_path: Path) -> None:
    content = "".join(f"{number},R,0,512,{number}\n" for number in range(25))
    with pytest.raises(UsageError, match=re.escape("9 (1) and 15 more: give --device")):
        bring_in(tmp_path / "t.csv", content)


@pytest.mark.parametrize(
    "line",
    [
        "128166372003061629,usr,0,Flush,0,512,1",
        "128166372003061629,usr,0,Read,-1,512,1",
        "128166372003061629,usr,0,Read,0,512",
        "419,T,0,512,1",
        "419,R,0,512,1.5",
        "Timestamp,Hostname,",
        "device_id,opcode,",
    ],
)
def test_an_error_names_the_line(tmp_path: Path, line: str) -> None:
    content = (ALIBABA if line[0] in "4d" else MSR) + "\n" + line
    place = content.count("\n") + 1
    with pytest.raises(TraceError, match=f": line {place}: not a line of the form "):
        bring_in(tmp_path / "t.csv", content)


def test_a_file_cut_off_or_damaged(tmp_path: Path) -> None:
    one_device = {"spc": SPC.replace("\n1,", "\n0,"), "tencent": TENCENT.replace("1283", "7")}
    samples = {"msr": MSR, "alibaba": ALIBABA, "fiu": FIU, "systor": SYSTOR, **one_device}
    for name, sample in samples.items():
        every_cut(tmp_path / "t.csv", sample.encode(), name)
        any_damage(tmp_path / "t.csv", sample.encode(), name)
