"""The JSON schemas of what ``trace replay --json`` and ``trace record --json`` print, and of an
error with ``--json``.

``python -m tracer.verdict_schema docs`` writes them to the folder ``docs``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from tracer.problem import Failure
from tracer.verdict import Recording, Verdict

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Model = type[Verdict] | type[Recording] | type[Failure]

FILES: dict[str, Model] = {
    "verdict.schema.json": Verdict,
    "recording.schema.json": Recording,
    "error.schema.json": Failure,
}


def schema(model: Model) -> dict[str, Any]:
    """Return a model's JSON schema."""
    return {"$schema": DIALECT, **msgspec.json.schema(model)}


def content(name: str) -> str:
    """Return the text of the schema file ``name``."""
    return json.dumps(schema(FILES[name]), indent=2) + "\n"


if __name__ == "__main__":
    for name in FILES:
        (Path(sys.argv[1]) / name).write_text(content(name))
