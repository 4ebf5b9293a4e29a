"""``trace powercut`` on real drivers."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from replay.below.states.image import lower_ops
from replay.below.states.points import Crash, Points
from tests.kit.command import finish, trace
from tests.kit.drivers import NBDKIT, toml
from tests.kit.peers import background, need, need_fuse
from tests.kit.powercuts import FLUSH, KIB, Request, serial
from tests.replay.below.states.test_image import naive
from tracer.below.stored import StoredRun
from tracer.op import Flag, Kind

pytestmark = pytest.mark.slow

WRITES: list[Request] = [
    (Kind.WRITE, 0, 64 * KIB, 0),
    (Kind.WRITE, 256 * KIB, 64 * KIB, 0),
    FLUSH,
    (Kind.WRITE, 32 * KIB, 64 * KIB, 0),
    (Kind.WRITE, 512 * KIB, 4 * KIB, int(Flag.FUA)),
    (Kind.WRITE, 1024 * KIB, 512, 0),
    FLUSH,
    (Kind.WRITE, 2048 * KIB, 64 * KIB, 0),
]

REUSED: list[Request] = [
    (Kind.WRITE, 0, 64 * KIB, 0),
    (Kind.WRITE, 256 * KIB, 64 * KIB, 0),
    FLUSH,
    (Kind.TRIM, 0, 64 * KIB, 0),
    (Kind.WRITE, 128 * KIB, 64 * KIB, 0),
    FLUSH,
]
"""qcow2 frees a cluster by the trim, and uses it again before that is on the disk."""


SPANNING: list[Request] = [
    (Kind.WRITE, 0, 64 * KIB, 0),
    (Kind.WRITE, 64 * KIB, 64 * KIB, 0),
    FLUSH,
    (Kind.ZERO, 64 * KIB, 64 * KIB, int(Flag.NO_HOLE)),
    FLUSH,
    (Kind.WRITE, 32 * KIB, 64 * KIB, 0),
]
"""The last write spans a data cluster and a preallocated zero cluster of qcow2."""


def nbdkit(folder: Path, *words: str) -> str:
    need("nbdkit")
    need_fuse()
    create = ["truncate", "-s", "{size}", "{image}"]
    return toml(folder, create=create, serve=[*NBDKIT, *words])


def cut(folder: Path, *arguments: object, expect: int) -> dict[str, Any]:
    done = trace("powercut", "t.trace", *arguments, "--json", cwd=folder, expect=expect)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("through", ["fuse", "blklogwrites"])
@pytest.mark.parametrize("driver", ["raw", "qcow2", "vmdk", "vdi", "qed", "vhdx", "vpc"])
def test_writes_and_flushes_survive(tmp_path: Path, driver: str, through: str) -> None:
    need("qemu-nbd")
    if through == "fuse":
        need_fuse()
    serial(tmp_path / "t.trace", WRITES)
    arguments = ("--driver", driver, "--through", through, "--states", "all")
    found = cut(tmp_path, *arguments, expect=0)
    assert found["verdict"] == "clean"
    assert found["complete"]
    assert found["tried"] == found["states"] >= found["distinct"] > found["points"] // 2


def test_a_write_zeroes_data_in_place_first(tmp_path: Path) -> None:
    need("qemu-nbd")
    need_fuse()
    serial(tmp_path / "t.trace", SPANNING)
    found = cut(tmp_path, "--driver", "qcow2", "--states", "all", expect=1)
    (fault,) = found["faults"]
    assert found["through"] == "fuse"
    assert (fault["promise"]["seq"], fault["wrote"]["seq"], fault["in_flight"]) == (2, 0, [5])
    assert (fault["missing"], fault["last"]["kind"]) == ([], "zero")
    assert fault["damage"] == [
        {"sector": 64, "sectors": 64, "holds": "zeroes", "seq": None, "source": None}
    ]
    assert all(check["says"] == "leaked clusters only" for check in found["checks"])


@pytest.mark.parametrize(
    "words",
    [
        ("file", "{image}"),
        ("--filter=fua", "file", "{image}", "fuamode=force"),
        ("--filter=cache", "file", "{image}"),
    ],
)
def test_drivers_of_other_programs(tmp_path: Path, words: tuple[str, ...]) -> None:
    serial(tmp_path / "t.trace", WRITES)
    driver = nbdkit(tmp_path, *words)
    found = cut(tmp_path, "--driver", driver, "--states", "all", expect=0)
    assert found["judged"] > 15


def test_a_filter_that_ignores_flushes(tmp_path: Path) -> None:
    serial(tmp_path / "t.trace", WRITES)
    driver = nbdkit(tmp_path, "--filter=cache", "file", "{image}", "cache=unsafe")
    found = cut(tmp_path, "--driver", driver, "--states", "all", expect=1)
    assert found["faults"][0]["promise"]["kind"] == "flush"


def test_a_freed_cluster_is_used_again_too_early(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", REUSED)
    arguments = ("--driver", "qcow2", "--through", "blklogwrites", "--states", "all")
    found = cut(tmp_path, *arguments, expect=1)
    assert found["verdict"] == "damaged"
    (fault,) = found["faults"]
    assert (fault["promise"]["seq"], fault["promise"]["kind"]) == (2, "flush")
    assert fault["wrote"]["seq"] == 0
    assert fault["damage"] == [
        {"sector": 0, "sectors": 128, "holds": "other-sector", "seq": 4, "source": 256}
    ]
    assert fault["missing"] == []
    assert fault["shrunk"]


def test_a_repair_gives_guest_data_to_the_refcounts(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    image = ["-f", "qcow2", "{image}"]
    driver = toml(
        tmp_path,
        create=["qemu-img", "create", "-q", "-o", "lazy_refcounts=on", *image, "{size}"],
        serve=["qemu-nbd", "--persistent", "--socket={socket}", "--format=qcow2", "{image}"],
        check=["qemu-img", "check", *image],
    )
    serial(tmp_path / "t.trace", WRITES[:3])
    found = cut(tmp_path, "--driver", driver, "--states", "all", expect=1)
    assert found["repaired"] > 0
    (fault,) = found["faults"]
    assert fault["repaired"]
    assert fault["promise"] is None
    assert [one["structure"] for one in fault["missing"]] == ["data"]
    assert fault["last"]["structure"] == "L2 table"


def test_metadata_in_the_wrong_order_is_a_fault_without_a_promise(tmp_path: Path) -> None:
    # without lower flushes nothing comes before anything else, and without a flush of the guest
    # no data is promised
    need("qemu-nbd", "qemu-img")
    serial(tmp_path / "t.trace", WRITES[:2])
    arguments = ("--driver", "qcow2", "--cache", "unsafe", "--states", "all")
    found = cut(tmp_path, *arguments, expect=1)
    assert (found["verdict"], found["damaged"]) == ("failed", 0)
    assert found["broken"] > 0
    fault = found["faults"][0]
    assert (fault["check"], fault["damage"]) == ("errors", [])
    assert fault["shrunk"]
    assert fault["missing"] or fault["last"]["structure"] == "L2 table"


def test_a_cache_that_ignores_flushes_is_flagged(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", WRITES)
    found = cut(tmp_path, "--driver", "raw", "--cache", "unsafe", "--states", "all", expect=1)
    assert {fault["promise"]["seq"] for fault in found["faults"]} == {2, 4, 6}
    assert all(len(fault["missing"]) == 1 for fault in found["faults"])


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_writethrough_makes_each_op_durable(tmp_path: Path, driver: str) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", [op for op in WRITES if op != FLUSH])
    arguments = ("--driver", driver, "--cache", "writethrough", "--states", "all")
    assert cut(tmp_path, *arguments, expect=0)["lower"]["flush"] > 4


def test_a_kept_state_is_what_its_lower_ops_make(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", REUSED)
    found = cut(tmp_path, "--driver", "qcow2", "--states", "all", "--keep", "kept", expect=1)
    (fault,) = found["faults"]
    kept = tmp_path / "kept"
    missing = frozenset(one["number"] for one in fault["missing"])
    with StoredRun(kept / "run.lower") as run:
        run.write_start(tmp_path / "start")
        points = Points(lower_ops(run.events))
        crash = Crash(fault["point"], missing, fault["torn"])
        held = naive((tmp_path / "start").read_bytes(), run.read, points, crash)
    assert (tmp_path / fault["image"]).read_bytes() == held
    names = ",".join(map(str, missing)) or "none"
    state = ("--state", str(fault["state"]), "--missing", names)
    done = trace("checkout", "kept/run.lower", *state, "-o", "again.qcow2", cwd=tmp_path)
    assert f"state:   {fault['state']}: {fault['point']} lower ops issued" in done.stdout
    assert (tmp_path / "again.qcow2").read_bytes() == held


@pytest.mark.parametrize("driver", ["qcow2", "vhdx", "qed"])
def test_the_power_is_cut_while_the_driver_restarts(tmp_path: Path, driver: str) -> None:
    need("qemu-nbd")
    need_fuse()
    lower = []
    for restarts in ((), (4, 7)):
        serial(tmp_path / "t.trace", WRITES, restarts=restarts)
        found = cut(tmp_path, "--driver", driver, "--states", "all", expect=0)
        assert found["complete"]
        lower.append(found["lower"]["flush"])
    # it flushes as it closes its image
    assert lower[1] >= lower[0] + 2


def test_a_driver_that_fails_at_a_restart_without_a_power_cut(tmp_path: Path) -> None:
    need("qemu-nbd")
    need_fuse()
    serial(tmp_path / "t.trace", WRITES, restarts=(4,))
    serve = ["qemu-nbd", "--persistent", "--socket={socket}", "--format=raw", "{image}"]
    driver = toml(tmp_path, serve=serve, check=["sh", "-c", "echo broken; exit 1"])
    found = cut(tmp_path, "--driver", driver, expect=1)
    assert (found["verdict"], found["judged"]) == ("failed", 0)
    assert "at a restart, the check fails: exit status 1: broken" in found["reason"]


def test_each_kept_state_is_built_again_by_its_number(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", WRITES)
    arguments = ("--driver", "qcow2", "--cache", "unsafe", "--states", "all", "--seed", "3")
    cut(tmp_path, *arguments, "--keep", "kept", expect=1)
    images = [path for path in (tmp_path / "kept").glob("state-*") if "shrunk" not in path.name]
    assert len(images) > 3
    for path in images:
        state = ("--state", path.stem.removeprefix("state-"), "--seed", "3")
        again = ("-o", f"again-{path.name}")
        trace("checkout", "kept/run.lower", *state, *again, cwd=tmp_path)
        assert (tmp_path / again[1]).read_bytes() == path.read_bytes()


def test_the_result_in_words(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", REUSED)
    arguments = ("powercut", "t.trace", "--driver", "qcow2", "--states", "all")
    shown = trace(*arguments, cwd=tmp_path, expect=1).stdout
    assert "verdict:   damaged (qcow2): a power cut loses what was flushed" in shown
    assert "#2 flush, which made #0 write at sector 0 (128 sectors) durable" in shown
    assert "sectors 0 to 127 hold data of other sectors, which #4 wrote from sector 256 on" in shown


def test_a_number_of_states(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", WRITES)
    found = cut(tmp_path, "--driver", "raw", "--states", 7, expect=0)
    assert found["judged"] == 7
    assert not found["complete"]


def test_an_interrupted_run_shows_what_it_has_found(tmp_path: Path) -> None:
    need("qemu-nbd")
    requests = [(Kind.WRITE, at * 4096, 4096, 0) for at in range(400)]
    serial(tmp_path / "t.trace", requests)
    arguments = ("powercut", "t.trace", "--driver", "raw", "--states", "all", "--json", "-v")
    with background(sys.executable, "-m", "blkbox", *arguments, cwd=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "judging" in line:
                break
        code, out, _ = finish(process)
    assert code == 130
    found = json.loads(out)
    assert found["interrupted"] == "SIGINT"
    assert not found["complete"]


def test_the_rest_of_the_trace_after_a_power_cut(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", WRITES)
    arguments = ("--driver", "qcow2", "--states", "all", "--then-continue")
    found = cut(tmp_path, *arguments, expect=0)
    assert found["continued"] > 0
    assert found["later"] == []


def test_a_trace_without_ops(tmp_path: Path) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", [])
    assert cut(tmp_path, "--driver", "qcow2", "--states", "all", expect=0)["judged"] == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--driver", "luks"), "noise"),
        (("--driver", "qcow2", "--cache", "some"), "cache mode"),
        (("--driver", "qcow2", "--states", "many"), "a number, or all"),
        (("--driver", "nbd://localhost"), "its image is not a file of ours"),
        (("--driver", "qcow2", "--through", "some"), "fuse, blklogwrites"),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    need("qemu-nbd")
    serial(tmp_path / "t.trace", WRITES)
    done = trace("powercut", "t.trace", *arguments, cwd=tmp_path, expect=200)
    assert why in done.stderr


def test_shares_judge_what_one_process_does(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    serial(tmp_path / "w.trace", WRITES)
    found = []
    for jobs in (1, 2):
        arguments = ("--driver", "qcow2", "--states", "all", "--jobs", jobs, "--json")
        done = trace("powercut", "w.trace", *arguments, cwd=tmp_path, expect=(0, 1))
        found.append(json.loads(done.stdout))
    one, two = found
    assert (two["verdict"], two["complete"]) == (one["verdict"], True)
    assert two["tried"] == two["states"]
