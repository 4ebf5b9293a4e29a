"""Scripts: what they expect of the disk, and that the real programs run them."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from replay.minimize.program import Fill, Program, Step
from replay.script.about import About
from replay.script.expected import Disk, Piece, why_not
from replay.script.iotest import iotest
from replay.script.nbdsh import Server, nbdsh_script
from replay.script.qemu_io import Image, qemu_io_script, why_not_qemu_io
from tests.kit.peers import PEER_ENV, need
from tracer.op import Flag, Kind

KIB = 1024
ABOUT = About(
    fault="damaged: wrong data", driver="qcow2", trace="t.trace", ops=3, versions=("qemu-nbd 9",),
    should="reads return what was written", does="they do not", steps=("#0 write",), odds="",
)  # fmt: skip
QCOW2 = Image(
    "qcow2", ("create", "-q", "-f", "qcow2", "{image}", "{size}"), ("--format=qcow2", "{image}"),
    ("--persistent", "--discard=unmap"), ("check", "-f", "qcow2", "{image}"),
)  # fmt: skip


def step(
    kind: Kind, offset: int = 0, length: int = 4 * KIB, *, byte: int | None = None, begin: int = 0,
    end: int | None = None, flags: int = 0, restart: bool = False, connection: int = 1,
) -> Step:  # fmt: skip
    fill = Fill(byte=byte) if byte is not None else None
    return Step(int(kind), flags, offset, length, connection, begin,
                begin + 1 if end is None else end, fill, restart)  # fmt: skip


def everything() -> Program:
    """A program with every kind that qemu-io has, alone and together, and a restart."""
    return Program(
        1 << 20,
        (
            step(Kind.WRITE, 0, 64 * KIB, byte=1, begin=0),
            step(Kind.ZERO, 8 * KIB, flags=int(Flag.NO_HOLE), begin=2),
            step(Kind.ZERO, 16 * KIB, flags=int(Flag.FUA), begin=4),
            step(Kind.READ, 0, 8 * KIB, begin=6),
            step(Kind.FLUSH, 0, 0, begin=8),
            step(Kind.WRITE, 512 * KIB, byte=2, begin=10, end=30, flags=int(Flag.FUA)),
            step(Kind.WRITE, 512 * KIB, byte=3, begin=11, end=30),
            step(Kind.READ, 512 * KIB, begin=12, end=30),
            step(Kind.TRIM, 32 * KIB, begin=13, end=30),
            step(Kind.WRITE, 700 * KIB, 1024, byte=4, begin=32, restart=True),
        ),
    )


def test_what_the_disk_may_hold() -> None:
    program = everything()
    disk = Disk(program)
    disk.done(program.steps[:1])
    assert disk.final() == [Piece(0, 64 * KIB, (1,)), Piece(64 * KIB, 1 << 20, (0,))]
    together = program.steps[5:9]
    assert [(one.kind, pieces) for one, pieces in disk.reads(together)] == [
        (Kind.READ, [Piece(512 * KIB, 516 * KIB, (0, 2, 3))])
    ]
    disk.done(together)
    final = disk.final()
    assert Piece(512 * KIB, 516 * KIB, (2, 3)) in final
    trimmed = 32 * KIB
    assert not any(piece.start <= trimmed < piece.stop for piece in final)


def test_of_a_large_disk_what_is_around_the_steps() -> None:
    program = Program(1 << 44, (step(Kind.WRITE, 1 << 43, byte=9),))
    disk = Disk(program)
    disk.done(program.steps)
    assert sum(piece.stop - piece.start for piece in disk.final()) < 8 << 20


def test_what_cannot_be_a_script() -> None:
    recorded = Program(4096, (Step(int(Kind.WRITE), 0, 0, 4096, 1, 0, 1, Fill(number=3)),))
    assert why_not(recorded) is not None
    assert why_not_qemu_io(Program(4096, (step(Kind.CACHE),))) is not None
    assert why_not_qemu_io(everything()) is None


def run(path: Path, script: str, command: Sequence[str], **env: str) -> tuple[int, str]:
    path.write_text(script)
    done = subprocess.run(
        [*command, path], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **env},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("served", [False, True])
def test_qemu_io_says_that_a_good_build_is_good(tmp_path: Path, served: bool) -> None:
    for name in ("qemu-io", "qemu-img", "qemu-nbd"):
        need(name)
    text = qemu_io_script(everything(), QCOW2, ABOUT, served=served)
    assert run(tmp_path / "a.sh", text, ["sh"], ATTEMPTS="2") == (0, "no fault\n")
    assert subprocess.run(["sh", "-n", tmp_path / "a.sh"], check=False).returncode == 0


def found(program: str) -> str:
    """The path of a real program."""
    need(program)
    return str(shutil.which(program, path=PEER_ENV["PATH"]))


def bad(tmp_path: Path, program: str, text: str) -> str:
    """A program that does something else first."""
    real = found(program)
    path = tmp_path / f"bad-{program}"
    path.write_text(f'#!/bin/sh\n{text}\nexec {real} "$@"\n')
    path.chmod(0o755)
    return str(path)


SED = """for word do shift; set -- "$@" "$(echo "$word" | sed '{}')"; done"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SED.format("s/^write -P 1 /write -P 9 /"), "fault: wrong data at byte 0 (live)"),
        (SED.format("s/^aio_write -f -P 2/aio_write -P 7/; s/^aio_write -P 3/aio_write -P 7/"),
         "fault: wrong data at byte 524288 (live)"),
        ("kill -ABRT $$", "fault: qemu-io died, exit status 134 (live)"),
        ("exit 139", "fault: qemu-io died, exit status 139"),
    ],
)  # fmt: skip
def test_qemu_io_says_that_a_bad_build_is_bad(tmp_path: Path, text: str, said: str) -> None:
    script = qemu_io_script(everything(), QCOW2, ABOUT, served=False)
    program = bad(tmp_path, "qemu-io", text)
    code, out = run(tmp_path / "a.sh", script, ["sh"], QEMU_IO=program, QEMU_IMG=found("qemu-img"))
    assert code == 1, out
    assert said in out


def test_a_failed_check_is_a_fault(tmp_path: Path) -> None:
    text = '[ "$1" = check ] && { echo "ERROR cluster 5 refcount=0 reference=1"; exit 2; }'
    program = bad(tmp_path, "qemu-img", text)
    script = qemu_io_script(everything(), QCOW2, ABOUT, served=False)
    code, out = run(tmp_path / "a.sh", script, ["sh"], QEMU_IMG=program, QEMU_IO=found("qemu-io"))
    assert code == 1
    assert "fault: the check failed: ERROR cluster 5" in out


def test_without_the_programs_it_cannot_be_tried(tmp_path: Path) -> None:
    script = qemu_io_script(everything(), QCOW2, ABOUT, served=False)
    assert run(tmp_path / "a.sh", script, ["sh"], QEMU_IMG="/no/such")[0] == 125


def python() -> str:
    """A Python that has libnbd's module."""
    need("nbdsh")  # the package python3-libnbd has both
    return found("python3")


def nbdkit_memory(tmp_path: Path, *filters: str) -> Server:
    return Server(
        serve=(found("nbdkit"), "-f", "-U", "{socket}", *filters, "file", "{image}"),
        create=None, check=None, check_passes=(0,), env={}, export="",
    )  # fmt: skip


def test_nbdsh_says_that_a_good_server_is_good(tmp_path: Path) -> None:
    program = Program(1 << 20, (*everything().steps, step(Kind.CACHE, begin=40, connection=2),
                                step(Kind.BLOCK_STATUS, begin=42)))  # fmt: skip
    script = nbdsh_script(program, nbdkit_memory(tmp_path, "--filter=cache"), ABOUT)
    assert run(tmp_path / "a.py", script, [python()], ATTEMPTS="2") == (0, "no fault\n")


def test_nbdsh_says_that_a_bad_server_is_bad(tmp_path: Path) -> None:
    # the cow filter loses what was written when the server stops
    script = nbdsh_script(everything(), nbdkit_memory(tmp_path, "--filter=cow"), ABOUT)
    code, out = run(tmp_path / "a.py", script, [python()])
    assert code == 1
    assert "fault" in out


def test_an_iotest_is_shell(tmp_path: Path) -> None:
    text = iotest(everything(), QCOW2, ABOUT)
    path = tmp_path / "iotest"
    path.write_text(text)
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    assert "aio_write -f -P 2" in text
    assert "_supported_fmt qcow2" in text
