"""Replay a trace until the driver can be judged, and make the verdict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

from blkbox.judging.explain import explained
from blkbox.judging.hint import hint
from replay.interleave import seeds
from replay.locate import Culprit, Located, NoCulprit, locate
from replay.locate.company import in_flight_with
from replay.options import Order, ReplayOptions
from replay.outcome import Outcome
from replay.reader import try_reader
from replay.run import Run
from replay.runner import Runner
from replay.symptom import Symptom, again, is_same, symptoms
from tracer.driver import environment
from tracer.errors import DriverError, DriverHung, Undecidable
from tracer.op import KIND_BY_NUMBER, SECTOR, Kind, Op, flag_names
from tracer.trace.data import TraceWithData
from tracer.trace.order import by_seq
from tracer.verdict import (
    BadRead,
    Cause,
    Compared,
    CulpritOp,
    Environment,
    Finding,
    OtherFault,
    SectorBytes,
    Suspect,
    SymptomKind,
    Verdict,
    VerdictKind,
)

LEAST_TIME = 30.0
"""Seconds that a search may take, even if the first run was short."""

TIMES_FIRST = 5
"""How many times the duration of the first run a search may take."""

MAX_ALSO = 10
"""The most other ops that did damage which a verdict lists."""


@dataclass(frozen=True, slots=True)
class _Detected:
    """The run of the whole trace that showed a fault. ``number`` counts those runs from 1."""

    number: int
    order: Order
    outcome: Outcome
    symptom: Symptom
    others: list[Symptom]
    """The other symptoms of the run."""
    seconds: float
    """How long the run took."""


@dataclass(frozen=True, slots=True)
class _Damage:
    """The damage in the run of the whole trace, and the damage right after the culprit."""

    damage: list[Finding] = field(default_factory=list)
    culprit_damage: list[Finding] = field(default_factory=list)
    first_bad_read: BadRead | None = None
    bytes: SectorBytes | None = None
    causes: list[Cause] = field(default_factory=list)
    culprit_causes: list[Cause] = field(default_factory=list)


def judge(source: TraceWithData, options: ReplayOptions, say: Callable[[str], None]) -> Verdict:
    """Run the whole trace, or its first ``upto`` ops, up to ``runs`` times. If something is wrong,
    find the culprit. ``say`` gets a line for each step.

    If the driver cannot be judged, the verdict is undecidable. Raises TraceError if the trace or a
    payload cannot be read, UsageError if a disk must not be overwritten, StorageError if our own
    disk fails or is full.
    """
    runner, driver, reader = Runner(source, options), options.driver, options.reader
    start, options = runner.start, runner.options
    # a new image holds all of the start data, whatever ``upto`` says
    ops = max(_count(source) if options.upto is None else options.upto, start.ops)
    kind, reason, log = VerdictKind.CLEAN, "no difference", ""
    detected: _Detected | None = None
    located = Located()
    compared: Compared | None = None
    found = _Damage()
    try_next: str | None = None
    try:
        if not _tests_something(source, start.ops, ops):
            raise Undecidable("the trace has no op to replay: nothing was tested")
        start.build(source)
        try_reader(options, start)
        detected = _detect(runner, ops, say)
        compared = runner.compared
        if runner.note:
            say(runner.note)
        if detected is not None:
            blameless = _shows_before_the_first_op(runner, detected, say)
            kind, reason = detected.symptom.verdict, detected.symptom.reason
            if blameless:
                located = Located(why=NoCulprit.WRONG_FROM_THE_START)
            elif options.find:
                try:
                    located = locate(
                        runner, detected.symptom, detected.outcome, ops=ops,
                        order=detected.order, deadline=_deadline(options, detected), say=say,
                    )  # fmt: skip
                except (Undecidable, DriverHung) as error:  # the fault stays proven
                    reason += f"; the search ended early: {error}"
            if located.why is NoCulprit.WRONG_FROM_THE_START and kind is VerdictKind.DAMAGED:
                raise Undecidable(f"{driver.name}: {located.why}")
            if located.why is not None:
                reason += f"; {located.why}"
            found = _describe(source, ops, detected, located)
            log = detected.outcome.log
        else:
            try_next = hint(source.trace, options, start)
    except (Undecidable, DriverHung) as error:
        kind, reason = VerdictKind.UNDECIDABLE, str(error)
        log = error.log if isinstance(error, DriverError) else ""
        detected, located = None, Located()
    culprit = located.culprit
    return Verdict(
        verdict=kind,
        reason=reason,
        driver=driver.name,
        trace=str(source.trace.path),
        size=source.trace.header.size,
        ops=ops - start.ops,
        replayed_ops=runner.cost.ops,
        runs=runner.cost.runs,
        confirm_ops=runner.cost.confirm_ops,
        start=start.how,
        culprit=_op(culprit.op) if culprit is not None else None,
        confirmed=culprit is not None and culprit.confirmed,
        shown=culprit.shown if culprit is not None else 0,
        tries=culprit.runs if culprit is not None else 0,
        clean_without=culprit.clean if culprit is not None else 0,
        detected=detected.number if detected is not None else 1,
        seed=(detected.order if detected is not None else options.order).seed,
        culprit_shows=_shows(culprit, detected),
        needs_company=culprit.needs_company if culprit is not None else None,
        company=culprit.company.seq if culprit is not None and culprit.company else None,
        suspects=_suspects(runner, located),
        also=_also(detected, located) if detected is not None else [],
        located=options.find or detected is None,
        symptom=detected.symptom.what if detected is not None else None,
        reader=reader.name if reader is not None else None,
        volatile=runner.volatile,
        compared=compared,
        damage=found.damage,
        culprit_damage=found.culprit_damage,
        causes=found.causes,
        culprit_causes=found.culprit_causes,
        first_bad_read=found.first_bad_read,
        bytes=found.bytes,
        hint=try_next,
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
        # without a search, one difference is the answer, and what comes after costs time
        options = runner.options
        stop_early = not (options.find or options.complete or options.scope.thorough)
        started = time.monotonic()
        run = Run(label, order, ops, everything=not stop_early, stop_early=stop_early)
        outcome = runner.run(run)
        shown = symptoms(outcome, ops)
        if shown:
            seconds = time.monotonic() - started
            return _Detected(number, order, outcome, shown[0], shown[1:], seconds)
    return None


def _shows_before_the_first_op(
    runner: Runner, detected: _Detected, say: Callable[[str], None]
) -> bool:
    """Return whether a fresh image shows the symptom: then no op is to blame.

    Raises Undecidable if the image does not read as it should, or fails its check: then the driver
    never had what the trace needs.
    """
    symptom = detected.symptom
    if symptom.suspect is not None and symptom.what is not SymptomKind.READ:
        return False  # an op showed it: a fresh image cannot
    say("looking at a fresh image")
    run = Run("fresh", detected.order, runner.first, sign=symptom, last=symptom.stage)
    shown = again(symptom, runner.run(run), runner.first)
    if shown is None:
        return False
    if shown.verdict is VerdictKind.DAMAGED or shown.what is SymptomKind.CHECK:
        name = runner.options.driver.name
        raise Undecidable(f"{name}: wrong before the first op, on a fresh image: {shown.reason}")
    return True


def _shows(culprit: Culprit | None, detected: _Detected | None) -> str | None:
    """Return the sign after the culprit, if it is none of what the run of the whole trace showed
    first."""
    if culprit is None or culprit.symptom is None or detected is None:
        return None
    return None if is_same(detected.symptom, culprit.symptom) else culprit.symptom.reason


def _deadline(options: ReplayOptions, detected: _Detected) -> float:
    """Return when the search must end, by the monotonic clock."""
    seconds = options.time
    if seconds is None:
        seconds = max(LEAST_TIME, TIMES_FIRST * detected.seconds)
    return time.monotonic() + seconds


def _count(source: TraceWithData) -> int:
    """Return how many ops the trace has. Raises TraceError."""
    end = source.trace.end
    return end.ops if end is not None else sum(1 for _ in source.trace.ops())


def _tests_something(source: TraceWithData, first: int, ops: int) -> bool:
    """Return whether the ops from ``first`` to ``ops`` include one that says something of the
    driver: neither the start image does, nor the flush with which a recording ends. Raises
    TraceError."""
    played = islice(by_seq(source.trace.ops(), source.trace.recorded), first, ops)
    return any(op.kind != Kind.START and (op.kind != Kind.FLUSH or op.connection) for op in played)


def _suspects(runner: Runner, located: Located) -> list[Suspect]:
    """Return the suspects of a search that found no culprit."""
    return [
        Suspect(
            seq=suspect.op.seq,
            kind=KIND_BY_NUMBER[suspect.op.kind].label,
            offset=suspect.op.offset,
            length=suspect.op.length,
            followed=suspect.followed,
            in_flight=[op.seq for _, op in in_flight_with(runner, suspect.position)],
        )
        for suspect in located.suspects
    ]


def _also(detected: _Detected, located: Located) -> list[OtherFault]:
    """Return the faults besides the one that was searched for, one of a kind."""
    also = [
        OtherFault(reason=f"{op.describe()} did damage too", seq=op.seq)
        for _, op in located.others[:MAX_ALSO]
    ]
    kinds = {detected.symptom.what}
    for other in detected.others:
        if other.what in kinds or _is_old_news(detected.symptom, other):
            continue
        kinds.add(other.what)
        op = other.difference.op if other.difference is not None else None
        also.append(OtherFault(reason=other.reason, seq=op.seq if op is not None else None))
    return also


def _is_old_news(symptom: Symptom, other: Symptom) -> bool:
    """Return whether a later symptom shows no more than damage that the first one has shown."""
    covered = symptom.damage
    new = any(True for start, end in other.damage for _ in covered.outside(start, end))
    return is_same(symptom, other) or bool(other.damage and not new)


def _describe(source: TraceWithData, ops: int, detected: _Detected, located: Located) -> _Damage:
    """Explain all damage. Raises TraceError if a payload cannot be read."""
    culprit = located.culprit
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
    return _Damage(
        damage,
        culprit_damage,
        first_bad_read,
        sector_bytes,
        explain.causes(damage),
        explain.causes(culprit_damage),
    )


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
