"""The pytest plugin: a test per trace and build, replayed before the test's body.

    @pytest.mark.blkbox(trace="traces/*.trace", driver="qcow2@../build")
    def test_replay(blkbox_verdict):
        assert blkbox_verdict.verdict == "clean"

docs/pytest.md describes it. pytest loads this module in every run, so nothing else of blkbox is
imported before a marked test is collected.
"""

import inspect
import json
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tracer.verdict import Verdict

VERDICT = "blkbox_verdict"
"""The fixture that a marked test takes."""

GIVEN_BY_US = {"trace", "driver", "say"}
"""Arguments of ``blkbox.replay`` that the marker does not pass on."""


@dataclass(frozen=True)
class Cell:
    """A trace on a build: one test."""

    trace: Path
    driver: str | None
    options: dict[str, Any]
    """More arguments of ``blkbox.replay``."""
    name: str


FOUND = pytest.StashKey["Verdict"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("blkbox", "replays of traces on block drivers (blkbox)")
    group.addoption(
        "--blkbox-driver", action="append", default=[], metavar="DRIVER",
        help="the build to test, in place of the markers': as --driver of trace replay, with paths "
        "from the current folder. Give it again for another build.",
    )  # fmt: skip
    group.addoption(
        "--blkbox-report", type=Path, metavar="DIR",
        help="keep the page and the verdict of each replay that fails in this folder",
    )  # fmt: skip
    group.addoption(
        "--blkbox-strict", action="store_true",
        help="fail where a build cannot be judged, instead of skipping",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "blkbox(trace, driver=None, **options): replay the traces of a path or glob on a driver; "
        "paths are relative to the test's file, options those of blkbox.replay",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test per trace and build of a marked function."""
    marker = metafunc.definition.get_closest_marker("blkbox")
    if marker is None:
        return
    if VERDICT not in metafunc.fixturenames:
        _refuse(f"a test that is marked blkbox takes the fixture {VERDICT}")
    given = metafunc.config.getoption("--blkbox-driver")
    cells = _cells(marker, metafunc.definition.path.parent, given)
    metafunc.parametrize("_blkbox_cell", cells, ids=[cell.name for cell in cells])


def _cells(marker: pytest.Mark, folder: Path, given: Sequence[str]) -> list[Cell]:
    """Return the cells of a marker in a file of ``folder``. The drivers that are ``given`` on the
    command line take the place of the marker's."""
    from blkbox.jobs import replay

    options = dict(marker.kwargs)
    wanted, driver = options.pop("trace", None), options.pop("driver", None)
    if marker.args or not isinstance(wanted, str | Path):
        _refuse('write @pytest.mark.blkbox(trace="PATH", ...)')
    known = inspect.signature(replay).parameters.keys() - GIVEN_BY_US
    for name in options.keys() - known:
        _refuse(f"{name!r} is no option of blkbox.replay: there are {', '.join(sorted(known))}")
    pattern = str(folder / wanted)
    paths = sorted(glob(pattern, recursive=True)) if has_magic(str(wanted)) else [pattern]
    if not paths:
        _refuse(f"no trace matches {pattern}")
    drivers = {name: _below(Path.cwd(), name) for name in given}
    if not drivers and driver is not None:
        drivers = {str(driver): _below(folder, str(driver))}
    return [
        Cell(Path(path), build, options, "-".join(filter(None, (Path(path).stem, name))))
        for path in paths
        for name, build in drivers.items() or (("", None),)
    ]


def _below(folder: Path, driver: str) -> str:
    """Return a driver whose path, if it has one, does not depend on the current folder."""
    if driver.endswith(".toml"):
        return str(folder / driver)
    name, at, build = driver.partition("@")
    return f"{name}@{folder / build}" if at and build and name.isalnum() else driver


def _refuse(why: str) -> None:
    """End the collection of a test with an error."""
    pytest.fail(f"blkbox: {why}", pytrace=False)


@pytest.fixture
def _blkbox_cell() -> Cell:
    """The cell of a test that nothing marks."""
    pytest.fail(f"blkbox: {VERDICT} is for tests that are marked blkbox", pytrace=False)


@pytest.fixture
def blkbox_verdict(request: pytest.FixtureRequest, _blkbox_cell: Cell) -> "Iterator[Verdict]":
    """The verdict of a test's replay. Where the driver is bad, the test fails before its body."""
    from tracer.errors import BlkboxError, Undecidable

    try:
        verdict = _replay(_blkbox_cell)
    except Undecidable as error:
        _undecidable(request.config, str(error))
    except BlkboxError as error:
        pytest.fail(f"blkbox: {error}", pytrace=False)  # before the body, so pytest counts an error
    else:
        if verdict.verdict == "undecidable":
            _undecidable(request.config, f"{verdict.reason}\n{verdict.log}".strip())
        request.node.stash[FOUND] = verdict
        yield verdict


def _replay(cell: Cell) -> "Verdict":
    """Replay a cell. Raises BlkboxError; Undecidable if there is no driver."""
    from msgspec.structs import replace

    from blkbox.jobs import replay
    from tracer.errors import Undecidable

    if cell.driver is None:
        raise Undecidable("no driver: give --blkbox-driver, or driver= in the marker")
    verdict = replay(cell.trace, driver=cell.driver, **cell.options)
    command = ["trace", "replay", str(cell.trace), "--driver", cell.driver]
    for name, value in cell.options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            command += [f"--{option}" if value else f"--no-{option}"]
        else:
            command += [f"--{option}", str(value)]
    return replace(verdict, command=command)


def _undecidable(config: pytest.Config, why: str) -> None:
    if config.getoption("--blkbox-strict"):
        pytest.fail(f"blkbox: cannot be judged: {why}", pytrace=False)
    pytest.skip(f"blkbox: cannot be judged: {why.splitlines()[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test whose replay found something, in words."""
    verdict = pyfuncitem.stash.get(FOUND, None)
    if verdict is not None:
        pyfuncitem.user_properties.append(("blkbox_verdict", str(verdict.verdict)))
        if verdict.verdict != "clean":
            _fail(pyfuncitem, verdict)
    return (yield)


def _fail(item: pytest.Function, verdict: "Verdict") -> None:
    from blkbox.jobs import story

    told = story(verdict)
    if verdict.culprit is not None:
        item.user_properties.append(("blkbox_culprit", verdict.culprit.seq))
    folder: Path | None = item.config.getoption("--blkbox-report")
    if folder is not None:
        page, lines = _keep(folder, item, verdict)
        told += "\n" + lines
        item.user_properties.append(("blkbox_report", page))
    pytest.fail(told, pytrace=False)


def _keep(folder: Path, item: pytest.Function, verdict: "Verdict") -> tuple[str, str]:
    """Write a verdict and its page into a folder. Return the page's path, and lines that name both.
    If that fails the lines say why: the verdict matters more."""
    from blkbox.jobs import report
    from tracer.errors import BlkboxError
    from tracer.files import write_whole
    from tracer.verdict import to_json

    # a test's name has slashes, brackets and the driver's path in it
    name = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-")[-150:]
    page, data = folder / f"{name}.html", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(data, f"{json.dumps(to_json(verdict), indent=2)}\n".encode())
        report(verdict, page, force=True)
    except (BlkboxError, OSError) as error:
        return str(page), f"report:   not written: {error}"
    return str(page), f"json:     {data}\nreport:   {page}"
