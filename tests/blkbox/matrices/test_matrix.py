"""``trace matrix``: real builds, good and bad; what it leaves, how it goes on."""

import json
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import blkbox
from tests.kit.builds import build, killing
from tests.kit.command import trace
from tests.kit.peers import PEER_ENV, background, need
from tests.kit.system import PATIENCE
from tracer.errors import Exit
from tracer.verdict import VerdictKind

pytestmark = pytest.mark.slow

SHORT = ["--ops", "60", "--size", "4M", "--profile", "serial", "--timeout", "4"]
"""Options that make cells short."""


def shelf(folder: Path, many: int = 2) -> list[str]:
    """Traces in a folder; their names."""
    (folder / "shelf").mkdir()
    for seed in range(many):
        blkbox.generate(folder / "shelf" / f"t{seed}.trace", seed=seed, ops=60, size=4 << 20,
                        profile="serial")  # fmt: skip
    return [f"t{seed}" for seed in range(many)]


def run(*words: object, cwd: Path, expect: int = 0) -> dict[str, Any]:
    """Run a matrix; what it prints as JSON."""
    done = trace("matrix", *words, "--json", cwd=cwd, expect=expect)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def verdicts(found: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(cell["trace"], cell["build"]): cell["verdict"] for cell in found["cells"]}


def builds(*names: str) -> list[str]:
    return [word for name in names for word in ("--driver", name)]


class Links(HTMLParser):
    """The targets of a page's links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if tag == "a" and name == "href"]


def test_good_builds_are_clean_and_are_not_run_again(tmp_path: Path) -> None:
    names = shelf(tmp_path)
    words = ["shelf", *builds("raw"), "--generate", "7-8", *SHORT]
    found = run(*words, cwd=tmp_path)
    assert [row["name"] for row in found["traces"]] == [*names, "seed 7", "seed 8"]
    assert set(verdicts(found).values()) == {"clean"}
    assert not any(cell["kept"] for cell in found["cells"])
    again = trace("matrix", *words, cwd=tmp_path)
    assert "4 cells of 4 are kept from earlier" in again.stderr
    assert "4 of 4 cells: 4 clean" in again.stdout
    assert all(cell["kept"] for cell in json.loads((tmp_path / "matrix/matrix.json").read_text())[
        "cells"])  # fmt: skip


def test_bad_builds_are_verdicts_as_in_single_replays_with_reports(tmp_path: Path) -> None:
    need("nbdkit")
    names = shelf(tmp_path)
    drivers = [build(tmp_path, name) for name in ("good", "loses", "crashes", "hangs")]
    found = run("shelf", *builds(*drivers), *SHORT, "--jobs", 2, cwd=tmp_path,
                expect=Exit.BAD_DRIVER)  # fmt: skip
    cells = {(cell["trace"], cell["build"]): cell for cell in found["cells"]}
    for name in names:
        for driver in drivers:
            cell = cells[name, driver]
            single = blkbox.replay(
                tmp_path / "shelf" / f"{name}.trace", driver=tmp_path / driver, timeout=4.0
            )
            assert cell["verdict"] == single.verdict
            culprit = single.culprit
            named = culprit and f"#{culprit.seq} {culprit.kind}"
            assert cell["culprit"] == named, (driver, single.reason)
            assert cell["symptom"] == single.symptom
            kept = blkbox.load_verdict(tmp_path / "matrix" / "cells" / f"{cell['key']}.json")
            assert kept.damage == single.damage
    assert {cells[names[0], driver]["verdict"] for driver in drivers} == {
        "clean", "damaged", "failed",
    }  # fmt: skip
    folder = tmp_path / "matrix"
    links = Links((folder / "matrix.html").read_text()).found
    reports = [cell["report"] for cell in found["cells"] if cell["verdict"] != "clean"]
    assert len(set(reports)) == 6
    for report in reports:
        assert report in links
        assert "What happened" in (folder / report).read_text()
    assert (folder / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_junit_has_a_testcase_for_each_cell(tmp_path: Path) -> None:
    need("nbdkit")
    names = shelf(tmp_path)
    loses = build(tmp_path, "loses")
    run("shelf", *builds("raw", loses, "qcow2@missing"), *SHORT, cwd=tmp_path,
        expect=Exit.BAD_DRIVER)  # fmt: skip
    suites = ET.parse(tmp_path / "matrix" / "junit.xml").getroot()
    assert [suite.get("name") for suite in suites] == ["raw", loses, "qcow2@missing"]
    for suite, tag, counts in zip(
        suites, (None, "failure", "error"), ("000", "200", "020"), strict=True
    ):
        assert [case.get("name") for case in suite] == names
        assert [[child.tag for child in case] for case in suite] == 2 * [[tag] if tag else []]
        assert "".join(suite.get(n, "") for n in ("failures", "errors", "skipped")) == counts


def test_a_cell_whose_process_dies_is_undecidable_and_runs_again(tmp_path: Path) -> None:
    need("nbdkit")
    shelf(tmp_path, 1)
    kills = killing(tmp_path)
    words = ["shelf", *builds("raw", kills), *SHORT]
    for kept in (False, True):
        found = run(*words, cwd=tmp_path, expect=Exit.UNDECIDABLE)
        assert verdicts(found) == {("t0", "raw"): "clean", ("t0", kills): "undecidable"}
        assert [cell["kept"] for cell in found["cells"]] == [kept, False]
        assert found["cells"][1]["reason"] == (
            "the process that ran this cell died: killed by SIGKILL"
        )


def test_a_cell_that_takes_too_long_is_undecidable(tmp_path: Path) -> None:
    need("nbdkit")
    shelf(tmp_path, 1)
    hangs = build(tmp_path, "hangs")
    found = run("shelf", *builds(hangs), *SHORT, "--timeout", 600, "--limit", "4s", cwd=tmp_path,
                expect=Exit.UNDECIDABLE)  # fmt: skip
    assert found["cells"][0]["reason"].endswith("it took more than 4 s")


def test_no_room_is_a_verdict_of_the_cell(tmp_path: Path) -> None:
    # a disk that a run would fill, on a machine that has no such room
    blkbox.generate(tmp_path / "small.trace", seed=1, ops=20, size=1 << 20)
    found = run("small.trace", *builds("raw"), "--generate", "1", "--ops", 10**9, "--size", "4E",
                cwd=tmp_path, expect=Exit.UNDECIDABLE)  # fmt: skip
    assert [cell["verdict"] for cell in found["cells"]] == ["clean", "undecidable"]
    assert "free, and this cell may need 119.2 TiB: make room" in found["cells"][1]["reason"]


def test_only_what_changed_runs_again(tmp_path: Path) -> None:
    need("nbdkit")
    names = shelf(tmp_path)
    first, second = build(tmp_path, "good"), build(tmp_path, "other", "good")
    words = ["shelf", *builds(first, second), *SHORT]
    found = run(*words, cwd=tmp_path)
    # the two builds have the same content, and the same cells
    keys = [cell["key"] for cell in found["cells"]]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    plugin = tmp_path / "other" / "plugin.py"
    plugin.write_text(plugin.read_text() + "\n# another build\n")
    kept = {(c["trace"], c["build"]): c["kept"] for c in run(*words, cwd=tmp_path)["cells"]}
    assert kept == {(name, driver): driver == first for name in names for driver in (first, second)}
    blkbox.generate(tmp_path / "shelf" / "t1.trace", seed=9, ops=60, size=4 << 20, force=True)
    kept = {(c["trace"], c["build"]): c["kept"] for c in run(*words, cwd=tmp_path)["cells"]}
    assert kept == {(name, driver): name == "t0" for name in names for driver in (first, second)}
    again = run(*words, "--runs", 2, cwd=tmp_path)
    assert not any(cell["kept"] for cell in again["cells"])
    # and what was there before is still there
    assert all(cell["kept"] for cell in run(*words, cwd=tmp_path)["cells"])


def test_a_matrix_that_was_killed_goes_on(tmp_path: Path) -> None:
    need("nbdkit")
    build(tmp_path, "good")
    words = ["--generate", "1-12", *builds("good/mine.toml"), *SHORT, "--jobs", "2", "-o", "m"]
    with background(sys.executable, "-m", "blkbox", "matrix", *words, cwd=tmp_path) as process:
        cells = tmp_path / "m" / "cells"
        while not cells.is_dir() or len(list(cells.glob("*.json"))) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    done = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    (tmp_path / "m" / "cells" / ".blkbox-left").mkdir()  # as a write that was killed leaves
    torn = next(iter(done))
    (cells / torn).write_text('{"verdict": "cl')  # as a power cut leaves
    found = run(*words, cwd=tmp_path)
    assert set(verdicts(found).values()) == {"clean"}
    kept = {f"{cell['key']}.json" for cell in found["cells"] if cell["kept"]}
    assert kept == set(done) - {torn}
    assert not list(cells.glob(".blkbox-*"))
    for name in kept:
        assert (cells / name).stat().st_mtime_ns == done[name]


def test_a_signal_ends_it_and_nothing_stays_behind(tmp_path: Path) -> None:
    need("nbdkit")
    hangs = build(tmp_path, "hangs")
    words = ["--generate", "1-4", *builds("raw", hangs), *SHORT, "--timeout", "600"]
    with background(sys.executable, "-m", "blkbox", "matrix", *words, cwd=tmp_path) as process:
        cells = tmp_path / "matrix" / "cells"
        while not cells.is_dir() or not list(cells.glob("*.json")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == Exit.INTERRUPTED
    assert "of 8 cells: " in out
    assert "trace: interrupted by SIGINT: finished cells are kept" in err
    state = json.loads((tmp_path / "matrix" / "matrix.json").read_text())
    assert state["interrupted"] == "SIGINT"
    running = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True,
                             check=False).stdout.split()  # fmt: skip
    assert running == []


def test_a_server_is_asked_for_alone_and_every_time(tmp_path: Path) -> None:
    need("nbdkit")
    shelf(tmp_path)
    socket = tmp_path / "s"
    uri = f"nbd+unix:///?socket={socket}"
    server = subprocess.Popen(["nbdkit", "-f", "-U", str(socket), "memory", "4M"], env=PEER_ENV)
    try:
        while not socket.exists():
            assert server.poll() is None
            time.sleep(0.01)
        refused = trace("matrix", "shelf", *builds(uri), *SHORT, cwd=tmp_path, expect=Exit.USAGE)
        assert "its data would be overwritten: give --force" in refused.stderr
        for _ in range(2):
            found = run("shelf", *builds(uri), *SHORT, "--force", "--jobs", 2, cwd=tmp_path)
            assert [cell["verdict"] for cell in found["cells"]] == ["clean", "clean"]
            assert not any(cell["kept"] for cell in found["cells"])
    finally:
        server.kill()
        server.wait()
    done = trace("matrix", "shelf", *builds(uri), *SHORT, "--force", cwd=tmp_path,
                 expect=Exit.UNDECIDABLE)  # fmt: skip
    assert "has no fingerprint: its cells are run every time" in done.stderr


def test_traces_come_from_files_globs_folders_and_manifests(tmp_path: Path) -> None:
    shelf(tmp_path)
    (tmp_path / "more").mkdir()
    blkbox.generate(tmp_path / "more" / "t0.trace", seed=5, ops=20, size=1 << 20)
    (tmp_path / "list.toml").write_text('[traces]\ninstall = "more/t0.trace"\nold = "shelf/t1*"\n')
    (tmp_path / "more.toml").write_text('traces = ["more", "shelf/*.trace"]\n')
    for words, names in (
        (["shelf/t1.trace", "shelf"], ["t1", "t0"]),
        (["shelf/t?.trace"], ["t0", "t1"]),
        (["list.toml"], ["install", "old"]),
        (["more.toml"], ["more/t0", "shelf/t0", "t1"]),
    ):
        found = run(*words, *builds("raw"), *SHORT, "-o", f"m{len(names)}{names[0][0]}",
                    cwd=tmp_path)  # fmt: skip
        assert [row["name"] for row in found["traces"]] == names


def test_a_trace_that_cannot_be_read_is_undecidable_everywhere(tmp_path: Path) -> None:
    shelf(tmp_path, 1)
    (tmp_path / "shelf" / "bad.trace").write_bytes(b"no trace")
    found = run("shelf", *builds("raw"), *SHORT, cwd=tmp_path, expect=Exit.UNDECIDABLE)
    assert verdicts(found) == {("bad", "raw"): "undecidable", ("t0", "raw"): "clean"}
    assert "is not a trace" in found["cells"][0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--driver", "raw"], "there is no trace"),
        (["none.trace", "--driver", "raw"], "there is no trace none.trace"),
        (["*.trace", "--driver", "raw"], "nothing matches *.trace"),
        (["empty", "--driver", "raw"], "there is no *.trace in empty"),
        (["bad.toml", "--driver", "raw"], "'traces' must be a list"),
        (["--generate", "9-1", "--driver", "raw"], "--generate 9-1: give from 1"),
        (["--generate", "x", "--driver", "raw"], "--generate 'x': give a seed"),
        (["--generate", "1", "--driver", "nothing"], "unknown driver 'nothing'"),
        (["--generate", "1", "--driver", "raw", "--jobs", "0"], "--jobs 0"),
        (["--generate", "1", "--driver", "raw", "-o", "full"], "full has mine.txt"),
        (["--generate", "1", "--driver", "raw", "--profile", "none"], "--profile 'none'"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_one_line(
    tmp_path: Path, arguments: list[str], why: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.toml").write_text("traces = 7")
    done = trace("matrix", *arguments, cwd=tmp_path, expect=Exit.USAGE)
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_two_matrices_do_not_share_a_folder(tmp_path: Path) -> None:
    need("nbdkit")
    hangs = build(tmp_path, "hangs")
    words = ["--generate", "1", *builds(hangs), *SHORT, "--timeout", "600"]
    with background(sys.executable, "-m", "blkbox", "matrix", *words, cwd=tmp_path) as process:
        while not (tmp_path / "matrix" / "matrix.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        done = trace("matrix", *words, cwd=tmp_path, expect=Exit.USAGE)
        assert "another matrix runs in matrix" in done.stderr
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = blkbox.matrix(["shelf"], drivers=["raw"], seeds=range(1, 2), ops=50, size=1 << 20,
                          locate=False)  # fmt: skip
    assert found.tally == {VerdictKind.CLEAN: 3}
    assert found.exit_code == 0
    with pytest.raises(blkbox.BlkboxError, match="there is no driver"):
        blkbox.matrix(["shelf"], drivers=[])
