"""The structures of a qcow2 image."""

import json
import random
from pathlib import Path

import pytest

from tests.kit.peers import need, peer
from tracer.below.qcow2 import Structures


@pytest.fixture(params=["compat=1.1", "cluster_size=4k", "extended_l2=on", "compat=0.10"])
def image(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    need("qemu-io", "qemu-img")
    path = tmp_path / "a.qcow2"
    peer("qemu-img", "create", "-q", "-f", "qcow2", "-o", request.param, path, "64M")
    peer("qemu-io", "-f", "qcow2", "-c", "write 0 64k", "-c", "write 40M 4k", path)
    return path


def test_data_is_where_qemu_says(image: Path) -> None:
    found = Structures(image)
    mapped = json.loads(peer("qemu-img", "map", "--output=json", "-f", "qcow2", image))
    data = [piece["offset"] for piece in mapped if piece["data"] and "offset" in piece]
    assert data
    assert {found.name(offset) for offset in data} == {"data"}


def test_each_structure_is_there_once_or_more(image: Path) -> None:
    found = Structures(image)
    names = [found.name(at) for at in range(0, image.stat().st_size, 4096)]
    assert found.name(0) == "header"
    wanted = {"header", "L1 table", "L2 table", "refcount table", "refcount block", "data"}
    assert wanted <= set(names)
    assert found.name(1 << 40) is None


def test_other_files_have_none(tmp_path: Path) -> None:
    for content in (b"", b"QFI", bytes(1 << 16)):
        (tmp_path / "a").write_bytes(content)
        assert Structures(tmp_path / "a").name(0) is None


def test_a_damaged_image_does_no_harm(image: Path) -> None:
    chance = random.Random(0)
    whole = image.read_bytes()
    for _ in range(50):
        changed = bytearray(whole)
        for _ in range(8):
            changed[chance.randrange(4, min(len(changed), 1 << 18))] = chance.randrange(256)
        image.write_bytes(changed)
        Structures(image).name(chance.randrange(1 << 30))
