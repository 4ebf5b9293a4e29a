"""Names of marks, and how the user names an op: by its number or by a mark.

A mark stands before an op. As the start of a range a mark means that op; as the end it means the op
before. So the range between two marks includes the first mark's op and excludes the second's.
"""

import re

from tracer.errors import UsageError
from tracer.text import printable
from tracer.trace.file import Trace
from tracer.trace.records import MAX_MARK

SHOWN = 20
"""The most marks that an error message lists."""

_NUMBER = re.compile(r"#?([0-9]{1,20})")
"""An op's number as the user writes it and as we print it. 64 bits have at most 20 digits."""


def check_name(name: str) -> None:
    """Raise UsageError unless ``name`` is a valid name for a mark."""
    # this also refuses lone surrogates (an argument that is not UTF-8), which cannot be encoded
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
    """Return the seq of the op that ``text`` names: ``12``, ``#12``, or the name of a mark, which
    means the op after the mark. Use it for the start of a range.

    Raises UsageError if the op or mark does not exist, TraceError if the trace is damaged.
    """
    return _find(trace, text)[0]


def resolve_upto(trace: Trace, text: str) -> int:
    """Return the seq of the first op after the range that ends at ``text``. A range that ends at an
    op includes the op; a range that ends at a mark ends before the mark's op. Raises as
    ``resolve``."""
    seq, is_mark = _find(trace, text)
    return seq if is_mark else seq + 1


def count_upto(trace: Trace, text: str) -> int:
    """Return the number of recorded ops up to ``text`` (see ``resolve_upto``). Raises as
    ``resolve``."""
    upto = resolve_upto(trace, text)
    return sum(1 for op in trace.ops() if op.seq < upto)


def _find(trace: Trace, text: str) -> tuple[int, bool]:
    """Return the op's seq, and whether ``text`` is a mark."""
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
        listed = [f"{printable(mark.name)} (before #{mark.seq})" for mark in marks[:SHOWN]]
        if len(marks) > SHOWN:
            listed.append(f"and {len(marks) - SHOWN} more")
        there = "its marks: " + ", ".join(listed) if marks else "it has none"
        raise UsageError(f"{trace.path} has no mark {text!r}; {there}")
    if len(places) > 1:
        listed = [f"#{seq}" for seq in places[:SHOWN]]
        raise UsageError(
            f"the mark {text!r} stands before {len(places)} ops ({', '.join(listed)}"
            f"{', ...' if len(places) > SHOWN else ''}): give the number of an op instead"
        )
    return places[0], True


def last_op(trace: Trace) -> int:
    """Return the highest seq; -1 if there are no ops. Raises TraceError."""
    # the end record's count is not enough: if an op has no record, the highest seq is larger
    return max((op.seq for op in trace.ops()), default=-1)
