"""What a verb opens it closes, whether it succeeds or fails."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from blkbox.main import run
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.system import descriptors, entries
from tracer.disk.file import FileDevice
from tracer.errors import Exit, StorageError, TraceError
from tracer.files import whole
from tracer.op import Kind, Op
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import payload_path
from tracer.trace.records import End

pytestmark = pytest.mark.slow

GOOD = [
    "replay w.trace --driver raw --json",
    "replay w.trace --driver raw --upto 5 --reopen-with raw",
    "show w.trace",
    "show w.trace --ops",
    "show w.trace --sector 3 --json",
    "verify w.trace",
    "history w.trace --sector 3",
    "history w.trace --sector 3 --at 20",
    "checkout w.trace -o state.raw --at 20",
    "cut w.trace --from 3 --to 20 -o part.trace",
    "strip w.trace -o bare.trace",
    "diff w.trace w.trace",
    "import s.txt -o s.trace",
    "export w.trace -o w.log",
    "export w.trace -o w.iolog",
    "export w.trace -o w.json",
    "export w.trace -o w.parquet",
    "export w.trace -o w.arrow",
    "plot timeline w.trace -o t.png",
    "report w.trace -o w.html",
    "doctor",
]

UNDECIDABLE = [  # no op reaches the driver
    "record r.trace --driver raw --size 1M -- true",
    "record h.trace --driver raw --size 1M --payloads hash --json -- true",
    "replay empty.trace --driver raw",
]

BAD = [
    ("record r.trace --driver raw --size 1M -- ./none", Exit.USAGE),
    ("record w.trace --driver raw --size 1M -- true", Exit.USAGE),
    ("record r.trace --driver raw --size 1M --listen unix:no/socket -- true", Exit.USAGE),
    ("replay none.trace --driver raw", Exit.BAD_TRACE),
    ("replay bad.trace --driver raw", Exit.BAD_TRACE),
    ("replay lost.trace --driver raw", Exit.BAD_TRACE),
    ("replay w.trace --driver raw --upto 99", Exit.USAGE),
    ("replay w.trace --driver none.toml", Exit.USAGE),
    ("show bad.trace", Exit.BAD_TRACE),
    ("show text.trace", Exit.BAD_TRACE),
    ("show w.trace --sector 1000000000", Exit.USAGE),
    ("verify bad.trace", Exit.BAD_TRACE),
    ("verify lost.trace", Exit.BAD_TRACE),
    ("history w.trace --sector 3 --at 99", Exit.USAGE),
    ("history bad.trace --sector 3", Exit.BAD_TRACE),
    ("checkout w.trace -o state.raw --at 99", Exit.USAGE),
    ("checkout lost.trace -o state.raw", Exit.BAD_TRACE),
    ("checkout bad.trace -o state.raw", Exit.BAD_TRACE),
    ("cut w.trace --from 20 --to 3 -o part.trace", Exit.USAGE),
    ("cut torn.trace -o part.trace", Exit.BAD_TRACE),
    ("cut bad.trace -o part.trace", Exit.BAD_TRACE),
    ("strip bad.trace -o bare.trace", Exit.BAD_TRACE),
    ("diff w.trace bad.trace", Exit.BAD_TRACE),
    ("diff w.trace none.trace", Exit.BAD_TRACE),
    ("import bad.txt -o s.trace --format qemu-io", Exit.BAD_TRACE),
    ("import s.txt -o s.trace --size 512", Exit.USAGE),
    ("export bad.trace -o w.iolog", Exit.BAD_TRACE),
    ("export torn.trace -o w.log", Exit.BAD_TRACE),
    ("export bad.trace -o w.parquet", Exit.BAD_TRACE),
    ("plot timeline bad.trace -o t.png", Exit.BAD_TRACE),
    ("report bad.trace -o w.html", Exit.BAD_TRACE),
    ("mark here --trace w.trace", Exit.USAGE),
    ("mark here --trace bad.trace", Exit.USAGE),
]


@pytest.fixture(scope="module", autouse=True)
def _libraries(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let polars start its threads and matplotlib open its fonts: they keep those."""
    path = make_trace(tmp_path_factory.mktemp("first") / "w.trace", WORKLOAD)
    picture, page = path.with_suffix(".png"), path.with_suffix(".html")
    assert run(["history", str(path), "--sector", "3"]) == Exit.CLEAN
    assert run(["plot", "timeline", str(path), "-o", str(picture)]) == Exit.CLEAN
    assert run(["report", str(path), "-o", str(page)]) == Exit.CLEAN


@pytest.fixture(autouse=True)
def _folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Good and bad input, in the folder where the verbs run. Nothing is collected meanwhile: what
    is closed was closed by whoever opened it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    make_trace(tmp_path / "w.trace", WORKLOAD)
    make_trace(tmp_path / "empty.trace", [])
    content = (tmp_path / "w.trace").read_bytes()
    stored = payload_path(tmp_path / "w.trace").read_bytes()
    for name in ("bad", "torn"):
        payload_path(tmp_path / f"{name}.trace").write_bytes(stored)
    for name in ("lost", "torn"):
        (tmp_path / f"{name}.trace").write_bytes(content)
    payload_path(tmp_path / "torn.trace").write_bytes(stored[:-20])
    (tmp_path / "bad.trace").write_bytes(content[:-108] + bytes(108))
    (tmp_path / "text.trace").write_text("no trace")
    (tmp_path / "s.txt").write_text("write -P 1 0 64k\nread 0 4k\n")
    (tmp_path / "bad.txt").write_text("write -P 1 0 64k\nread 0 4k\nread 0 4x\n")
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()  # record freezes what is there


@pytest.mark.parametrize(
    ("line", "code"),
    [*((line, Exit.CLEAN) for line in GOOD), *((line, Exit.UNDECIDABLE) for line in UNDECIDABLE)],
)
def test_what_succeeds_leaves_nothing_open(line: str, code: Exit, tmp_path: Path) -> None:
    before = descriptors()
    assert run(line.split()) == code
    assert descriptors() == before
    assert not [name for name in entries(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize(("line", "code"), BAD)
def test_what_fails_leaves_nothing_open_and_nothing_behind(
    line: str, code: Exit, tmp_path: Path
) -> None:
    before, files = descriptors(), entries(tmp_path)
    assert run(line.split()) == code
    assert descriptors() == before
    assert entries(tmp_path) == files


def test_closing_twice_is_harmless() -> None:
    before = descriptors()
    path = Path("w.trace")
    with Trace(path) as trace:
        trace.close()
    with PayloadReader(payload_path(path), trace.header.id) as reader:
        reader.close()
    with TraceWithData(path) as source:
        source.close()
    with FileDevice(path, read_only=True) as device:
        device.close()
    with TraceOutput(Path("new.trace"), Header(512)) as output:
        output.close(End(0, 0, 0, "clean"))
    assert descriptors() == before


def test_what_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    before = descriptors()
    for path, error in (("text.trace", TraceError), ("lost.trace", TraceError)):
        with pytest.raises(error):
            TraceWithData(Path(path))
    os.mkfifo("pipe")
    with pytest.raises(StorageError, match="Illegal seek"):
        FileDevice(Path("pipe"))
    payload_path(tmp_path / "new.trace").mkdir()
    for payloads in ("full", "hash"):
        with pytest.raises(StorageError):
            TraceOutput(tmp_path / "new.trace", Header(512, payloads))
    assert descriptors() == before


# ---------------------------------------------------------------- files that appear whole


def test_several_files_appear_together(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("old")
    files = entries(tmp_path)
    with whole(*(tmp_path / name for name in ("a", "b", "c"))) as folder:
        (folder / "a").write_text("new a")
        (folder / "b").write_text("new b")
        (folder / "scratch").write_text("goes with the folder")
        assert [(tmp_path / name).read_text() for name in ("a", "b", "c")] == ["old"] * 3
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["new a", "new b"]
    assert entries(tmp_path) == [name for name in files if name != "c"]  # it was not written anew


def test_an_interrupt_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    files = entries(tmp_path)

    def interrupted() -> None:
        with whole(tmp_path / "a", tmp_path / "b") as folder:
            (folder / "a").write_text("new")
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert entries(tmp_path) == files
    assert (tmp_path / "a").read_text() == "old"


def test_a_trace_that_is_not_closed_reads_up_to_what_was_flushed() -> None:
    with TraceOutput(Path("t.trace"), Header(512)) as output:
        for seq in range(3):
            op = Op(seq, int(Kind.WRITE), length=512)
            output.store(op, bytes([seq + 1]) * 512)
            output.op(op)
            if seq == 1:
                output.flush()
    with TraceWithData(Path("t.trace")) as source:
        assert source.trace.end is None
        ops = list(source.trace.ops())
        assert [source.data(op) for op in ops] == [b"\1" * 512, b"\2" * 512]
