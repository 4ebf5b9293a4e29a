"""``trace doctor``."""

import json
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.peers import need, peer


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
