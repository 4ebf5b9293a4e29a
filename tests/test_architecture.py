"""The house: who may import whom. A room is a folder; imports go from the specific to the general.

The imports are read from the source, so that one inside a function counts too.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = ("tracer", "replay", "analysis", "blkbox")

TRACER = ("tracer", "tracer.candidates", "tracer.nbd", "tracer.disk", "tracer.trace",
          "tracer.driver", "tracer.below", "tracer.mirror")  # fmt: skip
FRAMES = (*TRACER, "analysis.frames")

API = "blkbox/__init__.py"

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # what sits in the I/O path
    "tracer": (),
    "tracer.candidates": ("tracer",),
    "tracer.nbd": ("tracer",),
    "tracer.disk": ("tracer", "tracer.nbd"),
    "tracer.trace": ("tracer",),
    "tracer.driver": ("tracer", "tracer.nbd", "tracer.disk"),
    "tracer.below": ("tracer", "tracer.disk", "tracer.trace", "tracer.driver"),
    "tracer.mirror": ("tracer", "tracer.candidates", "tracer.nbd", "tracer.disk"),
    "tracer.recording": TRACER,
    "tracer.rework": TRACER,
    "tracer.serving": (*TRACER, "tracer.recording", "tracer.rework"),
    # re-executes
    "replay": TRACER,
    "replay.generate": TRACER,
    "replay.locate": (*TRACER, "replay"),
    "replay.minimize": (*TRACER, "replay"),
    "replay.script": ("tracer", "replay.minimize"),
    "replay.below.states": TRACER,
    "replay.below": (*TRACER, "replay", "replay.below.states"),
    # explains
    "analysis": ("analysis.frames", "analysis.story", "tracer"),
    "analysis.frames": TRACER,
    "analysis.story": (*FRAMES, "tracer.rework"),
    "analysis.provenance": FRAMES,
    "analysis.plots": FRAMES,
    "analysis.report": (*FRAMES, "analysis.plots", "analysis.story"),
    "analysis.interop": FRAMES,
    # what a user types and what a program imports
    "blkbox.executors": ("tracer", "tracer.driver"),
    "blkbox.judging": (*FRAMES, "replay", "replay.locate", "analysis", "analysis.provenance",
                       "analysis.report"),
    "blkbox.minimizing": (*TRACER, "replay", "replay.below", "replay.minimize", "replay.script",
                          "analysis.provenance", "blkbox.executors", "blkbox.judging"),
    "blkbox.hunting": (*TRACER, "replay", "replay.generate", "blkbox.executors", "blkbox.judging",
                       "blkbox.minimizing"),
    "blkbox": (*FRAMES, "tracer.below", "tracer.recording", "tracer.rework", "tracer.serving",
               "replay", "replay.generate", "replay.below", "analysis", "analysis.story",
               "analysis.plots", "analysis.interop", "blkbox.executors", "blkbox.judging",
               "blkbox.hunting", "blkbox.minimizing"),
    "blkbox.matrices": (*FRAMES, "replay", "replay.generate", "analysis", "analysis.plots",
                        "analysis.report", "blkbox", "blkbox.executors", "blkbox.judging"),
    API: ("tracer", "blkbox", "blkbox.hunting", "blkbox.matrices", "blkbox.minimizing"),
    "blkbox.commands": (*FRAMES, "tracer.recording", "tracer.rework", "tracer.serving",
                        "replay.generate", "replay.below", "analysis", "analysis.story",
                        "analysis.plots", "analysis.report", "analysis.interop", "blkbox",
                        "blkbox.hunting", "blkbox.matrices", "blkbox.minimizing"),
}  # fmt: skip
"""Each room, and the other rooms that its modules may import."""

MAX_MODULES = 15
"""Modules in a room. The rooms with one file per verb or format may have more."""

ROOMY = ("blkbox.commands", "analysis.interop")


def modules() -> dict[str, Path]:
    """Every module of the four packages, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    """The room that a module is in: a package is in itself. The public API, which offers what is
    in any room, is in one of its own."""
    if module == "blkbox":
        return API
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            # "from package import module" imports the module; all else is a name in the module
            names = [name if name in MODULES else node.module for name in inner]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


GRAPH = {name: set(imports(path)) - {name} for name, path in MODULES.items()}


def test_every_room_is_in_the_table() -> None:
    assert {room_of(module) for module in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    found = {
        f"{module} imports {target}"
        for module in MODULES
        for target in GRAPH[module]
        if room_of(module) == room and room_of(target) not in (room, *MAY_IMPORT[room])
    }
    assert not found


def test_the_table_has_no_cycle() -> None:
    try:
        TopologicalSorter(MAY_IMPORT).prepare()
    except CycleError as error:
        pytest.fail(f"rooms import each other: {error.args[1]}")


def test_no_module_imports_itself_by_way_of_others() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {error.args[1]}")


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_is_small(room: str) -> None:
    inside = [module for module in MODULES if room_of(module) == room and module != room]
    assert len(inside) <= MAX_MODULES or room in ROOMY


def test_nothing_is_imported_by_a_name_in_a_string() -> None:
    def names(path: Path) -> set[str]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        return used | {node.id for node in nodes if isinstance(node, ast.Name)}

    found = [
        module for module, path in MODULES.items() if names(path) & {"import_module", "__import__"}
    ]
    assert found == ["blkbox.main"]  # the table of verbs


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
