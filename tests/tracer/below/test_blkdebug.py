"""The rules by which blkdebug makes a lower op fail."""

import re

import pytest

from tracer.below.blkdebug import rules
from tracer.below.op import LowerKind, LowerOp

KINDS = [LowerKind.FLUSH, LowerKind.WRITE, LowerKind.ZERO, LowerKind.DISCARD, LowerKind.WRITE]
OPS = [LowerOp(number, kind, 0, 512) for number, kind in enumerate(KINDS)]

TYPES = {LowerKind.FLUSH: "flush", LowerKind.DISCARD: "discard"}
EVENTS = {LowerKind.WRITE: "pwritev", LowerKind.ZERO: "pwritev_zero"}
REQUESTS = {LowerKind.WRITE: "write", LowerKind.ZERO: "write-zeroes", **TYPES}


def fails(text: str, kinds: list[LowerKind]) -> list[int]:
    """The ops that fail under rules, as blkdebug's documentation says of them."""
    found = []
    for section in re.split(r"\n\n", text.strip()):
        head, *lines = section.splitlines()
        found.append((head, dict(re.findall(r'(\w+) = "(.*?)"', "\n".join(lines)))))
    active = [rule for head, rule in found if head == "[inject-error]" and rule["event"] == "none"]
    state, failed = 1, []
    for number, kind in enumerate(kinds):
        now = [one for one in found if one[1].get("event") == EVENTS.get(kind)
               and int(one[1]["state"]) == state]  # fmt: skip
        for head, rule in now:
            if head == "[set-state]":
                state = int(rule["new_state"])
            else:
                active = [rule]
        hit = [rule for rule in active if rule["iotype"] == REQUESTS[kind]]
        if hit:
            failed.append(number)
            active = []
    return failed


@pytest.mark.parametrize("number", range(len(OPS)))
def test_that_op_fails_and_no_other(number: int) -> None:
    assert fails(rules(OPS, number, 5), KINDS) == [number]


def test_an_op_that_is_none_does_not_fail() -> None:
    assert rules(OPS, len(OPS), 5) == ""
