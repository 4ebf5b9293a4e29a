"""What came of a minimisation: the object that is printed, as text and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from replay.minimize.program import Program, Step, groups
from tracer.op import KIND_BY_NUMBER, Kind, flag_names
from tracer.text import many, ops, printable
from tracer.verdict import Verdict


@dataclass(slots=True)
class Written:
    """A script that was written, and how often it showed the fault when it was run."""

    path: str
    kind: str
    runs: int = 0
    shown: int = 0
    why_not: str | None = None
    """Why it was not run."""


@dataclass(slots=True)
class Other:
    """Another fault that was met: in words, and the trace that shows it."""

    fault: str
    trace: str
    ops: int


@dataclass(slots=True)
class Minimized:
    """A minimised trace. Sizes are bytes, ``seconds`` is the time that it took."""

    trace: str
    """The trace that was minimised."""
    driver: str
    verdict: str
    """The verdict on the trace: damaged, failed; clean and undecidable leave nothing to do."""
    reason: str
    fault: str
    """The fault in words: what every candidate had to show."""
    small: str | None = None
    """The trace that is left; None if there is none."""
    ops_before: int = 0
    ops: int = 0
    size: int = 0
    steps: list[str] = field(default_factory=list)
    """The ops in words; those in braces are in flight together."""
    complete: bool = False
    """Whether no op can be left out and no pass finds anything more: the time was enough."""
    ended: str = ""
    """Why it is not complete."""
    shown: int = 0
    """In how many of ``shown_runs`` runs the result showed the fault."""
    shown_runs: int = 0
    tests: int = 0
    """Candidates that were tested."""
    runs: int = 0
    """Runs of the driver."""
    replayed: int = 0
    """Ops that were sent to it in the tests."""
    found_with: int = 0
    """Ops that were sent to it before, to find the culprit."""
    passes: float = 0.0
    """All these ops, as passes over the trace."""
    seconds: float = 0.0
    scripts: list[Written] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    interrupted: str | None = None
    """The signal that ended it; the best so far is kept."""
    small_verdict: Verdict | None = None
    """The verdict of a replay of the small trace."""
    schema: int = 1


def in_lines(program: Program) -> list[str]:
    """Return a program's steps in words, one a line; groups in flight together in braces."""
    together = groups(program)
    if together is None:
        return [
            f"{_words(step, at)}   from event {step.begin} to {step.end}"
            for at, step in enumerate(program.steps)
        ]
    lines: list[str] = []
    number = 0
    for group in together:
        if group[0].restart:
            lines.append("restart the driver")
        words = []
        for step in group:
            words.append(_words(step, number))
            number += 1
        if len(words) > 1:
            words = [("{ " if at == 0 else "  ") + one for at, one in enumerate(words)]
            words[-1] += " }"
        lines += words
    return lines


def _words(step: Step, number: int) -> str:
    kind = KIND_BY_NUMBER[step.kind].label
    words = [f"#{number} {kind}"]
    if step.kind != Kind.FLUSH:
        words.append(f"{exact(step.length)} at {exact(step.offset)}")
    words += flag_names(step.flags)
    if step.fill is not None:
        byte = step.fill.byte
        words.append("of recorded data" if byte is None else f"of 0x{byte:02x}")
    if step.connection > 1:
        words.append(f"on connection {step.connection}")
    return " ".join(words)


def exact(count: int) -> str:
    """Return a number of bytes in the largest unit of which it is a multiple: ``68 KiB``."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} B" if count else "0"


def page(result: Minimized) -> str:
    """Return a result as text."""
    if result.small is None:
        why = result.ended or "nothing to minimise"
        return f"verdict:  {result.verdict}, {printable(result.reason)}\nnot done: {why}"
    left = f"{ops(result.ops_before)} -> {ops(result.ops)}"
    lines = [
        f"fault:    {printable(result.fault)}",
        f"left:     {left}, on a disk of {exact(result.size)}",
        *_listed(result.steps),
    ]
    if result.shown_runs:
        lines.append(f"shows in: {result.shown} of {many(result.shown_runs, 'run')}")
    if not result.complete:
        lines.append(f"ended:    {result.ended}; the same command goes on from here")
    lines.append(f"trace:    {result.small}")
    for script in result.scripts:
        said = script.why_not or f"showed it in {script.shown} of {many(script.runs, 'run')}"
        lines.append(f"script:   {script.path} ({said})")
    lines += [
        f"also met: {printable(other.fault)}: {other.trace} ({ops(other.ops)})"
        for other in result.others
    ]
    tests, runs = many(result.tests, "test"), many(result.runs, "run")
    lines.append(
        f"cost:     {tests}, {runs}, {result.passes:.1f} passes over the trace, "
        f"{result.seconds:.0f} s"
    )
    return "\n".join(lines)


def _listed(steps: Sequence[str], most: int = 40) -> list[str]:
    shown = [f"            {step}" for step in steps[:most]]
    if len(steps) > most:
        shown.append(f"            and {len(steps) - most:,} more")
    return shown
