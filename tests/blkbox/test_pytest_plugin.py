"""The pytest plugin, in pytest runs of its own."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.kit.faulty.workload import REWRITES, WORKLOAD, make_trace, write_driver
from tests.kit.peers import PEER_ENV

ROOT = Path(__file__).parents[2]

MARKED = """
import pytest

@pytest.mark.blkbox({arguments})
def test_replay(blkbox_verdict):
    assert blkbox_verdict.verdict == "clean"
"""


def run(folder: Path, *words: str, code: int, **environment: str) -> str:
    """Run pytest with the plugin in a folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "blkbox.pytest_plugin", "-p", "no:cacheprovider",
         "-rs", *words],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env={**PEER_ENV, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
             **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two traces, of which only the first meets the defect of the bad driver; the drivers."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "traces").mkdir()
    make_trace(folder / "traces" / "install.trace", WORKLOAD)
    make_trace(folder / "traces" / "rewrites.trace", REWRITES)
    for defect in ("none", "write-lost"):
        write_driver(folder, defect, "server")
    return folder


def marked(folder: Path, made: Path, arguments: str) -> Path:
    """A folder with a marked test, and what was made."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    (folder / "test_driver.py").write_text(MARKED.format(arguments=arguments))
    return folder


@pytest.mark.slow
def test_a_bad_driver_fails_with_the_story(tmp_path: Path, made: Path) -> None:
    marked(tmp_path, made, 'trace="traces/*.trace", driver="write-lost.toml"')
    said = run(tmp_path, "--blkbox-report=out", "--junitxml=junit.xml", code=1)
    assert "1 failed, 1 passed" in said
    assert "test_replay[install-write-lost.toml]" in said
    assert "culprit:  #17 write, sectors 40 to 47" in said
    assert "Traceback" not in said
    bad, good = ET.parse(tmp_path / "junit.xml").iter("testcase")
    properties = {one.get("name"): one.get("value") for one in bad.iter("property")}
    page = Path(str(properties.pop("blkbox_report")))
    assert properties == {"blkbox_verdict": "damaged", "blkbox_culprit": "17"}
    assert [failure.text.splitlines()[0] for failure in bad.iter("failure") if failure.text] == [
        "verdict:  damaged (write-lost): #21 read 65536 B at sector 0 (128 sectors) returned wrong "
        "data in sector 40"
    ]
    assert [one.get("value") for one in good.iter("property")] == ["clean"]
    assert "#17" in (tmp_path / page).read_text()
    verdict = json.loads((tmp_path / page).with_suffix(".json").read_text())
    assert verdict["culprit"]["seq"] == 17
    assert verdict["command"][:2] == ["trace", "replay"]


@pytest.mark.slow
def test_the_options_drivers_take_the_place_of_the_markers(tmp_path: Path, made: Path) -> None:
    """Two drivers, one of which is not there, side by side in two processes."""
    marked(tmp_path, made, 'trace="traces/install.trace", driver="write-lost.toml"')
    drivers = ("--blkbox-driver=none.toml", "--blkbox-driver=qcow2@nowhere")
    said = run(tmp_path, *drivers, "-p", "xdist.plugin", "-n", "2", code=0)
    assert "1 passed, 1 skipped" in said
    assert f"cannot be judged: there is no program qemu-nbd in {tmp_path}/nowhere" in said


def test_no_driver_is_skipped_or_with_strict_an_error(tmp_path: Path, made: Path) -> None:
    marked(tmp_path, made, 'trace="traces/install.trace"')
    assert "SKIPPED [1] test_driver.py:4: blkbox: cannot be judged: no driver" in run(
        tmp_path, code=0
    )
    assert "1 error" in run(tmp_path, "--blkbox-strict", code=1)


def test_our_own_errors_are_errors(tmp_path: Path, made: Path) -> None:
    marked(tmp_path, made, 'trace="traces/install.trace", driver="raw"')
    (tmp_path / "traces" / "install.trace").write_bytes(b"no trace")
    said = run(tmp_path, code=1)
    assert "1 error" in said
    assert "install.trace" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ('trace="none/*.trace", driver="raw"', "no trace matches"),
        ('"traces/install.trace"', 'write @pytest.mark.blkbox(trace="PATH", ...)'),
        ('trace="traces/install.trace", speed=3', "'speed' is no option of blkbox.replay"),
    ],
)
def test_a_marker_that_is_wrong_ends_the_collection(
    tmp_path: Path, made: Path, arguments: str, why: str
) -> None:
    marked(tmp_path, made, arguments)
    said = run(tmp_path, code=2)
    assert why in said


def test_the_marker_and_the_fixture_need_each_other(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text('import pytest\n@pytest.mark.blkbox(trace="x")\ndef test_it(): pass\n')
    assert "takes the fixture blkbox_verdict" in run(tmp_path, code=2)
    test.write_text("def test_it(blkbox_verdict): pass\n")
    assert "is for tests that are marked blkbox" in run(tmp_path, code=1)


def test_it_loads_nothing_else_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    rooms = ('blkbox', 'tracer', 'replay', 'analysis', 'polars')\n"
        "    ours = {name for name in sys.modules if name.split('.')[0] in rooms}\n"
        "    assert ours == {'blkbox', 'blkbox.pytest_plugin'}\n"
    )
    assert "1 passed" in run(tmp_path, code=0)
