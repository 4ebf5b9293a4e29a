"""``trace replay``, ``show``, ``verify`` and ``doctor`` as a user runs them, and what they refuse."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import KIB, SIZE, WORKLOAD, make_trace, write_driver
from tests.kit.peers import background, need, peer
from tracer.op import Kind

TORN = [(Kind.WRITE, 0, 4096, 0), (Kind.READ, 0, 4096, 0)]


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    return make_trace(tmp_path / "w.trace", WORKLOAD)


def places(damage: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(one["sector"], one["sectors"]) for one in damage]


def driver_file(folder: Path, **commands: list[str]) -> Path:
    path = folder / "driver.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in commands.items()))
    return path


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
    daemon = driver_file(
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
    nbdkit = driver_file(tmp_path, serve=["nbdkit", "-f", "-U", "{socket}", "file", "{image}"])
    trace("replay", "w.trace", "--driver", nbdkit, cwd=tmp_path)


def test_a_disk_in_many_pieces_is_clean(tmp_path: Path) -> None:
    """qemu-nbd tells of all of them in one block status reply."""
    need("qemu-nbd")
    requests = [(Kind.WRITE, at * 8 * KIB, 4 * KIB, 0) for at in range(9000)]
    make_trace(tmp_path / "w.trace", requests, size=72 << 20, payloads="hash", together=8)
    driver = driver_file(
        tmp_path,
        serve=["qemu-nbd", "-t", "-f", "raw", "-k", "{socket}", "--discard=unmap", "{image}"],
    )
    trace("replay", "w.trace", "--driver", driver, cwd=tmp_path)


def test_a_driver_that_offers_little_is_asked_for_little(tmp_path: Path) -> None:
    """No trim, zeroes, FUA or flush: said in other commands. (The pattern plugin cannot be used here:
    it is read-only.)"""
    need("nbdkit")
    requests = [request for request in WORKLOAD if request[0] != Kind.READ]
    make_trace(tmp_path / "w.trace", requests)
    driver = driver_file(
        tmp_path,
        serve=["nbdkit", "-f", "-U", "{socket}", "--filter=nozero", "--filter=fua", "file", "{image}",
               "zeromode=none"],
    )  # fmt: skip
    trace("replay", "w.trace", "--driver", driver, cwd=tmp_path)


def test_a_driver_that_keeps_nothing_is_judged_by_what_it_serves(
    tmp_path: Path, workload: Path
) -> None:
    need("nbdkit")
    driver = driver_file(tmp_path, serve=["nbdkit", "-f", "-U", "{socket}", "memory", "{size}"])
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
        while not socket.exists():
            pass
        trace("replay", "w.trace", "--driver", uri, cwd=tmp_path)
        done = trace("replay", "w.trace", "--driver", uri, cwd=tmp_path, expect=200)
        assert "--force" in done.stderr
        trace("replay", "w.trace", "--driver", uri, "--force", cwd=tmp_path)


# ---------------------------------------------------------------- what is found


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


def test_without_locating_one_run_is_enough(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = write_driver(tmp_path, "write-lost")
    arguments = ("replay", "w.trace", "--driver", driver, "--no-locate", "--json", "--no-plot")
    verdict = json.loads(trace(*arguments, cwd=tmp_path, expect=1).stdout)
    assert (verdict["culprit"], verdict["runs"], verdict["replayed_ops"]) == (None, 1, 28)
    assert places(verdict["damage"]) == [(40, 8)]
    assert verdict["first_bad_read"] == {"seq": 21, "sector": 40}


def test_images_are_kept_when_asked_for(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = write_driver(tmp_path, "write-lost")
    arguments = ("replay", "w.trace", "--driver", driver, "--keep", "kept", "--no-plot")
    trace(*arguments, cwd=tmp_path, expect=1)
    good, bad = (tmp_path / "kept/full" / name for name in ("reference.raw", "test.img"))
    assert good.read_bytes()[: 20 * KIB] == bad.read_bytes()[: 20 * KIB]
    assert good.read_bytes()[20 * KIB : 24 * KIB] != bad.read_bytes()[20 * KIB : 24 * KIB]
    trace(*arguments, cwd=tmp_path, expect=200)


def test_a_fresh_image_that_is_wrong_already_has_no_culprit(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = driver_file(
        tmp_path,
        create=["sh", "-c", f"head -c {SIZE} /dev/zero | tr '\\000' x > $0", "{image}"],
        serve=["nbdkit", "-f", "-U", "{socket}", "file", "{image}"],
    )
    done = trace(
        "replay", "w.trace", "--driver", driver, "--json", "--no-plot", cwd=tmp_path, expect=1
    )
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["culprit"]) == ("damaged", None)
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
    driver = driver_file(tmp_path, serve=serve)
    done = trace("replay", "w.trace", "--driver", driver, "--json", cwd=tmp_path, expect=125)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["verdict"], verdict["culprit"]) == ("undecidable", None)
    assert says in verdict["reason"]


def test_a_build_that_is_not_there(tmp_path: Path, workload: Path) -> None:
    done = trace("replay", "w.trace", "--driver", f"qcow2@{tmp_path}", cwd=tmp_path, expect=125)
    assert "there is no program qemu-nbd" in done.stderr


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("verb", [["replay", "--driver", "raw"], ["show"], ["verify"]])
def test_no_such_trace(tmp_path: Path, verb: list[str]) -> None:
    done = trace(*verb, "none.trace", cwd=tmp_path, expect=201)
    assert done.stderr == "trace: cannot open none.trace: No such file or directory\n"


@pytest.mark.parametrize("verb", [["replay", "--driver", "raw"], ["show"], ["verify"]])
@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 5000, b"not a trace at all\n", b"\xc1\xff" * 999]
)
def test_random_bytes(tmp_path: Path, verb: list[str], content: bytes) -> None:
    (tmp_path / "bad.trace").write_bytes(content)
    done = trace(*verb, "bad.trace", cwd=tmp_path, expect=201)
    assert done.stderr == "trace: bad.trace is not a trace: it has no header\n"


def test_a_truncated_trace_replays_as_far_as_it_goes(tmp_path: Path, workload: Path) -> None:
    workload.write_bytes(workload.read_bytes()[:-150])
    done = trace("verify", "w.trace", cwd=tmp_path, expect=201)
    assert "not closed" in done.stdout
    assert "cut off" in done.stdout
    verdict = json.loads(
        trace("replay", "w.trace", "--driver", "raw", "--json", cwd=tmp_path).stdout
    )
    assert (verdict["verdict"], verdict["ops"], verdict["replayed_ops"]) == ("clean", 27, 27)


def test_a_damaged_record_is_named_by_its_place(tmp_path: Path, workload: Path) -> None:
    content = bytearray(workload.read_bytes())
    content[-108 * 5] ^= 0xFF
    workload.write_bytes(content)
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert f"at byte {len(content) - 108 * 5}" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_payloads(tmp_path: Path, workload: Path) -> None:
    (tmp_path / "w.payloads").unlink()
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert done.stderr.startswith("trace: cannot open the payloads w.payloads")
    done = trace("verify", "w.trace", cwd=tmp_path, expect=201)
    assert "cannot open the payloads" in done.stdout


def test_cut_payloads(tmp_path: Path, workload: Path) -> None:
    store = tmp_path / "w.payloads"
    store.write_bytes(store.read_bytes()[:-10])
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert "missing" in done.stderr
    done = trace("verify", "w.trace", "--json", cwd=tmp_path, expect=201)
    assert json.loads(done.stdout)["missing"] > 0


def test_payloads_of_another_trace(tmp_path: Path, workload: Path) -> None:
    other = make_trace(tmp_path / "other.trace", WORKLOAD)
    shutil.copy(other.with_suffix(".payloads"), tmp_path / "w.payloads")
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert "belongs to another trace" in done.stderr


def test_a_trace_that_contradicts_itself_is_a_bad_trace_not_a_bad_driver(tmp_path: Path) -> None:
    path = make_trace(tmp_path / "w.trace", [(Kind.READ, 0, 512, 0)])
    content = bytearray(path.read_bytes())
    content[-108 - 1] ^= 1  # the digest of what the read returned
    path.write_bytes(content)
    done = trace("replay", "w.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    assert "the trace is not complete" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--driver", "nosuch"],
        ["--driver", "raw", "--depth", "0"],
        ["--driver", "raw", "--depth", "deep"],
        ["--driver", "raw", "--timeout", "0"],
        ["--driver", "raw", "--plot", "p.gif"],
        ["--driver", "raw", "--plot", "nowhere/p.png"],
        ["--driver", "raw", "--plot", "w.png", "--no-plot"],
        ["--driver", "none.toml"],
        ["--driver", "http://localhost/"],
        ["--driver", "nbd+unix:///"],
        ["--driver", "raw", "--bogus"],
    ],
)
def test_usage_errors_are_one_line(tmp_path: Path, workload: Path, arguments: list[str]) -> None:
    done = trace("replay", "w.trace", *arguments, cwd=tmp_path, expect=200)
    assert done.stderr.startswith("trace: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_second_plot_gets_a_name_of_its_own(tmp_path: Path, workload: Path) -> None:
    need("nbdkit")
    driver = write_driver(tmp_path, "write-lost")
    for name in ("w.damage.png", "w.damage-2.png"):
        arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-locate")
        assert json.loads(trace(*arguments, cwd=tmp_path, expect=1).stdout)["plot"] == name
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_an_existing_plot_is_kept(tmp_path: Path, workload: Path) -> None:
    (tmp_path / "p.png").write_text("precious")
    done = trace(
        "replay", "w.trace", "--driver", "raw", "--plot", "p.png", cwd=tmp_path, expect=200
    )
    assert "p.png exists" in done.stderr
    assert (tmp_path / "p.png").read_text() == "precious"


# ---------------------------------------------------------------- the other verbs


def test_show_marks_the_last_writer_of_a_sector(tmp_path: Path, workload: Path) -> None:
    done = trace("show", "w.trace", "--sector", "40", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["#0", "#17", "#21", "#24", "#26"]
    assert [line for line in lines if "last writer" in line] == [lines[2]]
    found = json.loads(trace("show", "w.trace", "--sector", "40", "--json", cwd=tmp_path).stdout)
    assert found["last_writer"] == 17
    assert [op["seq"] for op in found["ops"]] == [0, 17, 21, 24, 26]


def test_show_lists_a_range_of_ops(tmp_path: Path, workload: Path) -> None:
    done = trace("show", "w.trace", "--ops", "--from", "18", "--to", "20", cwd=tmp_path)
    assert [line.split()[:4] for line in done.stdout.splitlines()[1:]] == [
        ["#18", "write", "120", "24"],
        ["#19", "zero", "512", "64"],
        ["#20", "trim", "1024", "128"],
    ]


def test_show_sums_up(tmp_path: Path, workload: Path) -> None:
    facts = json.loads(trace("show", "w.trace", "--json", cwd=tmp_path).stdout)
    assert facts["ops"] == {
        "write": 20, "flush": 3, "zero": 1, "trim": 1, "read": 2, "block_status": 1,
    }  # fmt: skip
    assert (facts["closed"], facts["verdict"], facts["header"]["size"]) == (True, "clean", SIZE)
    assert "closed:    yes, clean" in trace("show", "w.trace", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "arguments",
    [["--from", "3"], ["--ops", "--from", "3", "--to", "2"], ["--sector", str(SIZE // 512)]],
)
def test_show_refuses_nonsense(tmp_path: Path, workload: Path, arguments: list[str]) -> None:
    done = trace("show", "w.trace", *arguments, cwd=tmp_path, expect=200)
    assert done.stderr.count("\n") == 1


def test_a_trace_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    from tracer.trace.file import TraceWriter
    from tracer.trace.header import Header
    from tracer.trace.records import End, Mark

    path = tmp_path / "evil.trace"
    writer = TraceWriter(path, Header(size=512, driver={"name": "\x1b[2J\x07"}))
    writer.mark(Mark(0, 0, "\x1b]0;owned\x07"))
    writer.close(End(0, 0, 0, "\x1b[31mclean"))
    done = trace("show", "evil.trace", cwd=tmp_path)
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert "\\x1b[2J" in done.stdout


def test_verify_finds_a_payload_that_is_not_what_was_written(
    tmp_path: Path, workload: Path
) -> None:
    assert "ok" in trace("verify", "w.trace", cwd=tmp_path).stdout
    content = bytearray(workload.read_bytes())
    first = content.index(b"\xc4\x10") + 2  # the digest of the first op
    content[first] ^= 1
    workload.write_bytes(content)
    verified = json.loads(trace("verify", "w.trace", "--json", cwd=tmp_path, expect=201).stdout)
    assert (verified["damaged"], verified["missing"], verified["ok"]) == (1, 0, False)


def test_doctor_finds_what_is_there_and_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.kit import peers

    need("qemu-img")
    monkeypatch.setitem(peers.PEER_ENV, "BLKBOX_QEMU_NBD", "/nowhere/qemu-nbd")
    found = json.loads(trace("doctor", "--json", cwd=tmp_path).stdout)
    tools = {tool["name"]: tool for tool in found["tools"]}
    assert tools["qemu-nbd"]["path"] is None
    assert tools["qemu-img"]["version"] in peer("qemu-img", "--version")
    assert found["drivers"] == ["raw"]
    assert "not found" in trace("doctor", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "verb", ["record", "replay", "show", "verify", "import", "export", "doctor"]
)
def test_every_verb_has_help_with_an_example(tmp_path: Path, verb: str) -> None:
    assert "Example: " in trace(verb, "--help", cwd=tmp_path).stdout


def test_help_does_not_load_what_it_does_not_need(tmp_path: Path) -> None:
    code = (
        "import sys, blkbox.main; blkbox.main.run(['--help']); "
        "sys.exit(sum(m in sys.modules for m in ('polars', 'matplotlib', 'numpy', 'zstandard')))"
    )
    peer(sys.executable, "-c", code, cwd=tmp_path)
