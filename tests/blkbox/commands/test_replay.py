"""``trace replay`` as a user runs it: what it finds."""

import json
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.drivers import toml
from tests.kit.faulty.workload import KIB, SIZE, WORKLOAD, make_trace, write_driver
from tests.kit.peers import background, need
from tests.kit.system import wait_until
from tracer.op import Kind

TORN = [(Kind.WRITE, 0, 4096, 0), (Kind.READ, 0, 4096, 0)]


def places(damage: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(one["sector"], one["sectors"]) for one in damage]


# ---------------------------------------------------------------- clean builds


@pytest.mark.parametrize("payloads", ["full", "hash"])
def test_raw_is_clean_without_any_other_program(tmp_path: Path, payloads: str) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD, payloads=payloads)
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path)
    assert done.stdout.startswith("verdict:  clean (raw)")
    assert "28 ops in 1 run (1.0 times" in done.stdout


@pytest.mark.parametrize("name", ["qcow2", "vmdk", "vdi", "vhdx", "qed", "vpc", "parallels"])
def test_what_qemu_serves_is_clean(tmp_path: Path, workload: Path, name: str) -> None:
    need("qemu-nbd", "qemu-img")
    done = trace("replay", "w.trace", "--driver", name, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["verdict"] == "clean"


@pytest.mark.parametrize("together", [1, 4, 28])
@pytest.mark.parametrize("depth", ["recorded", "1", "3"])
def test_any_depth_is_clean(tmp_path: Path, together: int, depth: str) -> None:
    need("qemu-nbd", "qemu-img")
    make_trace(tmp_path / "w.trace", [r for r in WORKLOAD if r[0] != Kind.READ], together=together)
    trace("replay", "w.trace", "--driver", "qcow2", "--depth", depth, "--no-plot", cwd=tmp_path)


def test_the_other_servers_are_clean(tmp_path: Path, workload: Path) -> None:
    need("qemu-storage-daemon", "nbdkit")
    daemon = toml(
        tmp_path,
        serve=[
            "qemu-storage-daemon",
            *("--blockdev", "driver=file,node-name=file,filename={image},discard=unmap"),
            *("--blockdev", "driver=raw,node-name=disk,file=file,discard=unmap"),
            *("--nbd-server", "addr.type=unix,addr.path={socket}"),
            *("--export", "type=nbd,id=one,node-name=disk,name=,writable=on"),
        ],
    )
    trace("replay", "w.trace", "--driver", daemon, cwd=tmp_path)
    nbdkit = toml(tmp_path, serve=["nbdkit", "-f", "-U", "{socket}", "file", "{image}"])
    trace("replay", "w.trace", "--driver", nbdkit, cwd=tmp_path)


@pytest.mark.slow
def test_a_disk_in_many_pieces_is_clean(tmp_path: Path) -> None:
    """qemu-nbd tells of all of them in one block status reply."""
    need("qemu-nbd")
    requests = [(Kind.WRITE, at * 8 * KIB, 4 * KIB, 0) for at in range(9000)]
    make_trace(tmp_path / "w.trace", requests, size=72 << 20, payloads="hash", together=8)
    driver = toml(
        tmp_path,
        serve=["qemu-nbd", "-t", "-f", "raw", "-k", "{socket}", "--discard=unmap", "{image}"],
    )
    trace("replay", "w.trace", "--driver", driver, cwd=tmp_path)


def test_a_driver_that_offers_little_is_asked_for_little(tmp_path: Path) -> None:
    """No trim, zeroes, FUA or flush: said in other commands. (The pattern plugin cannot be used
    here: it is read-only.)"""
    need("nbdkit")
    requests = [request for request in WORKLOAD if request[0] != Kind.READ]
    make_trace(tmp_path / "w.trace", requests)
    driver = toml(
        tmp_path,
        serve=["nbdkit", "-f", "-U", "{socket}", "--filter=nozero", "--filter=fua", "file",
        "{image}",
               "zeromode=none"],
    )  # fmt: skip
    trace("replay", "w.trace", "--driver", driver, cwd=tmp_path)


def test_a_driver_that_keeps_nothing_is_judged_by_what_it_serves(
    tmp_path: Path, workload: Path
) -> None:
    need("nbdkit")
    driver = toml(tmp_path, serve=["nbdkit", "-f", "-U", "{socket}", "memory", "{size}"])
    done = trace("replay", "w.trace", "--driver", driver, "--json", cwd=tmp_path)
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["volatile"]) == ("clean", True)
    done = trace("replay", "w.trace", "--driver", driver, cwd=tmp_path)
    assert "keeps nothing over a restart" in done.stdout


def test_a_server_that_is_up_must_be_blank_or_forced(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    socket = tmp_path / "s"
    with background("nbdkit", "-f", "-U", socket, "memory", str(SIZE), cwd=tmp_path):
        uri = f"nbd+unix:///?socket={socket}"
        wait_until(socket.exists)
        trace("replay", "w.trace", "--driver", uri, cwd=tmp_path)
        done = trace("replay", "w.trace", "--driver", uri, cwd=tmp_path, expect=200)
        assert "--force" in done.stderr
        trace("replay", "w.trace", "--driver", uri, "--force", cwd=tmp_path)


# ---------------------------------------------------------------- what is found


@pytest.mark.slow
def test_the_story_names_the_culprit_and_shows_the_bytes(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = write_driver(tmp_path, "bit-flip")
    done = trace("replay", "w.trace", "--driver", driver, "--plot", "p.svg", cwd=tmp_path, expect=1)
    assert "culprit:  #25 write, sectors 1800 to 1807 (4.0 KiB at byte 921600), FUA" in done.stdout
    assert "confirmed" in done.stdout
    dump = [line for line in done.stdout.splitlines() if line.startswith("  000e1040:")]
    left, right = dump[0].removeprefix("  000e1040:").split("|")
    assert int(left.split()[13], 16) ^ int(right.split()[13], 16) == 4  # byte 77 of the sector
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_without_locating_the_trace_is_played_once(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = write_driver(tmp_path, "write-lost")
    arguments = ("replay", "w.trace", "--driver", driver, "--no-locate", "--json", "--no-plot")
    verdict = json.loads(trace(*arguments, cwd=tmp_path, expect=1).stdout)
    # it ends at the read that showed the damage; the second run looks at a fresh image
    assert (verdict["culprit"], verdict["runs"], verdict["replayed_ops"]) == (None, 2, 22)
    assert places(verdict["damage"]) == [(40, 8)]
    assert verdict["first_bad_read"] == {"seq": 21, "sector": 40}
    verdict = json.loads(trace(*arguments, "--thorough", cwd=tmp_path, expect=1).stdout)
    assert (verdict["runs"], verdict["replayed_ops"]) == (2, 28)


def test_images_are_kept_when_asked_for(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = write_driver(tmp_path, "write-lost")
    arguments = ("replay", "w.trace", "--driver", driver, "--keep", "kept", "--no-plot")
    trace(*arguments, cwd=tmp_path, expect=1)
    good, bad = (tmp_path / "kept/full" / name for name in ("reference.raw", "test.img"))
    assert good.read_bytes()[: 20 * KIB] == bad.read_bytes()[: 20 * KIB]
    assert good.read_bytes()[20 * KIB : 24 * KIB] != bad.read_bytes()[20 * KIB : 24 * KIB]
    trace(*arguments, cwd=tmp_path, expect=200)


def test_a_fresh_image_that_is_wrong_already_is_undecidable(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = toml(
        tmp_path,
        create=["sh", "-c", f"head -c {SIZE} /dev/zero | tr '\\000' x > $0", "{image}"],
        serve=["nbdkit", "-f", "-U", "{socket}", "file", "{image}"],
    )
    done = trace(
        "replay", "w.trace", "--driver", driver, "--json", "--no-plot", cwd=tmp_path, expect=125
    )
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["culprit"]) == ("undecidable", None)
    assert "before the first op" in verdict["reason"]


# ---------------------------------------------------------------- undecidable


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (["sh", "-c", "echo no such luck >&2; exit 3; {socket}"], "exit status 3"),
        (["/nowhere/driver", "{socket}"], "cannot run /nowhere/driver"),
        (["nbdkit", "-f", "-U", "{socket}", "memory", "1M"], "serves 1048576 bytes where 4194304"),
        (["nbdkit", "-f", "-U", "{socket}", "-r", "file", "{image}"], "read-only"),
        (["nbdkit", "-f", "-U", "{socket}", "--filter=blocksize-policy", "file", "{image}",
          "blocksize-minimum=65536", "blocksize-preferred=65536", "blocksize-maximum=1M",
          "blocksize-error-policy=error"],
         "not a multiple of the driver's block size, 65536 bytes"),
    ],
)  # fmt: skip
def test_a_driver_that_cannot_be_judged(
    tmp_path: Path, workload: Path, serve: list[str], says: str
) -> None:
    need("nbdkit")
    driver = toml(tmp_path, serve=serve)
    done = trace("replay", "w.trace", "--driver", driver, "--json", cwd=tmp_path, expect=125)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["culprit"]) == ("undecidable", None)
    assert says in verdict["reason"]


def test_a_build_that_is_not_there(tmp_path: Path, workload: Path) -> None:
    done = trace("replay", "w.trace", "--driver", f"qcow2@{tmp_path}", cwd=tmp_path, expect=125)
    assert "there is no program qemu-nbd" in done.stderr
