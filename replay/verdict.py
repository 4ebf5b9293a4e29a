"""What a replay found, as one plain object for people and for programs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from replay.locate import Culprit, Symptom, locate, symptom_of
from replay.runner import Outcome, Runner
from tracer.errors import DriverError, Exit, Undecidable
from tracer.op import KIND_BY_NUMBER, SECTOR, flag_names
from tracer.ranges import RangeSet
from tracer.source import Source

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
    runs: int
    culprit: dict[str, Any] | None = None
    confirmed: bool = False
    tries: int = 0
    """Runs that it took to see the fault again with the culprit in place; more than one: it depends on
    timing."""
    symptom: str | None = None
    volatile: bool = False
    """Whether the driver keeps nothing over a restart, so that nothing was compared after one."""
    damage: list[dict[str, int]] = field(default_factory=list)
    culprit_damage: list[dict[str, int]] = field(default_factory=list)
    first_bad_read: dict[str, int] | None = None
    bytes: dict[str, Any] | None = None
    """The first damaged sector: its number, what it should hold and what it does (hex)."""
    log: str = ""
    plot: str | None = None
    schema: int = SCHEMA

    @property
    def exit_code(self) -> int:
        codes = {"clean": Exit.CLEAN, "undecidable": Exit.UNDECIDABLE}
        return codes.get(self.verdict, Exit.BAD_DRIVER)


def replay(runner: Runner, *, find: bool = True, say: Callable[[str], None]) -> Verdict:
    """Run the whole trace; where something is wrong, find the culprit. Raises TraceError, UsageError
    and StorageError; what keeps the driver from being judged becomes an undecidable verdict."""
    source = runner.source
    verdict = Verdict(
        "clean", "no difference", runner.driver.name, str(source.trace.path),
        source.trace.header.size, _count(source), 0, 0,
    )  # fmt: skip
    try:
        outcome = runner.run("full", thorough=True)
        symptom = symptom_of(outcome, verdict.ops)
        if symptom is not None:
            verdict.verdict, verdict.reason = symptom.verdict, symptom.reason
            verdict.symptom = symptom.what
            culprit = locate(runner, symptom, say) if find else None
            if isinstance(culprit, str):
                verdict.reason += f"; {culprit}"
                culprit = None
            _describe(verdict, outcome, symptom, culprit)
    except Undecidable as error:
        verdict.verdict, verdict.reason = "undecidable", str(error)
        if isinstance(error, DriverError):
            verdict.log = error.log
    verdict.replayed_ops, verdict.runs = runner.replayed, runner.runs
    verdict.volatile = runner.volatile
    return verdict


def _count(source: Source) -> int:
    end = source.trace.end
    return end.ops if end is not None else sum(1 for _ in source.trace.ops())


def _describe(verdict: Verdict, outcome: Outcome, symptom: Symptom, culprit: Culprit | None) -> None:
    verdict.damage = _sectors(outcome.damage())
    verdict.log = outcome.log
    first = outcome.played.first_bad_read
    if first is not None and first.op is not None:
        verdict.first_bad_read = {"seq": first.op.seq, "sector": first.offset // SECTOR}
    shown = symptom.difference
    if culprit is not None:
        op = culprit.op
        verdict.culprit = {
            "seq": op.seq, "kind": KIND_BY_NUMBER[op.kind].label, "offset": op.offset,
            "length": op.length, "flags": flag_names(op.flags), "submitted": op.submitted,
            "connection": op.connection,
        }  # fmt: skip
        verdict.confirmed, verdict.tries = culprit.confirmed, culprit.tries
        if culprit.after is not None:
            verdict.culprit_damage = _sectors(culprit.after.damage())
            own = symptom_of(culprit.after, culprit.position + 1)
            if own is not None and own.difference is not None:
                shown = own.difference
    if shown is not None and shown.expected != shown.actual:
        verdict.bytes = _first_sector(shown.offset, shown.expected, shown.actual)


def _first_sector(offset: int, expected: bytes, actual: bytes) -> dict[str, Any]:
    end = min((offset // SECTOR + 1) * SECTOR - offset, len(expected))
    return {
        "sector": offset // SECTOR,
        "offset": offset,
        "expected": expected[:end].hex(),
        "actual": actual[:end].hex(),
    }


def _sectors(ranges: RangeSet) -> list[dict[str, int]]:
    return [
        {"sector": start // SECTOR, "sectors": -(-end // SECTOR) - start // SECTOR}
        for start, end in ranges
    ]
