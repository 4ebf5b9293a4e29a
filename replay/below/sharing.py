"""Power cuts judged in several processes: each judges a share of the states of one run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from replay.below.found import CheckFound, Fault, PowerCut
from replay.below.powercut import MAX_FAULTS, CutOptions, powercut
from replay.below.recorded import LowerRun
from tracer.trace.data import TraceWithData
from tracer.verdict import VerdictKind

_WORST = (VerdictKind.DAMAGED, VerdictKind.FAILED, VerdictKind.CLEAN, VerdictKind.UNDECIDABLE)


def judge_share(trace: Path, run: LowerRun, options: CutOptions, work: Path) -> PowerCut:
    """Judge the states of a share, in a new folder ``work``. Raises as ``powercut``."""
    work.mkdir()
    with TraceWithData(trace) as source:
        return powercut(source, run, options, work, source.trace.header.size)


def shares(options: CutOptions, jobs: int) -> list[CutOptions]:
    """Return the options of each of so many shares."""
    states = options.states
    return [
        replace(
            options, share=(number, jobs), states=None if states is None else -(-states // jobs)
        )
        for number in range(jobs)
    ]  # fmt: skip


def merged(found: Sequence[PowerCut]) -> PowerCut:
    """Return what shares have found together. Images that are alike in two of them count twice as
    distinct."""
    worst = min(found, key=lambda one: _WORST.index(one.verdict))
    return replace(
        worst,
        tried=sum(one.tried for one in found),
        distinct=sum(one.distinct for one in found),
        judged=sum(one.judged for one in found),
        shrinking=sum(one.shrinking for one in found),
        damaged=sum(one.damaged for one in found),
        broken=sum(one.broken for one in found),
        repaired=sum(one.repaired for one in found),
        checked=sum(one.checked for one in found),
        continued=sum(one.continued for one in found),
        seconds=max(one.seconds for one in found),
        complete=all(one.complete for one in found),
        interrupted=next((one.interrupted for one in found if one.interrupted), None),
        faults=_faults(fault for one in found for fault in one.faults),
        checks=_checks(check for one in found for check in one.checks),
        later=sorted((one for part in found for one in part.later), key=lambda one: one.state),
    )


def _faults(faults: Iterable[Fault]) -> list[Fault]:
    """Return the first fault of each kind."""
    kinds: dict[object, Fault] = {}
    for fault in sorted(faults, key=lambda fault: fault.state):
        kinds.setdefault(fault.kind, fault)
    return list(kinds.values())[:MAX_FAULTS]


def _checks(checks: Iterable[CheckFound]) -> list[CheckFound]:
    """Return what the check command says, with how many images it says so of."""
    said: dict[str, CheckFound] = {}
    for check in checks:
        old = said.get(check.says, CheckFound(check.says, 0, check.first))
        said[check.says] = replace(
            old, states=old.states + check.states, first=min(old.first, check.first)
        )
    return sorted(said.values(), key=lambda check: -check.states)
