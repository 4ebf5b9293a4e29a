"""``trace formats``."""

import json
from pathlib import Path

from analysis.interop.formats import EXPORTS, IMPORTS
from tests.kit.command import trace
from tracer.driver.spec import FORMATS


def test_it_lists_every_format(tmp_path: Path) -> None:
    told = trace("formats", cwd=tmp_path).stdout
    first = {line.split()[0] for line in told.splitlines() if line}
    assert {*IMPORTS, *EXPORTS} <= first
    assert all(name in told for name in FORMATS)


def test_as_json(tmp_path: Path) -> None:
    told = json.loads(trace("formats", "--json", cwd=tmp_path).stdout)
    assert told["schema"] == 1
    assert set(told["imports"]) == set(IMPORTS)
    assert told["exports"]["parquet"]["suffixes"] == [".parquet"]
    assert told["drivers"] == list(FORMATS)
