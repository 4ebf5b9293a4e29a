"""Replays a trace until the driver can be judged, and puts the verdict together."""

from collections.abc import Callable
from dataclasses import dataclass, field

from replay.explain import Explainer, explained
from replay.interleave import seeds
from replay.locate import Culprit, locate
from replay.runner import Outcome, Runner
from replay.symptom import Symptom, symptom_of
from tracer import environment
from tracer.errors import DriverError, Undecidable
from tracer.op import KIND_BY_NUMBER, SECTOR, Op, flag_names
from tracer.source import Source
from tracer.verdict import (
    BadRead,
    CulpritOp,
    Environment,
    Finding,
    SectorBytes,
    Verdict,
    VerdictKind,
)


@dataclass(frozen=True, slots=True)
class _Detected:
    """The run of the whole trace that showed a fault, and which one it was."""

    number: int
    outcome: Outcome
    symptom: Symptom


@dataclass(frozen=True, slots=True)
class _Damage:
    """What is wrong in a run of the whole trace, and right after the culprit."""

    damage: list[Finding] = field(default_factory=list)
    culprit_damage: list[Finding] = field(default_factory=list)
    first_bad_read: BadRead | None = None
    bytes: SectorBytes | None = None


def replay(
    runner: Runner,
    *,
    find: bool = True,
    upto: int | None = None,
    runs: int = 1,
    say: Callable[[str], None],
    explainer: Explainer,
) -> Verdict:
    """Run the whole trace, or its first ``upto`` ops, up to ``runs`` times; where something is wrong,
    find the culprit. Raises TraceError, UsageError and StorageError; what keeps the driver from being
    judged becomes an undecidable verdict."""
    source = runner.source
    ops = _count(source) if upto is None else upto
    kind, reason, log = VerdictKind.CLEAN, "no difference", ""
    detected: _Detected | None = None
    culprit: Culprit | None = None
    found = _Damage()
    try:
        runner.try_reader()
        detected = _detect(runner, ops, runs, say)
        if detected is not None:
            kind, reason = detected.symptom.verdict, detected.symptom.reason
            located = locate(runner, detected.symptom, say, runs=runs) if find else None
            if isinstance(located, str):
                reason += f"; {located}"
            else:
                culprit = located
            found = _describe(source, ops, detected, culprit, explainer)
            log = detected.outcome.log
    except Undecidable as error:
        kind, reason = VerdictKind.UNDECIDABLE, str(error)
        log = error.log if isinstance(error, DriverError) else ""
    return Verdict(
        verdict=kind,
        reason=reason,
        driver=runner.driver.name,
        trace=str(source.trace.path),
        size=source.trace.header.size,
        ops=ops,
        replayed_ops=runner.replayed,
        runs=runner.runs,
        confirm_ops=runner.confirming,
        culprit=_op(culprit.op) if culprit is not None else None,
        confirmed=culprit is not None and culprit.confirmed,
        shown=culprit.shown if culprit is not None else 0,
        tries=culprit.runs if culprit is not None else 0,
        clean_without=culprit.clean if culprit is not None else 0,
        detected=detected.number if detected is not None else 1,
        seed=runner.seed,
        needs_company=culprit.needs_company if culprit is not None else None,
        located=find or detected is None,
        symptom=detected.symptom.what if detected is not None else None,
        reader=runner.reader.name if runner.reader is not None else None,
        volatile=runner.volatile,
        damage=found.damage,
        culprit_damage=found.culprit_damage,
        first_bad_read=found.first_bad_read,
        bytes=found.bytes,
        log=log,
        environment=Environment(
            host=environment.host(),
            tools=environment.versions(runner.driver),
            driver=runner.driver.describe(),
        ),
    )


def _detect(runner: Runner, ops: int, runs: int, say: Callable[[str], None]) -> _Detected | None:
    """Run the whole trace until something is wrong. The runner goes on with the order that showed it."""
    given = runner.seed
    for number, runner.seed in enumerate(seeds(given, runs), 1):
        if runs > 1:
            order = f", order {runner.seed}" if runner.seed else ""
            say(f"run {number} of up to {runs}{order}")
        label = "full" if number == 1 else f"full-{number}"
        outcome = runner.run(label, upto=ops, thorough=True)
        symptom = symptom_of(outcome, ops)
        if symptom is not None:
            return _Detected(number, outcome, symptom)
    runner.seed = given
    return None


def _count(source: Source) -> int:
    end = source.trace.end
    return end.ops if end is not None else sum(1 for _ in source.trace.ops())


def _describe(
    source: Source, ops: int, detected: _Detected, culprit: Culprit | None, explainer: Explainer
) -> _Damage:
    """Explain all damage. Raises TraceError."""
    outcome, shown = detected.outcome, detected.symptom.difference
    explain = explainer(source, ops, culprit.position if culprit is not None else None)
    damage = explained(explain, outcome, ops)
    first_bad_read = None
    if outcome.played.first_bad_read is not None:
        _, first = outcome.played.first_bad_read
        assert first.op is not None
        first_bad_read = BadRead(seq=first.op.seq, sector=first.offset // SECTOR)
    culprit_damage: list[Finding] = []
    if culprit is not None and culprit.after is not None:
        upto = culprit.position + 1
        culprit_damage = explained(explain, culprit.after, upto)
        own = symptom_of(culprit.after, upto)
        if own is not None and own.difference is not None:
            shown = own.difference
    sector = None
    if shown is not None and shown.expected != shown.actual:
        sector = _first_sector(shown.offset, shown.expected, shown.actual)
    return _Damage(damage, culprit_damage, first_bad_read, sector)


def _op(op: Op) -> CulpritOp:
    return CulpritOp(
        seq=op.seq,
        kind=KIND_BY_NUMBER[op.kind].label,
        offset=op.offset,
        length=op.length,
        flags=flag_names(op.flags),
        submitted=op.submitted,
        connection=op.connection,
    )


def _first_sector(offset: int, expected: bytes, actual: bytes) -> SectorBytes:
    end = min((offset // SECTOR + 1) * SECTOR - offset, len(expected))
    return SectorBytes(
        sector=offset // SECTOR,
        offset=offset,
        expected=expected[:end].hex(),
        actual=actual[:end].hex(),
    )
