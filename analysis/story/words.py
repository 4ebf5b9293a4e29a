"""A verdict in words: what failed, the culprit, the damage, and what to do next."""

from dataclasses import dataclass

from analysis.story import hexdump
from tracer.op import SECTOR
from tracer.op import sectors as touched_sectors
from tracer.text import many, shell, size
from tracer.verdict import (
    Cause,
    CulpritOp,
    Finding,
    OtherFault,
    SectorBytes,
    StartKind,
    Suspect,
    SymptomKind,
    Verdict,
    VerdictKind,
)

MAX_LINES = 25
"""The most lines of a story: it fits on a screen."""


MAX_ALSO = 3
"""The most other faults listed."""

MAX_BESIDE = 4
"""The most ops listed that were in flight with a suspect."""


@dataclass(frozen=True, slots=True)
class _Room:
    """The most lines of the parts of a story that may be short."""

    findings: int
    """Causes of damage. The report has all."""
    rows: int
    """Rows of the hex dump. The JSON has the whole sector."""
    log: int
    """Lines of the driver's log: its end."""


_ROOM = [_Room(4, 4, 4), _Room(4, 2, 4), _Room(4, 2, 2), _Room(2, 2, 2), _Room(1, 1, 1)]
"""How much room the parts get, from the most to the least: the first that fits is taken."""

_FAILED = {
    SymptomKind.CRASH, SymptomKind.HANG, SymptomKind.STOP, SymptomKind.CHECK, SymptomKind.STATUS,
    SymptomKind.LOG,
}  # fmt: skip
"""Symptoms that the driver's log may explain."""

_START = {
    StartKind.BACKING: "; start data in the backing file",
    StartKind.CONVERTED: "; start data converted into the image",
    StartKind.WRITTEN: "; start data written through the driver",
}

Facts = list[tuple[str, list[str]]]
"""The name of each fact, and its lines."""


def story(verdict: Verdict) -> str:
    """Return a verdict as text of at most MAX_LINES lines."""
    lines: list[str] = []
    for room in _ROOM:
        lines = _lines(verdict, room)
        if len(lines) <= MAX_LINES:
            break
    return "\n".join(lines[:MAX_LINES])


def _lines(verdict: Verdict, room: _Room) -> list[str]:
    found = facts(verdict)
    if damage(verdict):
        found.append(("damage", [amount(verdict), *findings(verdict, room.findings)]))
    shown = verdict.bytes
    if shown is not None:
        found.append(("bytes", [f"what sector {shown.sector} should hold  |  what it does"]))
    lines = _listed(found)
    if shown is not None:
        lines += [f"  {row}" for row in dump(shown)[: room.rows]]
    rest: Facts = []
    if has_last_words(verdict):
        words = verdict.log.strip().splitlines()[-room.log :]
        rest.append(("log", ["the driver's last words", *words]))
    if verdict.plot is not None:
        rest.append(("plot", [verdict.plot]))
    return [*lines, *_listed([*rest, ("next", commands(verdict))])]


def _listed(found: Facts) -> list[str]:
    """Return the lines of facts, with the name of each fact before its first line."""
    lines = []
    for name, words in found:
        heads = [f"{name}:", *[""] * len(words)]
        lines += [f"{head:<9} {line}" for head, line in zip(heads, words, strict=False)]
    return lines


def facts(verdict: Verdict) -> Facts:
    """Return what happened, without the damage."""
    reason = " ".join(verdict.reason.split())  # a driver's words may have line feeds
    found: Facts = [("verdict", [f"{verdict.verdict} ({verdict.driver}): {reason}"])]
    if verdict.verdict is not VerdictKind.UNDECIDABLE:
        start = _START[verdict.start] if verdict.start is not None else ""
        found.append(("replayed", [_cost(verdict) + start]))
    if verdict.compared is not None:
        found.append(("compared", [verdict.compared.describe()]))
    if verdict.hint is not None:
        found.append(("hint", [verdict.hint]))
    if verdict.volatile:
        note = "the driver keeps nothing over a restart, so nothing was compared after one"
        found.append(("note", [note]))
    first = verdict.first_bad_read
    if first is not None:
        found.append(("seen", [f"first by read #{first.seq}, in sector {first.sector}"]))
    if verdict.culprit is not None:
        shows = [] if verdict.culprit_shows is None else [f"shows: {verdict.culprit_shows}"]
        found.append(("culprit", [_culprit(verdict.culprit), _certainty(verdict), *shows]))
    elif verdict.symptom is not None:
        found.append(("culprit", ["not found" if verdict.located else "not looked for"]))
    if verdict.suspects:
        found.append(("suspects", [_suspect(suspect) for suspect in verdict.suspects]))
    if verdict.also:
        found.append(("also", _also(verdict.also)))
    return found


def has_last_words(verdict: Verdict) -> bool:
    """Return whether the driver's log may say how it failed."""
    return verdict.symptom in _FAILED and bool(verdict.log.strip())


def _cost(verdict: Verdict) -> str:
    played, confirm, ops = verdict.replayed_ops, verdict.confirm_ops, verdict.ops
    search = played - confirm
    text = f"{many(played, 'op')} in {_runs(verdict.runs)}"
    times = f"({search / ops if ops else 0:.1f} times the trace's {ops:,})"
    if not confirm:
        return f"{text} {times}"
    return f"{text}: {search:,} to search {times}, {confirm:,} to confirm"


def _culprit(op: CulpritOp) -> str:
    text = f"#{op.seq} {op.kind}"
    if op.length:
        touched = touched_sectors(op.offset, op.offset + op.length)
        text += f", {sectors(touched.start, len(touched))} ({size(op.length)} at byte {op.offset})"
    if op.flags:
        text += ", " + " ".join(op.flags)
    return text + f", {op.submitted / 1e9:.6f} s into the recording"


def _certainty(verdict: Verdict) -> str:
    if not verdict.confirmed:
        return "not confirmed: the fault does not show in every run (try --runs 20)"
    shown, tries, clean = verdict.shown, verdict.tries, verdict.clean_without
    wrong, right = f"{shown} of {_runs(tries)}", f"{clean} of {clean}"
    text = f"confirmed: wrong with it in {wrong}, right without it in {right}"
    if verdict.needs_company:
        company = "other ops" if verdict.company is None else f"#{verdict.company}"
        text += f"; only with {company} in flight"
    if verdict.detected > 1:
        text += f"; shown by run {verdict.detected} of the whole trace"
    return text + (f", in order {verdict.seed}" if verdict.seed else "")


def _suspect(suspect: Suspect) -> str:
    """Return a suspect in a line: ``#7 write 4.0 KiB at sector 64: damage followed it twice``."""
    text = f"#{suspect.seq} {suspect.kind}"
    if suspect.length:
        text += f" {size(suspect.length)} at sector {suspect.offset // SECTOR}"
    if suspect.followed:
        text += f", damage followed it in {_runs(suspect.followed)}"
    if suspect.in_flight:
        seqs = [f"#{seq}" for seq in suspect.in_flight[:MAX_BESIDE]]
        more = ", ..." if len(suspect.in_flight) > MAX_BESIDE else ""
        text += f", in flight with {', '.join(seqs)}{more}"
    return text


def _also(faults: list[OtherFault]) -> list[str]:
    """Return the other faults, a line each."""
    lines = [fault.reason for fault in faults[:MAX_ALSO]]
    if len(faults) > MAX_ALSO:
        lines.append(f"and {len(faults) - MAX_ALSO} more")
    return lines


def _runs(count: int) -> str:
    return many(count, "run")


def damage(verdict: Verdict) -> list[Finding]:
    """Return the damage right after the culprit, or the damage at the end if that is not known."""
    return verdict.culprit_damage or verdict.damage


def amount(verdict: Verdict) -> str:
    """Return how much is damaged, or an empty string if nothing is."""
    own, in_all = _amount(verdict.culprit_damage), _amount(verdict.damage)
    if not verdict.culprit_damage:
        return in_all if verdict.damage else ""
    return own if own == in_all else f"{own} right after the culprit, {in_all} in the end"


def causes(verdict: Verdict) -> list[Cause]:
    """Return the damage right after the culprit, or at the end if that is not known, by cause.

    The verdicts of older versions have no causes; each range then is one.
    """
    grouped = verdict.culprit_causes if verdict.culprit_damage else verdict.causes
    return grouped or [_cause(found) for found in damage(verdict)]


def _cause(found: Finding) -> Cause:
    place = sectors(found.sector, found.sectors)
    return Cause(
        kind=found.kind,
        ranges=1,
        sectors=found.sectors,
        sector=found.sector,
        what=f"{place} {found.kind.replace('-', ' ') if found.kind else 'damaged'}",
        text=found.text or place,
    )


def later_causes(verdict: Verdict) -> list[Cause]:
    """Return the causes of damage at the end that are not among ``causes``."""
    if not verdict.culprit_damage:
        return []
    own = {(cause.kind, *cause.seqs) for cause in causes(verdict)}
    return [cause for cause in verdict.causes if (cause.kind, *cause.seqs) not in own]


def sectors(first: int, count: int) -> str:
    """Return a range of sectors in words: ``sectors 8 to 15`` for eight sectors from 8 on."""
    return f"sector {first}" if count == 1 else f"sectors {first} to {first + count - 1}"


def findings(verdict: Verdict, most: int = _ROOM[0].findings) -> list[str]:
    """Return the causes of the damage, a line each, at most ``most``, and how many are left out.

    Of ``most`` one is kept for the damage at the end, if that has other causes.
    """
    own = [cause.text for cause in causes(verdict)]
    later = [f"in the end: {cause.text}" for cause in later_causes(verdict)]
    lines = own[: max(1, most - bool(later))]
    lines += later[: most - len(lines)]
    left = len(own) + len(later) - len(lines)
    if left:
        lines.append(f"and {many(left, 'more cause')}")
    return lines


def _amount(ranges: list[Finding]) -> str:
    count = sum(found.sectors for found in ranges)
    return f"{many(count, 'sector')} ({size(count * SECTOR)})"


def commands(verdict: Verdict) -> list[str]:
    """Return shell commands that show more."""
    if verdict.symptom is None:
        return []
    trace, culprit = verdict.trace, verdict.culprit
    if culprit is None:
        again = list(verdict.command or ["trace", "replay", trace])
        if verdict.located:
            if "--runs" in again:
                place = again.index("--runs")
                del again[place : place + 2]
            again += ["--runs", "20"]
        return [shell(again)]
    seq = str(culprit.seq)
    if not damage(verdict):
        first = str(max(0, culprit.seq - 10))
        return [shell(["trace", "show", trace, "--ops", "--from", first, "--to", seq])]
    sector = str(damage(verdict)[0].sector)
    found = [
        shell(["trace", "history", trace, "--sector", sector, "--at", seq]),
        shell(["trace", "checkout", trace, "--at", seq, "-o", "state.raw"]),
    ]
    if verdict.command[:2] == ["trace", "replay"]:
        found.append(shell(["trace", "minimize", *verdict.command[2:]]))
    return found


def dump(shown: SectorBytes) -> list[str]:
    """Return two hex dumps side by side, in the format of qemu-io's ``read -v``.

    ``...`` replaces rows in which both sides are equal. ``*`` replaces rows that repeat the row
    above, as in hexdump.
    """
    expected, actual = bytes.fromhex(shown.expected), bytes.fromhex(shown.actual)
    lines: list[str] = []
    for row in hexdump.rows(shown.offset, expected, actual):
        if row.equal:
            line = "..."
        elif row.repeats:
            line = "*"
        else:
            line = f"{row.offset:08x}:  {_row(row.expected)}  |  {_row(row.actual)}"
        if line not in ("...", "*") or lines[-1:] != [line]:
            lines.append(line)
    return lines


def _row(data: bytes) -> str:
    return f"{data.hex(' '):<47}  {''.join(hexdump.letters(data)):<16}"
