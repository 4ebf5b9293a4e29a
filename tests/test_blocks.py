"""Every block of code in README and docs does what it says: tests/kit/blocks.py has the rules."""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

import blkbox
from tests.kit.blocks import RUN, SHOWN, WRITTEN, Block, blocks, run
from tests.kit.command import trace
from tests.kit.data import pattern
from tests.kit.faulty.workload import WORKLOAD
from tests.kit.peers import PEER_ENV, need
from tests.kit.project import with_trace
from tracer.digest import digest
from tracer.op import CARRIES_DATA, Kind, Op
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End, Mark

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): blocks(path.read_text())
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("demo/*.md")])
}
KIB, SIZE = 1024, 2 << 30
OPS = 300
"""More than the numbers of ops on the pages."""


BAD_BUILD = """
create = ["sh", "-c", "truncate -s 1M $0.1; truncate -s 2047M $0.2; touch $0", "{image}"]
serve = ["nbdkit", "--foreground", "--unix", "{socket}", "split", "{image}.1", "{image}.2"]
"""
"""nbdkit's split, which loses what is written to the start of its second file."""


@pytest.mark.parametrize("page", PAGES)
def test_each_block_has_a_language_and_is_run_or_says_why_not(page: str) -> None:
    for block in PAGES[page]:
        where = f"{page}:{block.line}"
        assert block.language in RUN | WRITTEN | SHOWN, f"{where}: give the block a language"
        if (by := block.says("run by")) is not None:
            assert Path(page).name in (ROOT / by).read_text(), f"{where}: {by} is no test of it"
        elif block.language in WRITTEN:
            assert block.says("file") or block.says("not run"), f"{where}: name the block's file"
            tomllib.loads(block.text)


def test_a_command_that_fails_otherwise_than_the_page_says_is_found(tmp_path: Path) -> None:
    def block(text: str, *comments: tuple[str, str], language: str = "sh") -> Block:
        return Block(1, language, text, comments)

    env = dict(PEER_ENV)
    run(block("false\ntrue\n", ("exits 1", "false")), tmp_path, env)
    run(block("$ echo 7 apples \\\n  here\n3 apples here\n", language="console"), tmp_path, env)
    for wrong in (
        block("false\ntrue\n"),
        block("true\n", ("exits 1", "true")),
        block("sh -c 'exit 2'\n", ("exits 1", "sh")),
        block("$ echo apples\npears\n", language="console"),
        block("1 / 0\n", language="python"),
    ):
        with pytest.raises(AssertionError):
            run(wrong, tmp_path, env)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of."""
    folder = tmp_path_factory.mktemp("stage")
    write_trace(folder / "install.trace")
    for name in ("monday", "tuesday", "moved"):
        for suffix in (".trace", ".payloads"):
            shutil.copy(folder / f"install{suffix}", folder / f"{name}{suffix}")
    trace("export", "install.trace", "-o", "writes.log", cwd=folder)
    blkbox.generate(folder / "upgrade.trace", profile="start", ops=50, size=16 << 20)
    (folder / "build.toml").write_text(BAD_BUILD)
    look = ("--driver", "build.toml", "--no-locate", "--no-plot", "--json", "bad.json")
    trace("replay", "install.trace", *look, cwd=folder, expect=1)
    (folder / "guest.sh").write_text("#!/bin/sh\nqemu-io -f raw -c 'write -P 1 0 4k' \"$1\"\n")
    (folder / "guest.sh").chmod(0o755)
    (folder / "io_traces.csv").write_text("419,W,0,4096,1577808144000046\n")
    build = folder / "qemu" / "build"
    build.mkdir(parents=True)
    for name in ("qemu-nbd", "qemu-img"):
        if program := shutil.which(name, path=PEER_ENV["PATH"]):
            (build / name).symlink_to(program)
    return folder


def write_trace(path: Path) -> None:
    """A trace with two marks, whose first ops are those of the workload of tests/kit/faulty."""
    wanted = list(WORKLOAD)
    wanted += [(Kind.WRITE, (1024 + 4 * n) * KIB, 4 * KIB, 0) for n in range(OPS - len(wanted))]
    with TraceOutput(path, Header(SIZE)) as output:
        disk = bytearray(16 << 20)
        for seq, (kind, offset, length, flags) in enumerate(wanted):
            for at, name in ((200, "packages unpacked"), (240, "booted")):
                if seq == at:
                    output.mark(Mark(seq, seq * 100, name))
            op = Op(seq, int(kind), flags, offset, length, submitted=seq * 100,
                    completed=seq * 100 + 50)  # fmt: skip
            if kind in CARRIES_DATA:
                data = pattern(length, seq)
                output.store(op, data)
                disk[offset : offset + length] = data
            elif kind in (Kind.ZERO, Kind.TRIM):
                disk[offset : offset + length] = bytes(length)
            elif kind == Kind.READ:
                op.digest = digest(bytes(disk[offset : offset + length]))
            output.op(op)
        output.close(End(OPS, 0, OPS * 100, "clean"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page: str, stage: Path, tmp_path: Path) -> None:
    """In order, in one folder: a block may use what an earlier one made."""
    need("bash", "qemu-nbd", "qemu-img", "qemu-io", "nbdkit", "nbdcopy")
    folder = tmp_path / "folder"
    shutil.copytree(stage, folder, symlinks=True)
    path = with_trace(tmp_path / "bin", sys.executable)
    environment = {**PEER_ENV, "PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT),
                   "MPLBACKEND": "agg", "TMPDIR": os.environ.get("TMPDIR", "/tmp")}  # fmt: skip
    for block in PAGES[page]:
        if block.says("not run") is not None or block.says("run by") is not None:
            continue
        if (name := block.says("file")) is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(block.text)
        elif block.language in RUN:
            try:
                run(block, folder, environment)
            except AssertionError as error:
                pytest.fail(f"{page}:{block.line}: {error}", pytrace=False)
