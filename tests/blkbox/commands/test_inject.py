"""``trace inject`` on real drivers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import trace
from tests.kit.peers import need, need_fuse
from tests.kit.powercuts import FLUSH, KIB, Request, serial
from tracer.op import Kind

pytestmark = pytest.mark.slow

REQUESTS: list[Request] = [
    (Kind.WRITE, 0, 64 * KIB, 0),
    FLUSH,
    (Kind.WRITE, 32 * KIB, 64 * KIB, 0),
    FLUSH,
]


@pytest.fixture(autouse=True, params=["fuse", "blkdebug"])
def through(request: pytest.FixtureRequest) -> str:
    """What makes lower ops fail: each test is run with both."""
    need("qemu-nbd")
    if request.param == "fuse":
        need_fuse()
    found: str = request.param
    return found


def inject(
    folder: Path, *arguments: object, through: str, expect: int | tuple[int, int]
) -> dict[str, Any]:
    arguments = (*arguments, "--through", through, "--json")
    done = trace("inject", "t.trace", *arguments, cwd=folder, expect=expect)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["through"] == through
    return found


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_driver_that_survives_each_error(tmp_path: Path, through: str, driver: str) -> None:
    serial(tmp_path / "t.trace", REQUESTS)
    found = inject(tmp_path, "--driver", driver, "--at", "all", through=through, expect=0)
    assert found["complete"]
    assert found["runs"] == 2 * found["lower"]
    assert found["reached"] >= found["lower"]
    assert found["refused"] > 0


def test_a_driver_that_forgets_what_it_could_not_write(tmp_path: Path, through: str) -> None:
    # vdi allocates a block in memory, fails to write that down, and does not try again
    serial(tmp_path / "t.trace", REQUESTS)
    arguments = ("--driver", "vdi", "--errors", "EIO", "--at", "all", "--keep", "kept")
    found = inject(tmp_path, *arguments, through=through, expect=1)
    assert found["verdict"] == "damaged"
    fault = next(fault for fault in found["faults"] if fault["verdict"] == "damaged")
    assert (fault["error"], fault["in_flight"], fault["refused"]) == ("EIO", [0], [0])
    assert fault["lower"]["kind"] == "write"
    assert (tmp_path / fault["image"]).stat().st_size > 0


def test_every_second_op_and_a_single_one(tmp_path: Path, through: str) -> None:
    serial(tmp_path / "t.trace", REQUESTS)
    eio = ("--driver", "raw", "--errors", "EIO", "--at")
    whole = inject(tmp_path, *eio, "every 2", through=through, expect=0)
    assert whole["runs"] == -(-whole["lower"] // 2)
    one = inject(tmp_path, *eio, 0, through=through, expect=0)
    assert (one["runs"], one["reached"]) == (1, 1)


def test_an_op_that_never_comes(tmp_path: Path, through: str) -> None:
    serial(tmp_path / "t.trace", REQUESTS)
    found = inject(tmp_path, "--driver", "raw", "--at", 999, through=through, expect=125)
    assert found["reason"] == "no lower op could be made to fail"


def test_a_driver_that_writes_as_it_starts(tmp_path: Path, through: str) -> None:
    # parallels marks its image as in use: if that fails it does not start, but must do so later
    serial(tmp_path / "t.trace", REQUESTS)
    arguments = ("--driver", "parallels", "--errors", "EIO", "--at")
    first = inject(tmp_path, *arguments, 0, through=through, expect=0)
    assert (first["runs"], first["reached"], first["refused"]) == (1, 1, 0)
    assert inject(tmp_path, *arguments, 1, through=through, expect=0)["reached"] == 1


def test_an_error_in_flight_with_other_ops_is_that_op_of_the_run(
    tmp_path: Path, through: str
) -> None:
    serial(tmp_path / "t.trace", REQUESTS)
    arguments = ("--driver", "qed", "--errors", "EIO", "--at", "all")
    found = inject(tmp_path, *arguments, through=through, expect=1)
    fault = found["faults"][0]
    assert (fault["in_flight"], fault["refused"]) == ([0], [0])
    assert (fault["lower"]["kind"], fault["lower"]["length"]) == ("write", 512)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--at", "some"), "--at some"),
        (("--at", "every 0"), "--at every 0"),
        (("--errors", ""), "names no error"),
        (("--errors", "EWHAT"), "EWHAT"),
        (("--cache", "some"), "cache mode"),
        (("--through", "what"), "--through 'what'"),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    serial(tmp_path / "t.trace", REQUESTS)
    done = trace("inject", "t.trace", "--driver", "raw", *arguments, cwd=tmp_path, expect=200)
    assert why in done.stderr


def test_a_log_that_a_restart_replays_is_no_fault(tmp_path: Path, through: str) -> None:
    # vhdx leaves its log when a flush fails, and replays that when it is opened again
    serial(tmp_path / "t.trace", [(Kind.WRITE, 0, 4 * KIB, 0)])
    found = inject(
        tmp_path,
        "--driver",
        "vhdx",
        "--errors",
        "EIO",
        "--at",
        "all",
        through=through,
        expect=(0, 1),
    )
    assert not [one for one in found["faults"] if "log that needs to be replayed" in one["reason"]]


@pytest.mark.parametrize("seed", [1, 3])
def test_qcow2_survives_errors_with_many_ops_in_flight(
    tmp_path: Path, through: str, seed: int
) -> None:
    trace("generate", "--ops", 25, "--seed", seed, "--size", "4M", "-o", "t.trace", cwd=tmp_path)
    arguments = ("--driver", "qcow2", "--errors", "EIO", "--at", "every 4")
    found = inject(tmp_path, *arguments, through=through, expect=0)
    assert found["reached"] > 0
