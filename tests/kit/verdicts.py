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


def assert_grouped(verdict: dict[str, Any]) -> None:
    """The causes of a verdict are all of its damage, range by range."""
    for damage, causes in (("damage", "causes"), ("culprit_damage", "culprit_causes")):
        for kind in {one["class"] for one in verdict[damage] + verdict[causes]}:
            ranges = [one for one in verdict[damage] if one["class"] == kind]
            grouped = [one for one in verdict[causes] if one["class"] == kind]
            assert sum(one["ranges"] for one in grouped) == len(ranges)
            assert sum(one["sectors"] for one in grouped) == sum(one["sectors"] for one in ranges)
            assert {one["sector"] for one in grouped} <= {one["sector"] for one in ranges}
