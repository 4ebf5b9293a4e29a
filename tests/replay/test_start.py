"""The data that a disk starts with, brought below the driver."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.options import ReplayOptions
from replay.start import Start, plan
from tests.kit import small_disk
from tests.kit.faulty.workload import KIB, make_trace
from tests.kit.system import entries
from tracer.driver.driver import Driver
from tracer.errors import StorageError, UsageError
from tracer.op import Kind, Op
from tracer.trace.data import TraceWithData
from tracer.verdict import StartKind

RAW = Driver("raw", suffix="raw")
ON_BASE = Driver("mine", create=("make", "{base}"), serve=("serve", "{socket}"))
NEITHER = Driver("neither", serve=("serve", "{socket}"))

TWO = [(Kind.START, 0, 4 * KIB, 0), (Kind.START, 64 * KIB, 4 * KIB, 0)]
SIZE = (1 << 20) + 512


def planned(trace: Path, driver: Driver = RAW, how: StartKind | None = None) -> Start:
    """What a replay in the folder "work" would do, made."""
    with TraceWithData(trace) as source:
        work = trace.parent / "work"
        start = plan(source, ReplayOptions(driver=driver, work=work, start=how))
        start.build(source)
        return start


@given(small_disk.ops(), st.sampled_from(["full", "hash"]))
def test_the_raw_image_holds_what_the_start_ops_bring(
    tmp_path_factory: pytest.TempPathFactory, many: list[tuple[Op, bytes]], payloads: str
) -> None:
    folder = tmp_path_factory.mktemp("start")
    trace = small_disk.write(folder / "t.trace", many, payloads=payloads)
    disk, count = bytearray(small_disk.SIZE), 0
    with TraceWithData(trace) as source:
        for op, _ in many:
            if op.kind == Kind.START:
                disk[op.offset : op.end] = source.data(op) or b""
                count += 1
    start = planned(trace)
    assert start.ops == count
    if count:
        assert start.raw is not None
        assert start.raw.read_bytes() == bytes(disk)
        assert start.how is StartKind.CONVERTED
        start.driver.create_image(folder / "image", small_disk.SIZE)
        start.make_reference(folder / "reference")
        assert (folder / "image").read_bytes() == bytes(disk)
        assert (folder / "reference").read_bytes() == bytes(disk)


def test_later_start_ops_win_over_earlier_ones(tmp_path: Path) -> None:
    """Those of a part that was cut from a trace without payloads overlap."""
    requests = [(Kind.START, 0, 8 * KIB, 0), (Kind.START, 4 * KIB, 8 * KIB, 0)]
    trace = make_trace(tmp_path / "t.trace", requests, size=SIZE, payloads="hash")
    start = planned(trace)
    with TraceWithData(trace) as source:
        first, second = (bytes(source.data(op) or b"") for op in source.trace.ops())
    assert start.raw is not None
    assert start.raw.read_bytes() == (first[: 4 * KIB] + second).ljust(SIZE, b"\0")


def test_start_data_that_failed_or_is_zero_takes_no_room(tmp_path: Path) -> None:
    zeroes = Op(0, int(Kind.START), 0, 0, 512), bytes(512)
    failed = Op(1, int(Kind.START), 0, 512, 512, reference_status=5), b"x" * 512
    trace = small_disk.write(tmp_path / "t.trace", [zeroes, failed])
    start = planned(trace)
    assert start.raw is not None
    assert start.raw.read_bytes() == bytes(small_disk.SIZE)
    assert start.raw.stat().st_blocks == 0


@pytest.mark.parametrize("how", [None, *StartKind])
def test_a_blank_disk_costs_nothing(tmp_path: Path, how: StartKind | None) -> None:
    trace = make_trace(tmp_path / "t.trace", [(Kind.WRITE, 0, 512, 0)], size=SIZE)
    driver = Driver("q", overlay=("make",), convert=("make",), serve=("serve",))
    start = planned(trace, driver, how)
    assert start == Start(driver=driver, reader=None, size=SIZE)
    assert not (tmp_path / "work").exists()


def test_only_what_comes_first_is_start_data(tmp_path: Path) -> None:
    requests = [*TWO, (Kind.WRITE, 0, 512, 0), (Kind.START, 0, 512, 0)]
    assert planned(make_trace(tmp_path / "t.trace", requests, size=SIZE)).ops == 2


def test_written_start_data_is_not_below_the_driver(tmp_path: Path) -> None:
    start = planned(make_trace(tmp_path / "t.trace", TWO, size=SIZE), how=StartKind.WRITTEN)
    assert (start.how, start.ops, start.raw, start.driver) == (StartKind.WRITTEN, 0, None, RAW)
    assert not (tmp_path / "work").exists()


# ---------------------------------------------------------------- the backing file


def test_a_backing_file_holds_the_data_and_is_repaired(tmp_path: Path) -> None:
    start = planned(make_trace(tmp_path / "t.trace", TWO, size=SIZE), ON_BASE, StartKind.BACKING)
    assert start.raw is not None
    assert start.base is not None
    assert start.base.is_absolute()
    held = start.raw.read_bytes()
    assert start.base.read_bytes() == held
    assert not start.base_changed()
    with start.base.open("r+b") as file:
        file.write(b"a driver")
    assert start.base_changed()
    start.repair_base()
    assert start.base.read_bytes() == held
    assert not start.base_changed()
    start.base.unlink()
    assert start.base_changed()
    start.repair_base()
    assert start.base.read_bytes() == held


@pytest.mark.parametrize("requests", [[], TWO])
def test_a_driver_that_names_a_backing_file_always_has_one(
    tmp_path: Path, requests: list[tuple[Kind, int, int, int]]
) -> None:
    requests = [*requests, (Kind.WRITE, 0, 512, 0)]
    start = planned(make_trace(tmp_path / "t.trace", requests, size=SIZE), ON_BASE)
    assert start.how is (StartKind.WRITTEN if len(requests) > 1 else None)
    assert start.base is not None
    assert start.base.read_bytes() == bytes(SIZE)
    assert start.driver.base == start.base
    assert entries(tmp_path / "work") == ["base.raw"]


def test_a_reader_that_names_a_backing_file_has_one_too(tmp_path: Path) -> None:
    trace = make_trace(tmp_path / "t.trace", [(Kind.WRITE, 0, 512, 0)], size=SIZE)
    with TraceWithData(trace) as source:
        start = plan(source, ReplayOptions(driver=RAW, work=tmp_path / "work", reader=ON_BASE))
    assert start.driver == RAW
    assert start.reader == ON_BASE.backed_by(tmp_path / "work/base.raw")


def test_converted_data_is_not_in_the_backing_file_too(tmp_path: Path) -> None:
    driver = Driver("mine", convert=("make", "{start}"), serve=("serve", "{base}"))
    start = planned(make_trace(tmp_path / "t.trace", TWO, size=SIZE), driver)
    assert start.how is StartKind.CONVERTED
    assert start.base is not None
    assert start.base.read_bytes() == bytes(SIZE)
    assert start.driver.create == driver.convert


# ---------------------------------------------------------------- what a driver cannot do


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (StartKind.BACKING, "neither takes no backing file: qcow2, qed, vmdk do"),
        (StartKind.CONVERTED, "neither does not convert a raw image: raw, qcow2,"),
    ],
)
@pytest.mark.parametrize("requests", [TWO, [(Kind.WRITE, 0, 512, 0)]])
def test_what_a_driver_cannot_do_is_refused(
    tmp_path: Path, how: StartKind, says: str, requests: list[tuple[Kind, int, int, int]]
) -> None:
    """Even for a blank disk, so that it does not depend on the trace."""
    trace = make_trace(tmp_path / "t.trace", requests, size=SIZE)
    with pytest.raises(UsageError, match=says):
        planned(trace, NEITHER, how)


def test_a_disk_that_is_not_ours_is_written(tmp_path: Path) -> None:
    trace = make_trace(tmp_path / "t.trace", TWO, size=SIZE)
    device = Driver("dev", serve=("serve",), fixed_image=Path("/dev/null"))
    assert planned(trace, device).how is StartKind.WRITTEN
    with pytest.raises(UsageError, match="does not convert"):
        planned(trace, device, StartKind.CONVERTED)


def test_an_image_that_cannot_be_made_is_our_fault(tmp_path: Path) -> None:
    trace = make_trace(tmp_path / "t.trace", TWO, size=SIZE)
    os.mkdir(tmp_path / "work")
    (tmp_path / "work/start.raw").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot create .*start\.raw"):
        planned(trace)
