"""``trace replay`` on drivers that are honest but odd, and on drivers with more than one fault."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import trace
from tests.kit.drivers import NBDKIT, toml
from tests.kit.faulty.workload import KIB, REWRITES, WORKLOAD, Request, make_trace, write_driver
from tests.kit.peers import need
from tracer.op import Flag, Kind

CLUSTER = 64 * KIB
WRITES: list[Request] = [(Kind.WRITE, at * CLUSTER, CLUSTER, 0) for at in range(64)]
READS: list[Request] = [(Kind.READ, at * CLUSTER, CLUSTER, 0) for at in range(64)]
FLUSH: Request = (Kind.FLUSH, 0, 0, 0)


@pytest.fixture(autouse=True)
def _nbdkit() -> None:
    need("nbdkit")


def replayed(folder: Path, driver: str, *options: str, expect: int = 1) -> dict[str, Any]:
    arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-plot", *options)
    found: dict[str, Any] = json.loads(trace(*arguments, cwd=folder, expect=expect).stdout)
    return found


def filtered(folder: Path, *filters: str, options: tuple[str, ...] = ()) -> str:
    """A driver: nbdkit's file plugin behind filters."""
    return toml(
        folder,
        create=["truncate", "-s", "{size}", "{image}"],
        serve=[*NBDKIT, *(f"--filter={name}" for name in filters), "file", "{image}", *options],
    )


# ---------------------------------------------------------------- other faults beside the symptom


def test_a_cache_that_loses_blocks_is_blamed_for_that(tmp_path: Path) -> None:
    """nbdkit's cache loses dirty blocks when it reclaims. It also drops what was never flushed when
    it stops, as it may, and calls it a hole until then. Neither is what the reads saw."""
    make_trace(tmp_path / "w.trace", [*WRITES, *READS])
    verdict = replayed(tmp_path, filtered(tmp_path, "cache", options=("cache-max-size=1M",)))
    assert (verdict["verdict"], verdict["symptom"]) == ("damaged", "read")
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (15, True)
    assert verdict["replayed_ops"] - verdict["confirm_ops"] <= 3 * verdict["ops"]


def test_a_check_that_fails_beside_the_damage_is_no_more_than_mentioned(tmp_path: Path) -> None:
    """The check command objects to any image that is not blank."""
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = tmp_path / write_driver(tmp_path, "write-lost")
    check = ["sh", "-c", "! tr -d '\\000' < $0 | grep -q .", "{image}"]
    driver.write_text(
        "\n".join(line for line in driver.read_text().splitlines() if not line.startswith("check"))
        + f"\ncheck = {json.dumps(check)}\n"
    )
    verdict = replayed(tmp_path, driver.name)
    assert (verdict["symptom"], verdict["culprit"]["seq"]) == ("read", 17)
    assert verdict["confirmed"]
    assert any("the check failed" in other["reason"] for other in verdict["also"])


def test_two_damages_are_both_named(tmp_path: Path) -> None:
    """The first is still there when the second strikes."""
    make_trace(tmp_path / "w.trace", WORKLOAD)
    verdict = replayed(tmp_path, write_driver(tmp_path, "overwritten-after-another", "server"))
    assert verdict["culprit"]["seq"] == 17
    assert [other["seq"] for other in verdict["also"]] == [23]


def test_a_damage_that_was_overwritten_hides_no_later_one(tmp_path: Path) -> None:
    """A read saw the first, then it was written over, and the second struck the same place."""
    make_trace(tmp_path / "w.trace", REWRITES)
    verdict = replayed(tmp_path, write_driver(tmp_path, "seen-then-overwritten"))
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (6, True)
    assert [other["seq"] for other in verdict["also"]] == [9]


@pytest.mark.parametrize("question", ["extents", "pread"])
def test_a_crash_on_a_question_of_ours_is_no_damage(tmp_path: Path, question: str) -> None:
    """Nothing but the comparison asks for block status, or reads: a crash on that is a crash."""
    make_trace(tmp_path / "w.trace", WRITES[:4])
    (tmp_path / "crashes.py").write_text(
        FORGETFUL + f"def {question}(*arguments): os.abort()\n"
        "def can_extents(h): return True\n"
        + ("" if question == "extents" else "def extents(h, count, offset, flags): return []\n")
    )
    script = str(tmp_path / "crashes.py")
    driver = toml(
        tmp_path,
        create=["truncate", "-s", "{size}", "{image}"],
        serve=[*NBDKIT, "python", script, "image={image}", "stored=0"],
    )
    verdict = replayed(tmp_path, driver)
    assert (verdict["verdict"], verdict["symptom"]) == ("failed", "crash")
    assert (verdict["culprit"], verdict["damage"]) == (None, [])
    asked = "block status at sector 0" if question == "extents" else "a read of the image"
    assert asked in verdict["reason"]
    assert "before the first op" in verdict["reason"]


# ---------------------------------------------------------------- what was never flushed


FORGETFUL = """
import os
API_VERSION = 2
pages = {}
def config(key, value):
    global image, stored
    if key == "image":
        image = os.open(value, os.O_RDWR)
    else:
        stored = int(value)
def thread_model(): return 0
def open(readonly): return 1
def get_size(h): return os.fstat(image).st_size
def can_flush(h): return True
def block_size(h): return (4096, 4096, 0xffffffff)
def pread(h, buf, offset, flags):
    for at in range(0, len(buf), 4096):
        buf[at:at + 4096] = pages.get(offset + at) or os.pread(image, 4096, offset + at)
def pwrite(h, buf, offset, flags):
    for at in range(0, len(buf), 4096):
        pages[offset + at] = bytes(buf[at:at + 4096])
def flush(h, flags):
    for offset, page in pages.items():
        if offset < stored:
            os.pwrite(image, page, offset)
"""
"""A plugin that keeps what is written in memory. A flush stores the part below ``stored`` bytes;
what is not stored is gone when the server stops."""


def forgetful(folder: Path, stored: int) -> str:
    (folder / "forgetful.py").write_text(FORGETFUL)
    script = str(folder / "forgetful.py")
    return toml(
        folder,
        create=["truncate", "-s", "{size}", "{image}"],
        serve=[*NBDKIT, "python", script, "image={image}", f"stored={stored}"],
    )


def test_a_cache_may_drop_what_was_never_flushed(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", [*WRITES[:4], FLUSH, *WRITES[4:8]])
    replayed(tmp_path, forgetful(tmp_path, 1 << 40), expect=0)


@pytest.mark.parametrize("last", [[FLUSH], [FLUSH, *WRITES[4:8]], []])
def test_a_cache_may_not_drop_what_was_flushed(tmp_path: Path, last: list[Request]) -> None:
    """The first write that a flush did not store is the culprit. Without a flush in the trace, the
    one at the end of the run counts."""
    make_trace(tmp_path / "w.trace", [*WRITES[:4], *last])
    verdict = replayed(tmp_path, forgetful(tmp_path, CLUSTER))
    assert (verdict["symptom"], verdict["culprit"]["seq"]) == ("reopen", 1)
    assert verdict["confirmed"]


# ---------------------------------------------------------------- errors that are allowed


def full(folder: Path, *filters: str, options: tuple[str, ...] = ()) -> str:
    """A driver that does not do a fifth of its writes, and says ENOSPC."""
    often = ("error=ENOSPC", "error-pwrite-rate=20%", "error-zero-rate=20%")
    return filtered(folder, *filters, "error", options=(*often, *options))


def test_a_full_store_fails_unless_that_is_allowed(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", [*WRITES, FLUSH, *WRITES, *READS])
    verdict = replayed(tmp_path, full(tmp_path), "--no-locate")
    assert (verdict["verdict"], verdict["symptom"]) == ("failed", "status")
    replayed(tmp_path, full(tmp_path), "--allow-errno", "ENOSPC,EDQUOT", expect=0)
    assert replayed(tmp_path, full(tmp_path), "--allow-errno", "EIO")["symptom"] == "status"


def test_what_comes_after_an_allowed_error_is_judged(tmp_path: Path) -> None:
    """A cache that loses blocks, above a full store."""
    make_trace(tmp_path / "w.trace", [*WRITES, *READS])
    driver = full(tmp_path, "cache", options=("cache-max-size=1M",))
    options = ("--allow-errno", "ENOSPC", "--no-locate")
    assert replayed(tmp_path, driver, *options)["verdict"] == "damaged"


def test_an_unknown_errno_is_refused(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    arguments = ("replay", "w.trace", "--driver", "raw", "--allow-errno", "ENOSPAC")
    assert "'ENOSPAC'" in trace(*arguments, cwd=tmp_path, expect=200).stderr


# ---------------------------------------------------------------- faults that come and go


def test_a_rare_fault_is_not_traced_to_an_op(tmp_path: Path) -> None:
    """It confirms nothing, but the op whose data is missing is a suspect."""
    make_trace(tmp_path / "w.trace", WORKLOAD)
    verdict = replayed(tmp_path, write_driver(tmp_path, "rare"), "--time", "4s")
    assert (verdict["verdict"], verdict["culprit"]) == ("damaged", None)
    assert 17 in [suspect["seq"] for suspect in verdict["suspects"]]
    assert not verdict["confirmed"]


@pytest.mark.slow
def test_the_culprit_has_company(tmp_path: Path) -> None:
    """The op that must be in flight with the culprit is named; with one op in flight at a time it
    is clean."""
    requests: list[Request] = [
        *WRITES[:20],
        (Kind.WRITE, 0, 4 * KIB, 0),
        (Kind.WRITE, 32 * KIB, 4 * KIB, 0),
        *WRITES[30:40],
        (Kind.WRITE, CLUSTER * 50, 4 * KIB, int(Flag.FUA)),
        FLUSH,
    ]
    make_trace(tmp_path / "w.trace", requests, together=2)
    verdict = replayed(tmp_path, write_driver(tmp_path, "write-lost-beside-write", "server"))
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (21, True)
    assert (verdict["needs_company"], verdict["company"]) == (True, 20)
