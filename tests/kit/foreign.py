"""What the tests of imports and exports share."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.interop.formats import IMPORTS
from analysis.interop.importing import Imported, import_trace
from analysis.interop.sink import Survey
from tests.kit.command import trace
from tests.kit.traces import read_trace
from tracer.digest import digest
from tracer.errors import TraceError, UsageError
from tracer.op import Kind, Op
from tracer.rework.verify import verify
from tracer.trace.data import TraceWithData

RECORDINGS = Path(__file__).parent / "recordings"
"""What the kernel wrote in a guest with Linux 6.1."""

DISK = 1 << 40
"""Bytes of a disk on which every request of a sample has room."""

FLUSH, READ, WRITE, TRIM, ZERO = "flush", "read", "write", "trim", "zero"


def bring_in(path: Path, content: bytes | str, **options: Any) -> tuple[Imported, list[Op]]:
    """Import ``content`` by way of the file ``path``; check the trace; its ops by seq."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    target = path.with_suffix(".trace")
    made = import_trace(path, target, force=True, **options)
    found = verify(target)
    assert found.ok, found.problems
    return made, sorted(read_trace(target)[1], key=lambda op: op.seq)


def brief(ops: list[Op]) -> list[tuple[Any, ...]]:
    """Ops as ``(kind, offset, length, flags)``, as far as they go."""
    rows = []
    for op in ops:
        row = (Kind(op.kind).label, op.offset, op.length, op.flags)
        rows.append(row[:1] if op.kind == Kind.FLUSH else row if op.flags else row[:3])
    return rows


def times(ops: list[Op]) -> list[tuple[int, int]]:
    """When ops were submitted and completed."""
    return [(op.submitted, op.completed) for op in ops]


def disk_after(path: Path, size: int) -> bytes:
    """What a disk holds after a trace's ops, by seq."""
    disk = bytearray(size)
    with TraceWithData(path) as source:
        for op in sorted(source.trace.ops(), key=lambda op: op.seq):
            if op.kind in (Kind.TRIM, Kind.ZERO):
                disk[op.offset : op.end] = bytes(op.length)
            elif op.kind in (Kind.WRITE, Kind.START):
                data = source.data(op)
                assert data is not None
                disk[op.offset : op.end] = data
            elif op.kind == Kind.READ and source.real:
                assert digest(bytes(disk[op.offset : op.end])) == op.digest
    return bytes(disk)


def replays_clean(path: Path) -> None:
    """A raw disk takes a trace without a difference."""
    trace("replay", path, "--driver", "raw", "--no-plot", cwd=path.parent)


def survey(path: Path, content: bytes, name: str) -> str | None:
    """Read a file as a format, without writing a trace; what is wrong with it."""
    path.write_bytes(content)
    form = IMPORTS[name]
    with form.source(path) as file:
        try:
            form.read(file, Survey(file, None))
        except TraceError as error:
            return str(error)
    return None


def every_cut(path: Path, content: bytes, name: str) -> None:
    """A file that is cut off anywhere is read, or is refused with the place; nothing else
    happens."""
    problems = [survey(path, content[:end], name) for end in range(len(content))]
    assert any(problems)
    for problem in filter(None, problems):
        assert re.search(r": (line|byte) \d+: ", problem), problem
    for end in range(0, len(content), len(content) // 20):
        if problems[end] is None:
            bring_in(path, content[:end], name=name, size=DISK)
        else:
            path.write_bytes(content[:end])
            with pytest.raises(TraceError):
                import_trace(path, path.with_name("refused.trace"), name=name, size=DISK)
            assert not path.with_name("refused.trace").exists()


def any_damage(path: Path, content: bytes, name: str) -> None:
    """Whatever bytes are changed, the file is read or refused; no other exception comes of it."""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
    @given(
        st.lists(
            st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=4
        )
    )
    def check(changes: list[tuple[int, int]]) -> None:
        damaged = bytearray(content)
        for at, value in changes:
            damaged[at] = value
        path.write_bytes(damaged)
        problem = ": byte 0: "
        try:
            import_trace(path, target, name=name, size=DISK, force=True)
        except UsageError:
            pass  # it names two devices now, or one that is larger
        except TraceError as error:
            problem = str(error)
        else:
            assert verify(target).ok
        assert re.search(r": (line|byte) \d+: ", problem), problem

    target = path.with_name("damaged.trace")
    check()
