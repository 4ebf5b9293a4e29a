"""Every verb that reads a trace or a verdict, run in this process on files that may say anything.

A verb must end with an exit code that the docs give it, and say on stderr in one line why. It must
not show a traceback or a control character, and must not blame a driver that is right.
"""

import contextlib
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from typer.main import get_command

import analysis
from blkbox import main
from tracer.errors import BlkboxError, Exit, TraceError
from tracer.trace.file import Trace

READS = frozenset({Exit.CLEAN, Exit.USAGE, Exit.BAD_TRACE, Exit.STORAGE})
COMPARES = READS | {Exit.DIFFERENT}
JUDGES = READS | {Exit.UNDECIDABLE}
"""A replay of the raw driver, which is right: never 1."""

TRACE_VERBS: dict[str, list[str]] = {
    "verify": ["verify", "T"],
    "show": ["show", "T"],
    "ops": ["show", "T", "--ops"],
    "sector": ["show", "T", "--sector", "3"],
    "history": ["history", "T", "--sector", "9"],
    "history at": ["history", "T", "--sector", "9", "--at", "mark 20"],
    "checkout": ["checkout", "T", "-o", "out.raw", "--force"],
    "checkout at": ["checkout", "T", "-o", "out.raw", "--force", "--at", "20"],
    "cut": ["cut", "T", "-o", "part.trace", "--force", "--from", "10", "--to", "30"],
    "strip": ["strip", "T", "-o", "part.trace", "--force"],
    "diff": ["diff", "T", "good.trace"],
    "timeline": ["plot", "timeline", "T", "-o", "p.png", "--force"],
    "latency": ["plot", "latency", "T", "-o", "p.png", "--force"],
    "throughput": ["plot", "throughput", "T", "-o", "p.png", "--force"],
    "sizes": ["plot", "sizes", "T", "-o", "p.png", "--force"],
    "heatmap": ["plot", "heatmap", "T", "-o", "p.png", "--force"],
    "report": ["report", "T", "-o", "r.html", "--force"],
    "parquet": ["export", "T", "-o", "e.parquet", "--force"],
    "arrow": ["export", "T", "-o", "e.arrow", "--force"],
    "perfetto": ["export", "T", "-o", "e.json", "--force"],
    "fio": ["export", "T", "-o", "e.fio", "--format", "fio", "--force"],
    "dm-log-writes": ["export", "T", "-o", "e.log", "--format", "dm-log-writes", "--force"],
    "mark": ["mark", "later", "--trace", "T"],
}
VERDICT_VERBS: dict[str, list[str]] = {
    "page": ["report", "V", "-o", "r.html", "--force"],
    "damage": ["plot", "damage", "V", "-o", "p.png", "--force"],
    "diff": ["diff", "V", "good.json"],
    "diff timing": ["diff", "V", "good.json", "--timing"],
}
SLOW_VERBS: dict[str, list[str]] = {
    "replay": ["replay", "T", "--driver", "raw", "--no-plot", "--timeout", "20"],
    "minimize": [
        "minimize",
        "T",
        "--driver",
        "raw",
        "--jobs",
        "1",
        "--timeout",
        "20",
        "-o",
        "min.trace",
        "--force",
    ],
    "replay upto": ["replay", "T", "--driver", "raw", "--no-plot", "--upto", "mark 20"],
    "serve": ["serve", "T", "--", "true"],
    "powercut": ["powercut", "T", "--driver", "raw", "--states", "20", "--timeout", "20"],
}
"""Verbs that start programs: tried seldom."""

SHARE = {
    "timeline": 0.03, "latency": 0.03, "throughput": 0.03, "sizes": 0.03, "heatmap": 0.03,
    "damage": 0.03, "page": 0.1,
}  # fmt: skip
"""How often verbs that draw are among those that are chosen from: a picture takes a second."""

_APP = get_command(main.app)
"""The command, made once: typer makes it anew for each call, which takes 40 ms."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a verb ended."""

    verb: str
    code: int
    out: str
    err: str

    def wrong(self) -> str | None:
        """Return what is wrong with that, or None."""
        compares = self.verb.startswith("diff")
        allowed = (
            COMPARES
            if compares
            else JUDGES
            if self.verb.startswith(("replay", "powercut"))
            else READS
        )
        if self.verb == "serve":
            allowed = JUDGES
        if self.code not in allowed:
            return f"exit code {self.code}"
        if "Traceback" in self.err:
            return "a traceback"
        shown = (self.out + self.err).replace("\n", "").replace("\t", "")
        if not shown.isprintable():
            return "control characters"
        if self.code >= Exit.USAGE and self.verb != "verify":
            lines = self.err.strip().splitlines()
            if not lines or not lines[-1].startswith("trace: "):
                return "no line that says why"
        return None


def run(verb: str, words: list[str]) -> Ended:
    """Run ``trace WORDS`` here."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(main, "app", _APP),
    ):
        code = main.run(words)
    return Ended(verb, code, out.getvalue(), err.getvalue())


def chosen(suffix: str, chance: random.Random, many: int, slow: float) -> dict[str, list[str]]:
    """Choose verbs for a changed file: ``many``, and with the probability ``slow`` one that starts
    programs."""
    verbs = VERDICT_VERBS if suffix == ".json" else TRACE_VERBS
    names = [name for name in verbs if chance.random() < SHARE.get(name, 1)]
    found = {name: verbs[name] for name in chance.sample(names, min(many, len(names)))}
    if suffix != ".json" and chance.random() < slow:
        name = chance.choice(list(SLOW_VERBS))
        found[name] = SLOW_VERBS[name]
    return found


def attack(name: str, suffix: str, chance: random.Random, many: int, slow: float) -> list[Ended]:
    """Run verbs on the files of ``name`` in the current folder, which were changed."""
    files = {"T": f"{name}.trace", "V": f"{name}.json"}
    with_json = ("verify", "show", "ops", "sector", "history", "diff", "diff timing")
    ended = []
    for verb, words in chosen(suffix, chance, many, slow).items():
        words = [files.get(word, word) for word in words]
        as_json = verb in with_json and chance.random() < 0.3
        done = run(verb, [*words, "--json"] if as_json else words)
        if as_json and done.out:
            json.loads(done.out, parse_constant=_refuse)
        ended.append(done)
    return ended


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def disagreement(path: Path) -> str | None:
    """Return how the reader of records and the reader of arrays disagree on a trace, or None."""
    said = []
    for read in (_records, _arrays):
        try:
            said.append(f"{read(path)} ops")
        except TraceError as error:
            said.append(str(error))
    return None if said[0] == said[1] else " <> ".join(said)


def _records(path: Path) -> int:
    with Trace(path) as trace:
        return sum(1 for _ in trace.ops())


def _arrays(path: Path) -> int:
    with analysis.open(path) as frames:
        frames.ops.collect()
        with contextlib.suppress(BlkboxError):  # the data may be missing
            frames.expected(range(4))
        count: int = frames.count
        return count
