"""Marks: what they may be called, and how people point at an op by its number or by a mark.

A mark stands before an op. So as the beginning of something it is that op, and as its end it is the op
before: between two marks are the ops from the first mark's on, up to and without the second's.
"""

import re

from tracer.errors import UsageError
from tracer.text import printable
from tracer.trace.file import Trace
from tracer.trace.records import MAX_MARK

SHOWN = 20
"""Marks that an error lists at most."""

_NUMBER = re.compile(r"#?([0-9]{1,20})")
"""An op's number as people write it and as we print it; 20 digits are what 64 bits can have."""


def check_name(name: str) -> None:
    """Raise UsageError where a mark may not be called so."""
    # a lone surrogate (an argument that is not UTF-8) is not printable either, and cannot be encoded
    if not name.isprintable() or name.strip() != name or not name:
        raise UsageError(
            f"a mark cannot be called {name!r}: give it a name of printable characters, "
            "without spaces at its ends"
        )
    if len(name.encode()) > MAX_MARK:
        raise UsageError(
            f"a mark's name has at most {MAX_MARK} bytes; this one has {len(name.encode())}"
        )
    if _NUMBER.fullmatch(name):
        raise UsageError(f"a mark cannot be called {name}: that would read as an op's number")


def resolve(trace: Trace, text: str) -> int:
    """The number of the op that ``text`` points at: ``12``, ``#12``, or a mark, which points at the op
    that it stands before. Use it where something begins.

    Raises UsageError where there is no such op or mark, TraceError where the trace is damaged.
    """
    return _find(trace, text)[0]


def resolve_upto(trace: Trace, text: str) -> int:
    """The number of the first op that is not included in "up to ``text``": an op is included itself, a
    mark stands before its op. Use it where something ends. Raises what ``resolve`` does."""
    seq, is_mark = _find(trace, text)
    return seq if is_mark else seq + 1


def count_upto(trace: Trace, text: str) -> int:
    """How many of the ops that ``resolve_upto`` includes have a record. Raises what ``resolve`` does."""
    upto = resolve_upto(trace, text)
    return sum(1 for op in trace.ops() if op.seq < upto)


def _find(trace: Trace, text: str) -> tuple[int, bool]:
    """The op's number, and whether a mark told it."""
    number = _NUMBER.fullmatch(text)
    if number is not None:
        seq, last = int(number[1]), last_op(trace)
        if seq > last:
            there = f"the last is #{last}" if last >= 0 else "it has none"
            raise UsageError(f"{trace.path} has no op #{seq}: {there}")
        return seq, False
    marks = trace.marks()
    places = sorted({mark.seq for mark in marks if mark.name == text})
    if not places:
        told = [f"{printable(mark.name)} (before #{mark.seq})" for mark in marks[:SHOWN]]
        if len(marks) > SHOWN:
            told.append(f"and {len(marks) - SHOWN} more")
        there = "its marks: " + ", ".join(told) if marks else "it has none"
        raise UsageError(f"{trace.path} has no mark {text!r}; {there}")
    if len(places) > 1:
        told = [f"#{seq}" for seq in places[:SHOWN]]
        raise UsageError(
            f"the mark {text!r} stands before {len(places)} ops ({', '.join(told)}"
            f"{', ...' if len(places) > SHOWN else ''}): give the number of the one that is meant"
        )
    return places[0], True


def last_op(trace: Trace) -> int:
    """The highest op number; -1 where there are no ops. Raises TraceError."""
    # the end record counts ops, and where some have no record, the highest number is not that count
    return max((op.seq for op in trace.ops()), default=-1)
