"""Replay a trace until the driver can be judged, and make the verdict."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

from blkbox.explain import explained
from replay.interleave import seeds
from replay.locate import Culprit, NoCulprit, locate
from replay.options import Order, ReplayOptions
from replay.outcome import Outcome
from replay.reader import try_reader
from replay.runner import Checks, Run, Runner
from replay.symptom import Symptom, symptom_of
from tracer.driver import environment
from tracer.errors import DriverError, Undecidable
from tracer.op import KIND_BY_NUMBER, SECTOR, Kind, Op, flag_names
from tracer.trace.data import TraceWithData
from tracer.trace.order import by_seq
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
    """The run of the whole trace that showed a fault. ``number`` counts those runs from 1."""

    number: int
    order: Order
    outcome: Outcome
    symptom: Symptom


@dataclass(frozen=True, slots=True)
class _Damage:
    """The damage in the run of the whole trace, and the damage right after the culprit."""

    damage: list[Finding] = field(default_factory=list)
    culprit_damage: list[Finding] = field(default_factory=list)
    first_bad_read: BadRead | None = None
    bytes: SectorBytes | None = None


def judge(source: TraceWithData, options: ReplayOptions, say: Callable[[str], None]) -> Verdict:
    """Run the whole trace, or its first ``upto`` ops, up to ``runs`` times. If something is wrong,
    find the culprit. ``say`` gets a line for each step.

    If the driver cannot be judged, the verdict is undecidable. Raises TraceError if the trace or a
    payload cannot be read, UsageError if a disk must not be overwritten, StorageError if our own
    disk fails or is full, and DriverHung if the driver stops answering while the search reads its
    disk.
    """
    runner, driver, reader = Runner(source, options), options.driver, options.reader
    ops = _count(source) if options.upto is None else options.upto
    kind, reason, log = VerdictKind.CLEAN, "no difference", ""
    detected: _Detected | None = None
    culprit: Culprit | None = None
    found = _Damage()
    try:
        if not _tests_something(source, ops):
            raise Undecidable("the trace has no op to replay: nothing was tested")
        try_reader(options, source.trace.header.size)
        detected = _detect(runner, ops, say)
        if detected is not None:
            kind, reason = detected.symptom.verdict, detected.symptom.reason
            if options.find:
                located = locate(runner, detected.symptom, order=detected.order, say=say)
                if isinstance(located, NoCulprit):
                    reason += f"; {located}"
                else:
                    culprit = located
            found = _describe(source, ops, detected, culprit)
            log = detected.outcome.log
    except Undecidable as error:
        kind, reason = VerdictKind.UNDECIDABLE, str(error)
        log = error.log if isinstance(error, DriverError) else ""
    return Verdict(
        verdict=kind,
        reason=reason,
        driver=driver.name,
        trace=str(source.trace.path),
        size=source.trace.header.size,
        ops=ops,
        replayed_ops=runner.cost.ops,
        runs=runner.cost.runs,
        confirm_ops=runner.cost.confirm_ops,
        culprit=_op(culprit.op) if culprit is not None else None,
        confirmed=culprit is not None and culprit.confirmed,
        shown=culprit.shown if culprit is not None else 0,
        tries=culprit.runs if culprit is not None else 0,
        clean_without=culprit.clean if culprit is not None else 0,
        detected=detected.number if detected is not None else 1,
        seed=(detected.order if detected is not None else options.order).seed,
        needs_company=culprit.needs_company if culprit is not None else None,
        located=options.find or detected is None,
        symptom=detected.symptom.what if detected is not None else None,
        reader=reader.name if reader is not None else None,
        volatile=runner.volatile,
        damage=found.damage,
        culprit_damage=found.culprit_damage,
        first_bad_read=found.first_bad_read,
        bytes=found.bytes,
        log=log,
        environment=Environment(
            host=environment.host(),
            tools=environment.versions(driver),
            driver=driver.describe(),
        ),
    )


def _detect(runner: Runner, ops: int, say: Callable[[str], None]) -> _Detected | None:
    """Run the whole trace until something is wrong. Return None if every run was clean."""
    given, runs = runner.options.order, runner.options.runs
    for number, seed in enumerate(seeds(given.seed, runs), 1):
        order = replace(given, seed=seed)
        if runs > 1:
            say(f"run {number} of up to {runs}" + (f", order {seed}" if seed else ""))
        label = "full" if number == 1 else f"full-{number}"
        outcome = runner.run(Run(label, order, ops, checks=Checks.ALL))
        symptom = symptom_of(outcome, ops)
        if symptom is not None:
            return _Detected(number, order, outcome, symptom)
    return None


def _count(source: TraceWithData) -> int:
    """Return how many ops the trace has. Raises TraceError."""
    end = source.trace.end
    return end.ops if end is not None else sum(1 for _ in source.trace.ops())


def _tests_something(source: TraceWithData, ops: int) -> bool:
    """Return whether the first ``ops`` ops include one that says something of the driver: neither
    the start image does, nor the flush with which a recording ends. Raises TraceError."""
    first = islice(by_seq(source.trace.ops()), ops)
    return any(op.kind != Kind.START and (op.kind != Kind.FLUSH or op.connection) for op in first)


def _describe(
    source: TraceWithData, ops: int, detected: _Detected, culprit: Culprit | None
) -> _Damage:
    """Explain all damage. Raises TraceError if a payload cannot be read."""
    outcome, shown = detected.outcome, detected.symptom.difference
    from analysis.provenance import Explainer  # loads numpy, which a clean replay does not need

    explain = Explainer(source, ops, culprit.position if culprit is not None else None)
    damage = explained(explain, outcome, ops)
    first_bad_read = None
    if outcome.first_bad_read is not None:
        _, first = outcome.first_bad_read
        assert first.op is not None
        first_bad_read = BadRead(seq=first.op.seq, sector=first.offset // SECTOR)
    culprit_damage: list[Finding] = []
    if culprit is not None and culprit.after is not None:
        culprit_damage = explained(explain, culprit.after, culprit.position + 1)
        if culprit.symptom is not None and culprit.symptom.difference is not None:
            shown = culprit.symptom.difference
    sector_bytes = None
    if shown is not None and shown.expected != shown.actual:
        sector_bytes = _first_sector(shown.offset, shown.expected, shown.actual)
    return _Damage(damage, culprit_damage, first_bad_read, sector_bytes)


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
    """Return the bytes from byte ``offset`` of the disk to the end of its sector."""
    end = min((offset // SECTOR + 1) * SECTOR - offset, len(expected))
    return SectorBytes(
        sector=offset // SECTOR,
        offset=offset,
        expected=expected[:end].hex(),
        actual=actual[:end].hex(),
    )
