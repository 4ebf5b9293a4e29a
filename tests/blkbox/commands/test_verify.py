"""``trace verify``."""

import json
from pathlib import Path

from tests.kit.command import trace


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
