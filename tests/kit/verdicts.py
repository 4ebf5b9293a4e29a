"""What verdicts are compared with."""

from collections.abc import Iterable
from typing import Any

from tests.kit.faulty.disk import Damage
from tracer.op import SECTOR


def assert_explained(found: list[dict[str, Any]], expected: Iterable[Damage]) -> None:
    """The ``damage`` or ``culprit_damage`` of a verdict is as expected: the ranges, what kind of
    damage it is, and the op that the wrong bytes came from."""
    told = [
        Damage(
            one["sector"] * SECTOR, one["sectors"] * SECTOR,
            one["class"], one["source"] and one["source"]["seq"],
        )
        for one in found
    ]  # fmt: skip
    assert told == list(expected), told
