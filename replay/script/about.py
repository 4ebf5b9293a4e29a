"""What the head of a script says."""

import textwrap
from dataclasses import dataclass

from replay.minimize.program import Program, pairs
from tracer.text import printable

ATTEMPTS = 20
"""The most attempts of a script whose ops race: what shows in a fifth of the attempts is missed
once in 86 runs."""


@dataclass(frozen=True, slots=True)
class About:
    """What a script is about. All texts are of one line."""

    fault: str
    """The fault, in words."""
    driver: str
    trace: str
    """The name of the trace that it was made from."""
    ops: int
    """How many ops that trace has."""
    versions: tuple[str, ...]
    """The programs that showed the fault, with their versions."""
    should: str
    """What should happen."""
    does: str
    """What happens instead."""
    steps: tuple[str, ...]
    """The ops in words."""
    odds: str
    """In how many runs it was seen."""


def comment(about: About, how: str) -> str:
    """Return the head of a script, as comments that begin with ``#``."""
    pages = [
        f"{about.driver}: {about.fault}",
        "",
        *about.steps,
        "",
        f"What should happen: {about.should}",
        f"What does: {about.does}",
        about.odds,
        "",
        how,
        "It exits with 1 if the fault shows, 0 if not, 125 if it cannot be tried.",
        "",
        f"Seen with: {', '.join(about.versions)}",
        f"Made by blkbox from a trace of {about.ops:,} ops, {about.trace}",
    ]
    lines: list[str] = []
    for page in pages:
        text = printable(page)
        indent = "      " if page in about.steps else ""
        lines += textwrap.wrap(
            text, 96, initial_indent=indent, subsequent_indent=indent, break_long_words=False
        ) or [""]
    return "\n".join(f"# {line}".rstrip() for line in lines)


def attempts(program: Program) -> int:
    """Return how often a script tries: the outcome of a race differs."""
    return ATTEMPTS if any(True for _ in pairs(program.steps)) else 1


def tries(program: Program) -> str:
    """Say how often a script tries."""
    count = attempts(program)
    return f"It makes up to {count} attempts (ATTEMPTS), since ops race." if count > 1 else ""
