"""QEMU's blkdebug under a format: one op of the format on its image file fails.

blkdebug has rules (QEMU's docs/devel/blkdebug.txt). They have no count, but a state: each write or
write of zeroes takes the rules from one state to the next, and in the state of the op that is to
fail, a rule makes it fail. A flush or a discard makes no event that blkdebug gets, so the first one
after a certain write fails.
"""

from collections.abc import Sequence
from pathlib import Path

from tracer.below.op import LowerKind, LowerOp
from tracer.below.qemu import over
from tracer.driver.driver import Driver

_COUNTED = {"pwritev": "write", "pwritev_zero": "write-zeroes"}
"""The events that a change makes in blkdebug, and the type of its request. A log does not tell one
from the other if zeroes are written."""

_TYPES = {LowerKind.FLUSH: "flush", LowerKind.DISCARD: "discard"}
"""The types of the requests that make no event."""


def rules(ops: Sequence[LowerOp], number: int, error: int) -> str:
    """Return the rules by which the op that ``number`` is in a run with these lower ops fails with
    an errno value. No such op: nothing fails."""
    if number >= len(ops):
        return ""
    op = ops[number]
    before = sum(one.kind in (LowerKind.WRITE, LowerKind.ZERO) for one in ops[:number])
    kind = _TYPES.get(op.kind)
    if kind is not None and before == 0:
        return _inject("none", 1, error, kind)
    state = before if kind is not None else before + 1
    # states begin with 1: in state N the N-th change comes
    found = [_next(event, at) for at in range(1, state + 1) for event in _COUNTED]
    found += [_inject(event, state, error, kind or own) for event, own in _COUNTED.items()]
    return "".join(found)


def failing(driver: Driver, log: Path, config: Path, cache: str | None) -> Driver:
    """Return the driver with the rules of the file ``config`` below it, and what they let pass in a
    log. Raises UsageError if it is not one of qemu-nbd's."""
    log_option, config_option = (str(path).replace(",", ",,") for path in (log, config))
    return over(
        driver,
        f"file.driver=blkdebug,file.config={config_option},file.image.driver=blklogwrites,"
        "file.image.file.driver=file,file.image.file.filename={image_option},"
        f"file.image.log.driver=file,file.image.log.filename={log_option}",
        cache,
    )


def _next(event: str, state: int) -> str:
    return f'[set-state]\nevent = "{event}"\nstate = "{state}"\nnew_state = "{state + 1}"\n\n'


def _inject(event: str, state: int, error: int, kind: str) -> str:
    return (
        f'[inject-error]\nevent = "{event}"\nstate = "{state}"\nerrno = "{error}"\n'
        f'iotype = "{kind}"\nonce = "on"\n\n'
    )
