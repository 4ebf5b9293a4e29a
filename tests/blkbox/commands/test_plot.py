"""``trace plot``: what it draws, what it refuses, and that it refuses before it works."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import plots
from blkbox.commands.plot import Picture
from tests.kit.command import trace
from tests.kit.ops import DISK, some
from tests.kit.system import entries
from tests.kit.traces import as_recorded, write_trace
from tracer.below.stream import LowerHeader, write_lower
from tracer.errors import UsageError
from tracer.op import SECTOR
from tracer.trace.file import Trace
from tracer.trace.records import Mark
from tracer.verdict import to_json
from tracer.verdict_file import load

pytestmark = pytest.mark.slow

CULPRIT = {
    "seq": 3, "kind": "write", "offset": 512, "length": 512, "flags": ["FUA"], "submitted": 3,
}  # fmt: skip
DAMAGE = [{"sector": 1, "sectors": 1}]
VERDICT: dict[str, Any] = {
    "schema": 1, "verdict": "damaged", "reason": "the image is wrong", "driver": "qcow2",
    "trace": "w.trace", "size": DISK, "culprit": CULPRIT, "damage": DAMAGE,
    "culprit_damage": [], "first_bad_read": {"seq": 5, "sector": 1}, "more": "is no matter",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_trace(tmp_path / "w.trace", as_recorded(some(60)), DISK)
    (tmp_path / "v.json").write_text(json.dumps(VERDICT))
    return tmp_path


def test_every_kind_has_a_picture() -> None:
    assert {kind.value for kind in Picture} == set(plots.READS)
    assert all(callable(getattr(plots, kind)) for kind in Picture)


@pytest.mark.parametrize("kind", list(Picture), ids=str)
def test_a_picture_is_named_after_the_trace(folder: Path, kind: Picture) -> None:
    source = "v.json" if kind == Picture.damage else "w.trace"
    made = {"v.json", "w.trace", f"w.{kind}.png"}
    if kind == Picture.below:
        refused = trace("plot", kind, source, cwd=folder, expect=201)
        assert "trace replay --below writes one" in refused.stderr
        with Trace(folder / "w.trace") as opened:
            write_lower(folder / "w.lower", LowerHeader(opened.header.id, 512), [])
        made.add("w.lower")
    done = trace("plot", kind, source, cwd=folder)
    assert done.stdout == f"plot: w.{kind}.png\n"
    assert done.stderr == ""
    assert (folder / f"w.{kind}.png").read_bytes().startswith(b"\x89PNG")
    assert entries(folder) == sorted(made)


def test_json_names_what_was_made(folder: Path) -> None:
    done = trace("plot", "sizes", "w.trace", "-o", "s.SVG", "--json", cwd=folder)
    told = {"schema": 1, "kind": "sizes", "trace": "w.trace", "plot": "s.SVG"}
    assert json.loads(done.stdout) == told
    assert (folder / "s.SVG").read_bytes().startswith(b"<?xml")


def test_an_existing_picture_is_kept_without_force(folder: Path) -> None:
    (folder / "w.sizes.png").write_text("precious")
    # refused before the work: the trace is not even looked for
    for arguments in (["w.trace"], ["other.trace", "-o", "w.sizes.png"]):
        done = trace("plot", "sizes", *arguments, cwd=folder, expect=200)
        assert "w.sizes.png exists" in done.stderr
        assert (folder / "w.sizes.png").read_text() == "precious"
    trace("plot", "sizes", "w.trace", "--force", cwd=folder)
    assert (folder / "w.sizes.png").read_bytes().startswith(b"\x89PNG")


def shown(picture: Path) -> str:
    """The caption of an SVG picture: the text is in comments beside its outlines."""
    comments = re.findall(r"<!-- (.*?) -->", picture.read_text())
    return str(next(words for words in comments if words.startswith("w.trace: 8.0 MiB")))


@pytest.mark.parametrize(
    ("arguments", "caption"),
    [
        ([], "w.trace: 8.0 MiB, 60 ops"),
        (["--from", "10", "--to", "#19"], "w.trace: 8.0 MiB, 10 of 60 ops"),
        (["--from", "half"], "w.trace: 8.0 MiB, 30 of 60 ops"),
        (["--to", "half"], "w.trace: 8.0 MiB, 30 of 60 ops"),
        (["--sectors", "0-16383", "--to", "half"], "w.trace: 8.0 MiB, 25 of 60 ops"),
        (["--sectors", "16-31"], "w.trace: 8.0 MiB, 0 of 60 ops; sectors 16 to 31"),
        (["--sectors", "7"], "w.trace: 8.0 MiB, 0 of 60 ops; sector 7"),
    ],
)
def test_a_part_of_a_trace(folder: Path, arguments: list[str], caption: str) -> None:
    ops = list(some(60))
    records = as_recorded([*ops[:30], Mark(30, 30 * 10**5, "half"), *ops[30:]])
    write_trace(folder / "w.trace", records, DISK)
    trace("plot", "timeline", "w.trace", "-o", "p.svg", *arguments, cwd=folder)
    assert (shown(folder / "p.svg") + ";").startswith(caption + ";")


def test_a_png_has_the_pixels_that_were_asked_for(folder: Path) -> None:
    for dpi, pixels in ((None, 1800), (30, 360), (100, 1200)):
        asked = [] if dpi is None else ["--dpi", dpi]
        trace("plot", "sizes", "w.trace", "-o", "p.png", "--force", *asked, cwd=folder)
        assert int.from_bytes((folder / "p.png").read_bytes()[16:20]) == pixels


def test_an_existing_picture_survives_a_failure(folder: Path) -> None:
    (folder / "p.png").write_text("precious")
    (folder / "bad.trace").write_bytes((folder / "w.trace").read_bytes()[:-300] + b"\0" * 300)
    trace("plot", "sizes", "bad.trace", "-o", "p.png", "--force", cwd=folder, expect=201)
    assert (folder / "p.png").read_text() == "precious"


def test_damage_is_drawn_of_another_trace_where_that_is_said(folder: Path) -> None:
    (folder / "w.trace").rename(folder / "moved.trace")
    done = trace("plot", "damage", "v.json", cwd=folder, expect=200)
    assert done.stderr.startswith("trace: there is no trace w.trace")
    done = trace("plot", "damage", "v.json", "--trace", "moved.trace", cwd=folder)
    assert done.stdout == "plot: moved.damage.png\n"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["damage", "w.trace"], 200, "w.trace is not a verdict"),
        (["damage", "none.json"], 200, "none.json"),
        (["sizes", "none.trace"], 201, "cannot open none.trace"),
        (["sizes", "v.json"], 201, "is not a trace"),
        (["sizes", "w.trace", "--trace", "w.trace"], 200, "--trace goes with damage"),
        (["sizes", "w.trace", "-o", "p.gif"], 200, "must end in .png, .svg, .pdf"),
        (["sizes", "w.trace", "-o", "nowhere/p.png"], 200, "there is no folder nowhere"),
        (["sizes", "w.trace", "--sectors", "5-3"], 200, "5-3 ends before it begins"),
        (["sizes", "w.trace", "--sectors", "all"], 200, "'all' is not a range of sectors"),
        (["sizes", "w.trace", "--sectors", "9-16384"], 200, "there is no sector 16384"),
        (["sizes", "w.trace", "--from", "60"], 200, "has no op #60: the last is #59"),
        (["sizes", "w.trace", "--to", "boot"], 200, "has no mark 'boot'"),
        (["sizes", "w.trace", "--from", "5", "--to", "3"], 200, "no ops from #5 to #3"),
        (["sizes", "w.trace", "--dpi", "601"], 200, "601 dpi: a picture has from 30 to 600"),
        (["sizes", "w.trace", "--dpi", "90", "-o", "p.svg"], 200, "--dpi goes with a PNG"),
        (["damage", "v.json", "--from", "3"], 200, "do not go with damage"),
        (["pie", "w.trace"], 200, "'pie' is not one of"),
        (["sizes"], 200, "TRACE_OR_VERDICT"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    folder: Path, arguments: list[str], code: int, told: str
) -> None:
    before = entries(folder)
    done = trace("plot", *arguments, cwd=folder, expect=code)
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert entries(folder) == before


# ---------------------------------------------------------------- verdicts


def test_a_verdict_reads_back(folder: Path) -> None:
    read = to_json(load(folder / "v.json"))
    unexplained = dict.fromkeys(("class", "source", "detail", "text", "writer"))
    damage = [one | unexplained for one in DAMAGE]
    written = VERDICT | {"culprit": CULPRIT | {"connection": 0}, "damage": damage}
    assert written.pop("more")
    assert {name: read[name] for name in written} == written
    for name in ("culprit", "first_bad_read"):
        (folder / "v.json").write_text(json.dumps(VERDICT | {name: None}))
        assert getattr(load(folder / "v.json"), name) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not a verdict"),
        (b"[1]", "is not a verdict"),
        (b"{", "not JSON, or torn"),
        (b'{"a":"\xff"}', "not JSON, or torn"),
        (b'{"a":' * 100_000, "not JSON, or torn"),
        (b"{}", "schema is missing or wrong"),
        (b'{"schema": 2}', "has schema 2; this version reads 1"),
    ],
)
def test_what_is_no_verdict_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(UsageError, match=told):
        load(tmp_path / "v.json")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"verdict": 1}, "verdict"),
        ({"size": -1}, "size"),
        ({"size": True}, "size"),
        ({"size": 1 << 63}, "size"),
        ({"culprit": {}}, "culprit"),
        ({"culprit": CULPRIT | {"seq": "3"}}, "culprit"),
        ({"culprit": CULPRIT | {"flags": [1]}}, "culprit"),
        ({"damage": None}, "damage"),
        ({"damage": [{"sector": 1}]}, "damage"),
        ({"damage": [{"sector": DISK // SECTOR, "sectors": 1}]}, "damage"),
        ({"first_bad_read": 5}, "first_bad_read"),
    ],
)
def test_a_verdict_with_something_wrong_is_refused(
    folder: Path, change: dict[str, Any], name: str
) -> None:
    (folder / "v.json").write_text(json.dumps(VERDICT | change))
    with pytest.raises(UsageError, match=f"not a verdict: {name} is missing or wrong"):
        load(folder / "v.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(VERDICT)), json_values)
def test_whatever_a_field_holds_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    path = tmp_path_factory.mktemp("v") / "v.json"
    path.write_text(json.dumps(VERDICT | {name: value}))
    try:
        assert load(path).damage is not None
    except UsageError:
        assert name != "more"
