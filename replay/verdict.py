"""What a replay found, as one plain object for people and for programs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from replay.explain import explained
from replay.interleave import seeds
from replay.locate import Culprit, locate
from replay.runner import Outcome, Runner
from replay.symptom import Symptom, symptom_of
from tracer import environment
from tracer.errors import DriverError, Exit, Undecidable
from tracer.op import KIND_BY_NUMBER, SECTOR, Op, flag_names
from tracer.source import TraceWithData

SCHEMA = 1


@dataclass(slots=True)
class Verdict:
    """The result of ``trace replay``. Offsets and lengths are bytes, sectors are of 512 bytes."""

    verdict: str
    reason: str
    driver: str
    trace: str
    size: int
    ops: int
    replayed_ops: int
    """Ops sent to the driver, in all runs together; ``confirm_ops`` of them to confirm the culprit."""
    runs: int
    confirm_ops: int = 0
    culprit: dict[str, Any] | None = None
    confirmed: bool = False
    shown: int = 0
    """In how many of ``tries`` runs the prefix that ends with the culprit went wrong."""
    tries: int = 0
    clean_without: int = 0
    """How many runs of the prefix before it were clean."""
    detected: int = 1
    """Which of the runs of the whole trace was the first to show the fault."""
    seed: int = 0
    """The order of ops that were in flight together in which it showed; 0 is the recorded one."""
    needs_company: bool | None = None
    """Whether it shows only with several ops in flight; None where that was not tried."""
    located: bool = True
    """Whether a culprit was looked for."""
    symptom: str | None = None
    reader: str | None = None
    """The build that images were reopened with, if another."""
    volatile: bool = False
    """Whether the driver keeps nothing over a restart, so that nothing was compared after one."""
    damage: list[dict[str, Any]] = field(default_factory=list)
    """All that was wrong in the run of the whole trace: sector, sectors, and what is wrong with them:
    ``class``, ``source`` (the op that the wrong bytes came from), ``detail`` and ``text``, each None
    where that cannot be told."""
    culprit_damage: list[dict[str, Any]] = field(default_factory=list)
    """The same right after the culprit."""
    first_bad_read: dict[str, int] | None = None
    bytes: dict[str, Any] | None = None
    """The first damaged sector: its number, what it should hold and what it does (hex)."""
    log: str = ""
    plot: str | None = None
    command: list[str] = field(default_factory=list)
    """The words of a command that does the same again."""
    environment: dict[str, Any] = field(default_factory=dict)
    """What the replay ran on: ``host``, ``tools`` and ``driver``, as a trace's header has them."""
    schema: int = SCHEMA

    @property
    def exit_code(self) -> int:
        codes = {"clean": Exit.CLEAN, "undecidable": Exit.UNDECIDABLE}
        return codes.get(self.verdict, Exit.BAD_DRIVER)


def replay(
    runner: Runner,
    *,
    find: bool = True,
    upto: int | None = None,
    runs: int = 1,
    say: Callable[[str], None],
) -> Verdict:
    """Run the whole trace, or its first ``upto`` ops, up to ``runs`` times; where something is wrong,
    find the culprit. Raises TraceError, UsageError and StorageError; what keeps the driver from being
    judged becomes an undecidable verdict."""
    source = runner.source
    verdict = Verdict(
        "clean", "no difference", runner.driver.name, str(source.trace.path),
        source.trace.header.size, _count(source) if upto is None else upto, 0, 0,
        reader=runner.reader.name if runner.reader is not None else None,
        environment={
            "host": environment.host(), "tools": environment.versions(runner.driver),
            "driver": runner.driver.describe(),
        },
    )  # fmt: skip
    try:
        runner.try_reader()
        outcome, symptom = _detect(runner, verdict, runs, say)
        if symptom is not None:
            verdict.verdict, verdict.reason = symptom.verdict, symptom.reason
            verdict.symptom, verdict.located = symptom.what, find
            culprit = locate(runner, symptom, say, runs=runs) if find else None
            if isinstance(culprit, str):
                verdict.reason += f"; {culprit}"
                culprit = None
            _describe(verdict, source, outcome, symptom, culprit)
    except Undecidable as error:
        verdict.verdict, verdict.reason = "undecidable", str(error)
        if isinstance(error, DriverError):
            verdict.log = error.log
    verdict.replayed_ops, verdict.runs = runner.replayed, runner.runs
    verdict.confirm_ops = runner.confirming
    verdict.volatile = runner.volatile
    verdict.seed = runner.seed
    return verdict


def _detect(
    runner: Runner, verdict: Verdict, runs: int, say: Callable[[str], None]
) -> tuple[Outcome, Symptom | None]:
    """Run the whole trace until something is wrong. The runner goes on with the order that showed it."""
    given = runner.seed
    for number, runner.seed in enumerate(seeds(given, runs), 1):
        if runs > 1:
            order = f", order {runner.seed}" if runner.seed else ""
            say(f"run {number} of up to {runs}{order}")
        label = "full" if number == 1 else f"full-{number}"
        outcome = runner.run(label, upto=verdict.ops, thorough=True)
        symptom = symptom_of(outcome, verdict.ops)
        if symptom is not None:
            verdict.detected = number
            return outcome, symptom
    runner.seed = given
    return outcome, None


def _count(source: TraceWithData) -> int:
    end = source.trace.end
    return end.ops if end is not None else sum(1 for _ in source.trace.ops())


def _describe(
    verdict: Verdict, source: TraceWithData, outcome: Outcome, symptom: Symptom, culprit: Culprit | None
) -> None:
    position = culprit.position if culprit is not None else None
    verdict.damage = explained(source, outcome, verdict.ops, position)
    verdict.log = outcome.log
    if outcome.played.first_bad_read is not None:
        _, first = outcome.played.first_bad_read
        assert first.op is not None
        verdict.first_bad_read = {"seq": first.op.seq, "sector": first.offset // SECTOR}
    shown = symptom.difference
    if culprit is not None:
        verdict.culprit = _op(culprit.op)
        verdict.confirmed = culprit.confirmed
        verdict.shown, verdict.tries = culprit.shown, culprit.runs
        verdict.clean_without, verdict.needs_company = culprit.clean, culprit.needs_company
        if culprit.after is not None:
            upto = culprit.position + 1
            verdict.culprit_damage = explained(source, culprit.after, upto, culprit.position)
            own = symptom_of(culprit.after, upto)
            if own is not None and own.difference is not None:
                shown = own.difference
    if shown is not None and shown.expected != shown.actual:
        verdict.bytes = _first_sector(shown.offset, shown.expected, shown.actual)


def _op(op: Op) -> dict[str, Any]:
    return {
        "seq": op.seq, "kind": KIND_BY_NUMBER[op.kind].label, "offset": op.offset,
        "length": op.length, "flags": flag_names(op.flags), "submitted": op.submitted,
        "connection": op.connection,
    }  # fmt: skip


def _first_sector(offset: int, expected: bytes, actual: bytes) -> dict[str, Any]:
    end = min((offset // SECTOR + 1) * SECTOR - offset, len(expected))
    return {
        "sector": offset // SECTOR,
        "offset": offset,
        "expected": expected[:end].hex(),
        "actual": actual[:end].hex(),
    }
