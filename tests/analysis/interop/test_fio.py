"""fio's iologs: what fio writes is imported, what we export fio runs."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from analysis.interop.exporting import export_trace
from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.foreign import (
    FLUSH,
    READ,
    TRIM,
    WRITE,
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
from tracer.op import NO_PAYLOAD, Kind

V3 = """\
fio version 3 iolog
18 /disk add
142 /disk open
147 /disk read 61440 4096
2182 /disk write 774144 4096
2182 /disk write 0 512
2183 /disk sync 0 0
2200 /disk datasync 4096 4096
2301 /disk trim 1048576 65536
2302 /disk read 0 0
2302 /disk close
"""

V2 = """\
fio version 2 iolog
/disk add
/disk open
/disk read 61440 4096
/disk wait 2000 0
/disk write 774144 4096
/disk close
"""


def test_version_3(tmp_path: Path) -> None:
    made, ops = bring_in(tmp_path / "f.iolog", V3)
    assert (made.format, made.device, made.size, made.payloads) == ("fio", "/disk", 2 * MIB, "hash")
    assert made.skipped == {"empty request": 1}
    assert brief(ops) == [
        (READ, 61440, 4096), (WRITE, 774144, 4096), (WRITE, 0, 512), (FLUSH,), (FLUSH,),
        (TRIM, 1048576, 65536),
    ]  # fmt: skip
    submitted = [op.submitted for op in ops]
    assert submitted == [0, 2035000, 2035001, 2036000, 2053000, 2154000]
    assert all(a.completed < b.submitted for a, b in pairwise(ops))


def test_version_2(tmp_path: Path) -> None:
    _, ops = bring_in(tmp_path / "f.iolog", V2)
    assert brief(ops) == [(READ, 61440, 4096), (WRITE, 774144, 4096)]
    assert times(ops) == [(0, 0), (2_000_000, 2_000_000)]


def test_what_fio_skips_is_counted(tmp_path: Path) -> None:
    lines = ["sync_file_range 0 4096", "wait 100 0", "polish 0 1", "unlink"]
    made, ops = bring_in(tmp_path / "f.iolog", V3 + "".join(f"9 /disk {line}\n" for line in lines))
    assert len(ops) == 6
    assert made.skipped == {
        "empty request": 1,
        "sync_file_range": 1,
        "wait, which fio skips in version 3": 1,
        "action that fio does not know": 2,
    }


def test_payloads_are_made_up_alike_and_differ(tmp_path: Path) -> None:
    _, first = bring_in(tmp_path / "a.iolog", V3)
    _, again = bring_in(tmp_path / "b.iolog", V3)
    assert [op.digest for op in first] == [op.digest for op in again]
    writes = [op for op in first if op.kind == Kind.WRITE]
    assert len({op.digest for op in writes}) == 2
    assert {op.payload for op in first} == {NO_PAYLOAD}
    replays_clean(tmp_path / "a.trace")


def test_one_of_several_files(tmp_path: Path) -> None:
    both = V3 + "2400 /other write 0 4096\n2401 /other write 8192 4096\n"
    with pytest.raises(
        UsageError, match=re.escape("the devices /disk (7), /other (2): give --device")
    ):
        bring_in(tmp_path / "f.iolog", both)
    with pytest.raises(
        UsageError, match=re.escape("the devices /disk (7), /other (2): give --device")
    ):
        bring_in(tmp_path / "f.iolog", both, device="/none")
    made, ops = bring_in(tmp_path / "f.iolog", both, device="/other")
    assert made.device == "/other"
    assert brief(ops) == [(WRITE, 0, 4096), (WRITE, 8192, 4096)]


def test_what_fio_writes(tmp_path: Path) -> None:
    need("fio")
    (tmp_path / "disk").write_bytes(bytes(MIB))
    peer(
        "fio", "--name=j", "--filename=disk", "--rw=randrw", "--bs=4k", "--size=1M",
        "--io_size=256k",
        "--fdatasync=4", "--ioengine=psync", "--write_iolog=f.iolog", "--output=out", cwd=tmp_path,
    )  # fmt: skip
    text = (tmp_path / "f.iolog").read_text()
    assert text.startswith("fio version 3 iolog\n")
    _, ops = bring_in(tmp_path / "f.iolog", text)
    assert sum(op.kind in (Kind.READ, Kind.WRITE) for op in ops) == 64
    wanted = [
        line.split()[2:] for line in text.splitlines() if re.search(r"(read|write|sync) \d", line)
    ]
    assert [[Kind(op.kind).label, str(op.offset), str(op.length)] for op in ops] == [
        ["flush", "0", "0"] if "sync" in action else [action, offset, length]
        for action, offset, length in wanted
    ]
    replays_clean(tmp_path / "f.trace")


def test_fio_runs_what_is_exported(tmp_path: Path) -> None:
    """What fio asks of a disk when it is given an iolog of ours, recorded."""
    need("fio")
    if "nbd" not in peer("fio", "--enghelp"):
        pytest.skip("this fio has no nbd engine")
    script = (
        "write 0 4k\naio_write 64k 64k\naio_write -z 128k 64k\naio_flush\nread 0 8k\nflush\n"
        "discard 0 1M\nwrite -f 700k 1k\n"
    )
    _, ops = bring_in(tmp_path / "s.txt", script)
    made = export_trace(tmp_path / "s.trace", tmp_path / "s.iolog")
    assert made.left_out == {}
    guest = [
        "fio",
        "--name=j",
        "--read_iolog=s.iolog",
        "--ioengine=nbd",
        "--uri={nbd}",
        "--output=out",
    ]
    trace("record", "real.trace", "--driver", "raw", "--size", "1M", "--", *guest, cwd=tmp_path)
    recorded = sorted(read_trace(tmp_path / "real.trace")[1], key=lambda op: op.seq)[:-1]
    # fio has no write zeroes, and fio 3.33 leaves trims out ("bad ddir")
    wanted = [(WRITE, *row[1:3]) if row[0] == "zero" else row[:3] for row in brief(ops)]
    found = [row for row in brief(recorded) if row[0] != TRIM]
    assert found == [row for row in wanted if row[0] != TRIM]


def test_the_same_place_is_written_with_other_data(tmp_path: Path) -> None:
    _, ops = bring_in(
        tmp_path / "f.iolog", V2 + "/disk write 774144 4096\n/disk write 774144 4096\n"
    )
    assert len({op.digest for op in ops if op.kind == Kind.WRITE}) == 3


def test_a_large_zero_is_exported_in_pieces(tmp_path: Path) -> None:
    """fio takes memory for a whole write, and these are writes to it."""
    bring_in(tmp_path / "s.txt", "write -z 0 40M\ndiscard 0 40M\n")
    export_trace(tmp_path / "s.trace", tmp_path / "s.iolog")
    lines = (tmp_path / "s.iolog").read_text().splitlines()[3:-1]
    assert lines == [
        "0 s.raw write 0 33554432",
        "0 s.raw write 33554432 8388608",
        "1 s.raw trim 0 41943040",
    ]


def test_an_export_imports(tmp_path: Path) -> None:
    _, ops = bring_in(tmp_path / "a.iolog", V3)
    export_trace(tmp_path / "a.trace", tmp_path / "b.iolog")
    _, again = bring_in(tmp_path / "b.iolog", (tmp_path / "b.iolog").read_text())
    assert brief(again) == brief(ops)
    assert [op.submitted // 1000 for op in again] == [op.submitted // 1000 for op in ops]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x /disk read 0 1", "'x' is not a time"),
        ("1 /disk read 0", "expected a file, an action, an offset and a length"),
        ("1 /disk read -1 5", "'-1' is not a number of bytes"),
        ("1 /disk read ²1 5", "'²1' is not a number of bytes"),
        ("1 /disk read 123456789012345678901 5", "is not a number of bytes"),
        ("1 /disk read 99999999999999999999 5", "no disk is so large"),
        ("1 /disk read 4611686018427387903 2", "no disk is so large"),
        ("\0", "it contains a NUL"),
        ("x" * 70000, "it has more than"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(TraceError, match=re.escape(problem)) as caught:
        bring_in(tmp_path / "f.iolog", f"{V3}{line}\n")
    assert ": line 12: " in str(caught.value)
    assert not (tmp_path / "f.trace").exists()


def test_an_iolog_cut_off_or_damaged(tmp_path: Path) -> None:
    for sample in (V3, V2):
        every_cut(tmp_path / "f.iolog", sample.encode(), "fio")
        any_damage(tmp_path / "f.iolog", sample.encode(), "fio")
