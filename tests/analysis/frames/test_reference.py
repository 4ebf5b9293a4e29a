"""docs/analysis.md describes the columns that frames have, and no others."""

import re
from pathlib import Path

import polars as pl
import pytest

from analysis.frames.columns import MARKS, MISMATCHES, OPS, RESTARTS, SETTLES
from analysis.frames.frames import Frames
from analysis.frames.lifetimes import VERSIONS
from analysis.frames.lower import LOWER
from analysis.story.damage import DAMAGE

PAGE = Path(__file__).parents[3] / "docs" / "analysis.md"

SCHEMAS = {
    "ops": OPS,
    "lower": LOWER,
    "marks": MARKS,
    "mismatches": MISMATCHES,
    "settles": SETTLES,
    "restarts": RESTARTS,
    "versions": VERSIONS,
    "damage": DAMAGE,
}


def name(dtype: pl.DataType) -> str:
    """A dtype as the page writes it."""
    if isinstance(dtype, pl.Duration):
        return f"Duration({dtype.time_unit})"
    if isinstance(dtype, pl.List):
        return f"List({name(dtype.inner)})"  # type: ignore[arg-type]
    return type(dtype).__name__


def columns(schema: pl.Schema) -> list[tuple[str, str]]:
    return [(column, name(dtype)) for column, dtype in schema.items()]


@pytest.mark.parametrize("section", SCHEMAS)
def test_the_page_has_every_column_with_its_type(section: str) -> None:
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.M)
    rows = re.findall(r"^\| `(\w+)` \| ([\w()]+) \| (.+) \| (.+) \|$", text, re.M)
    assert [row[:2] for row in rows] == columns(SCHEMAS[section])
    assert all(meaning and null for *_, meaning, null in rows)


def test_the_page_has_a_section_for_each_frame_and_no_other() -> None:
    assert re.findall(r"^## (.*)$", PAGE.read_text(), re.M) == list(SCHEMAS)


@pytest.mark.parametrize("section", [name for name in SCHEMAS if name != "damage"])
def test_help_has_every_column_with_its_type(section: str) -> None:
    text = getattr(Frames, section).__doc__
    rows = re.findall(
        r"^ +(\w+) +((?:U?Int\d+|Enum|String|Binary|Boolean|Duration|List)\S*) ", text, re.M
    )
    assert rows == columns(SCHEMAS[section])
