"""What ``trace record`` says where the two sides differ."""

from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import SIZE, summary
from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.drivers import serve, toml
from tests.kit.guests import qemu_io, shell
from tests.kit.peers import need
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.errors import Exit
from tracer.op import Fault, Kind


@pytest.fixture
def unlike(tmp_path: Path) -> Path:
    """blkverify's example: a raw image whose first sector is 0xcd, and a test image of zeroes."""
    (tmp_path / "t.raw").write_bytes(b"\xcd" * 512 + bytes(SIZE - 512))
    (tmp_path / "t.test.raw").write_bytes(bytes(SIZE))
    return tmp_path


MISMATCH = "blkbox: read sector_num=0 nb_sectors=1 contents mismatch in sector 0"


def test_images_that_differ_at_the_start_are_refused(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--", "true", cwd=unlike, expect=Exit.USAGE
    )
    assert "differ, first in sector 0" in done.stderr
    assert entries(unlike) == ["t.raw", "t.test.raw"]
    assert (unlike / "t.raw").read_bytes()[:512] == b"\xcd" * 512


def test_the_sector_where_images_differ_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.raw").write_bytes(bytes(SIZE))
    (tmp_path / "t.test.raw").write_bytes(bytes(5 * MIB + 700) + b"x" + bytes(3 * MIB - 701))
    done = trace(
        "record", "t.trace", "--driver", "raw", "--", "true", cwd=tmp_path, expect=Exit.USAGE
    )
    assert "first in sector 10241:" in done.stderr


def test_blkverifys_example(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--", *qemu_io("read 0 512"),
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    assert MISMATCH in done.stderr.splitlines()
    assert "verdict:  damaged (raw)" in done.stdout
    assert "read failed: Input/output error" in done.stdout
    opened, ops = read_trace(unlike / "t.trace")
    first, last = opened.mismatches
    assert (first.fault, first.offset, first.length) == (Fault.DATA, 0, 512)
    assert ops[first.seq - ops[0].seq].kind == Kind.READ
    assert (last.fault, last.offset, last.length) == (Fault.FINAL, 0, 512)
    assert opened.end is not None
    assert (opened.end.verdict, opened.end.mismatches) == ("damaged", 2)


def test_the_first_mismatch_ends_the_recording(unlike: Path) -> None:
    guest = shell(
        'qemu-io -f raw -t writeback -c "write -P 1 4k 512" -c "read 0 512" '
        '-c "write -P 2 8k 512" "$1"'
    )
    need("qemu-io")
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--json", "--", *guest,
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    assert summary(done.stdout)["ops"]["write"] == 1


def test_it_can_go_on_after_a_mismatch(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--on-mismatch", "continue",
        "--json",
        "--", *qemu_io("read -P 0xcd 0 512", "write -P 1 4k 512", "read 0 1k"),
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    result = summary(done.stdout)
    assert result["guest_exit"] == 0
    assert result["verdict"] == "damaged"
    assert [(one["fault"], one["sector"], one["sectors"]) for one in result["mismatches"]] == [
        ("data", 0, 1),
        ("data", 0, 1),
        ("final", 0, 1),
    ]
    assert result["damage"] == [{"sector": 0, "sectors": 1}]
    assert done.stderr.count("contents mismatch in sector 0") == 2
    assert "write" in result["ops"]


def test_damage_that_no_read_met_is_found_at_the_end(unlike: Path) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--json", "--", "true",
        cwd=unlike, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    assert summary(done.stdout)["mismatches"] == [
        {"seq": None, "fault": "final", "sector": 0, "sectors": 1}
    ]
    assert "blkbox: images differ after the run, first in sector 0" in done.stderr


def test_damage_that_was_overwritten_is_none(unlike: Path) -> None:
    trace(
        "record", "t.trace", "--driver", "raw", "--trust-start", "--", *qemu_io("write -P 1 0 512"),
        cwd=unlike,
    )  # fmt: skip


def test_a_wrong_errno_is_a_failed_driver(tmp_path: Path) -> None:
    need("nbdkit")
    serve_ = ["nbdkit", "--foreground", "--unix={socket}", "--filter=error", "memory", "{size}",
              "error-pwrite=ENOSPC", "error-pwrite-rate=100%"]  # fmt: skip
    done = trace(
        "record", "t.trace", "--driver", toml(tmp_path, serve=serve_), "--size", SIZE, "--",
        *qemu_io("write 512 1k"), cwd=tmp_path, expect=Exit.BAD_DRIVER,
    )  # fmt: skip
    line = "blkbox: write sector_num=1 nb_sectors=2 status mismatch: reference success, test ENOSPC"
    assert line in done.stderr.splitlines()
    assert "verdict:  failed (mine)" in done.stdout


def test_junk_after_a_trim_is_wrong_by_the_strict_rule_alone(tmp_path: Path) -> None:
    """A driver whose trim leaves junk, made of nbdkit's sh plugin."""
    need("nbdkit", "qemu-io")
    plugin = tmp_path / "plugin.sh"
    plugin.write_text(
        """#!/bin/sh
case "$1" in
get_size) stat -c %s "$IMAGE" ;;
pread) dd if="$IMAGE" iflag=skip_bytes,count_bytes skip="$4" count="$3" status=none ;;
pwrite) dd of="$IMAGE" oflag=seek_bytes conv=notrunc seek="$4" status=none ;;
can_write|can_trim) exit 0 ;;
trim) head -c "$3" /dev/zero | tr '\\0' '?' |
      dd of="$IMAGE" oflag=seek_bytes conv=notrunc seek="$4" status=none ;;
*) exit 2 ;;
esac
"""
    )
    plugin.chmod(0o755)
    driver = toml(
        tmp_path,
        serve=serve('IMAGE="$2" exec nbdkit --foreground --unix="$1" sh ./plugin.sh'),
    )
    guest = [
        "--",
        "qemu-io",
        "-f",
        "raw",
        "-d",
        "unmap",
        "-c",
        "write 0 4k",
        "-c",
        "discard 0 4k",
        "{nbd}",
    ]
    for rule, expect in (("any", Exit.CLEAN), ("old-or-zero", Exit.BAD_DRIVER)):
        options = ["--size", "64k", "--trim", rule]
        trace(
            "record",
            f"{rule}.trace",
            "--driver",
            driver,
            *options,
            *guest,
            cwd=tmp_path,
            expect=expect,
        )
        assert read_trace(tmp_path / f"{rule}.trace")[0].header.trim == rule
