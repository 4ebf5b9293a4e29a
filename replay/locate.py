"""Verdict -> culprit: the first op after which the test image is wrong.

docs/finding-culprits.md tells the whole story. A damaged sector was right when it was last written, so
the culprit lies after that and no later than where the damage was seen; within that window nothing
writes the sector, so "is it wrong yet" changes once. One run that looks at the sector after each op of
the window finds where. Where looking hides the fault, or the fault shows only after a restart or in
a check, prefixes are bisected. Either way two runs from scratch confirm it: the prefix before the
culprit is clean, the prefix with it is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from replay.player import Probe, positions
from replay.runner import Outcome, Runner
from replay.schedule import schedule
from tracer.mirror import Difference
from tracer.op import MUTATING, SECTOR, Op
from tracer.ranges import RangeSet
from tracer.trace import Fault

MAX_TARGETS = 64
"""Damaged ranges that are watched. Ones left out can only hide an earlier culprit, which confirmation
would find."""

MAX_PROBES = 100_000
"""Looks in one run: about ten seconds' worth. A larger window takes a second, narrower run."""

MAX_LOOKS = 200_000
"""Sectors looked at in one run, all looks together: where the window is long, fewer are watched. Any of
them leads to an op that does damage, and confirmation leads on to an earlier one."""

TRIES = 8
"""Runs before a fault that depends on timing is taken not to show. One that shows in half of its runs is
missed once in 256 times."""

MAX_ROUNDS = 8
"""Times that confirmation may find an earlier corruption (later overwritten) before we settle."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """The earliest sign of trouble in a run. Positions count ops in the order of submission, from 0."""

    what: str
    """read, status, block status, crash, hang, image, stop, check or reopen."""
    reason: str
    within: int
    """The culprit is among the first ``within`` ops."""
    suspect: int | None = None
    """The position of the op that showed it, where one did."""
    targets: RangeSet | None = None
    """The damaged bytes, where watching them can tell when they went wrong."""
    difference: Difference | None = None

    @property
    def verdict(self) -> str:
        return "damaged" if self.what in ("read", "block status", "image", "reopen") else "failed"


WRONG_FROM_THE_START = "a fresh image is wrong before the first op"
NOT_AGAIN = "it did not show in another run"


@dataclass(slots=True)
class Culprit:
    """The op found, and how sure that is. ``before`` and ``after`` are the confirming runs."""

    position: int
    op: Op
    confirmed: bool
    symptom: Symptom
    after: Outcome | None
    tries: int = 1
    """Runs of the prefix with the op that it took until the fault showed."""


def symptom_of(outcome: Outcome, ops: int) -> Symptom | None:
    """The earliest sign of trouble in a run of ``ops`` ops, or None."""
    played = outcome.played
    started = played.replayed + played.skipped
    found: list[Symptom] = []
    if played.faults:
        found.append(_of_fault(*min(played.faults, key=lambda fault: fault[0])))
    if played.hung is not None:
        position, op = played.hung
        reason = f"{op.describe()} was not answered in time"
        found.append(Symptom("hang", reason, position + 1, position))
    if played.lost is not None:
        position, op = played.lost
        reason = f"{outcome.gone}, {op.describe()} in flight"
        # any op in flight may be to blame, from the oldest to the last that was sent
        suspect = position if started == position + 1 else None
        found.append(Symptom("crash", reason, started, suspect))
    if found:
        return min(found, key=lambda symptom: symptom.within)
    if outcome.live is not None and outcome.live.first is not None:
        first = outcome.live.first
        if first.fault == Fault.BLOCK_STATUS:
            reason = f"block status calls data zeroes, first in sector {first.offset // SECTOR}"
            return Symptom("block status", reason, ops, difference=first)
        reason = f"the image is wrong at the end, first in sector {first.offset // SECTOR}"
        if first.fault != Fault.FINAL:
            reason = f"sector {first.offset // SECTOR} cannot be read at the end"
        return Symptom("image", reason, ops, targets=outcome.live.damage, difference=first)
    if outcome.gone is not None:
        return Symptom("crash", outcome.gone, ops)
    if outcome.stop is not None:
        return Symptom("stop", outcome.stop, ops)
    if outcome.reopened is not None and outcome.reopened.first is not None:
        first = outcome.reopened.first
        reason = f"the image is wrong after a restart, first in sector {first.offset // SECTOR}"
        return Symptom("reopen", reason, ops, difference=first)
    if outcome.check is not None:
        return Symptom("check", f"the check failed, {outcome.check.splitlines()[0]}", ops)
    return None


def _of_fault(position: int, difference: Difference) -> Symptom:
    op = difference.op
    assert op is not None
    sector = difference.offset // SECTOR
    if difference.fault == Fault.DATA:
        return Symptom(
            "read", f"{op.describe()} returned wrong data in sector {sector}", position + 1,
            position, RangeSet(difference.ranges), difference,
        )  # fmt: skip
    if difference.fault == Fault.BLOCK_STATUS:
        reason = f"{op.describe()} calls data zeroes in sector {sector}"
        return Symptom("block status", reason, position + 1, difference=difference)
    wrong = "failed" if difference.actual_status else "succeeded"
    reason = f"{op.describe()} {wrong} (errno {difference.actual_status}, "
    reason += f"reference {difference.expected_status})"
    return Symptom("status", reason, position + 1, position, difference=difference)


def locate(
    runner: Runner, symptom: Symptom, say: Callable[[str], None] = lambda text: None
) -> Culprit | str:
    """Find the culprit behind a symptom, or say why there is none."""
    best: Culprit | None = None
    for round_ in range(MAX_ROUNDS):
        position = _watch(runner, symptom, say, round_)
        # what is there to be watched and cannot be seen that way depends on what is in flight, or when
        tries = TRIES if symptom.targets is not None and position is None else 1
        if position is None:
            position = symptom.suspect
        found = None if position is None else _confirm(runner, position, symptom, tries, round_, say)
        if found is None or (not found[0].confirmed and not found[1]):
            position = _bisect(runner, symptom.within, tries, say, round_)
            if position is None:
                return best or NOT_AGAIN
            found = _confirm(runner, position, symptom, tries, round_ + MAX_ROUNDS, say)
        culprit, earlier = found
        if culprit.confirmed or earlier is None:
            return culprit if culprit.confirmed or best is None else best
        best = best or culprit
        if position == 0:
            return WRONG_FROM_THE_START
        symptom = earlier
    return best or NOT_AGAIN


def _confirm(
    runner: Runner,
    position: int,
    symptom: Symptom,
    tries: int,
    round_: int,
    say: Callable[[str], None],
) -> tuple[Culprit, Symptom | None]:
    """Run the prefix without the op, ``tries`` times, and with it. Returns what that says of it, and the
    sign of earlier trouble, if the prefix without it shows one."""
    op = next(islice(schedule(runner.source.trace.ops()), position, None)).op
    say(f"confirming {op.describe()}")
    before, _ = _until_bad(runner, f"before-{round_}", position, tries)
    if not before.clean:
        earlier = symptom_of(before, position)
        return Culprit(position, op, False, symptom, None), earlier
    after, tries = _until_bad(runner, f"after-{round_}", position + 1, TRIES)
    return Culprit(position, op, not after.clean, symptom, after, tries), None


def _until_bad(runner: Runner, label: str, upto: int, tries: int) -> tuple[Outcome, int]:
    """Run a prefix until something is wrong, at most ``tries`` times; the last outcome, and how many
    runs that were."""
    for attempt in range(1, tries + 1):
        outcome = runner.run(f"{label}-{attempt}", upto=upto)
        if not outcome.clean:
            break
    return outcome, attempt


def _watch(runner: Runner, symptom: Symptom, say: Callable[[str], None], round_: int) -> int | None:
    """The position of the op after which a damaged sector first reads wrong on the live driver; None
    where that cannot be seen."""
    if symptom.targets is None:
        return None
    ranges = _bracket(runner, symptom.targets, symptom.within)
    ranges.sort(key=lambda one: one[2])  # those that may have gone wrong earliest
    window = symptom.within - ranges[0][2]
    del ranges[max(1, MAX_LOOKS // max(1, window)) :]
    first, last = ranges[0][2], symptom.within
    say(f"watching {len(ranges)} damaged ranges through ops {first} to {last}")
    attempt = 0
    while True:
        where = list(positions(first, last, MAX_PROBES))
        probe = Probe(ranges, where)
        label = f"watch-{round_}-{attempt}"
        outcome = runner.run(label, upto=symptom.within, probe=probe, compare=False)
        wrong = outcome.played.wrong_at
        if wrong is None:
            return None
        index = where.index(wrong)
        if index == 0 or wrong - where[index - 1] == 1:
            return max(wrong - 1, 0)
        first, last = where[index - 1] + 1, wrong
        attempt += 1


def _bracket(runner: Runner, targets: RangeSet, within: int) -> list[tuple[int, int, int]]:
    """Sectors to watch, each with the number of ops after which nothing writes it before ``within``:
    before that, it may be wrong for reasons that no longer matter."""
    sectors: dict[int, int] = {}
    for start, end in islice(targets, MAX_TARGETS):
        sectors[start // SECTOR] = 0
        sectors[(end - 1) // SECTOR] = 0
    watched = RangeSet((sector * SECTOR, (sector + 1) * SECTOR) for sector in sectors)
    for position, step in enumerate(islice(schedule(runner.source.trace.ops()), within)):
        op = step.op
        if op.kind in MUTATING and not op.reference_status:
            for start, end in watched.within(op.offset, op.end):
                for sector in range(start // SECTOR, -(-end // SECTOR)):
                    sectors[sector] = position + 1
    size = runner.source.trace.header.size
    return [
        (sector * SECTOR, min((sector + 1) * SECTOR, size), after)
        for sector, after in sorted(sectors.items())
    ]


def _bisect(
    runner: Runner, within: int, tries: int, say: Callable[[str], None], round_: int
) -> int | None:
    """The position of an op such that the prefix without it is clean, in ``tries`` runs, and the prefix
    with it is not; None where the whole is clean this time."""

    def bad(count: int, tries: int = tries) -> bool:
        say(f"trying the first {count} ops")
        return not _until_bad(runner, f"prefix-{round_}-{count}", count, tries)[0].clean

    if not bad(within, TRIES):
        return None
    good = 0
    while within - good > 1:
        middle = (good + within) // 2
        if bad(middle):
            within = middle
        else:
            good = middle
    return within - 1
