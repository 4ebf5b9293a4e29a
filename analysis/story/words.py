"""A verdict in words: what failed, the culprit, the damage, and what to do next."""

from analysis.story import hexdump
from tracer.op import SECTOR
from tracer.op import sectors as touched_sectors
from tracer.text import shell, size
from tracer.verdict import (
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

MAX_FINDINGS = 4
"""The most damaged ranges listed."""

MAX_ROWS = 4
"""The most rows of the hex dump. The JSON has the whole sector."""

MAX_ALSO = 3
"""The most other faults listed."""

MAX_BESIDE = 4
"""The most ops listed that were in flight with a suspect."""

MAX_LOG = 4
"""The most lines of the driver's log: its end."""

_FAILED = {
    SymptomKind.CRASH, SymptomKind.HANG, SymptomKind.STOP, SymptomKind.CHECK, SymptomKind.STATUS,
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
    """Return a verdict as text of at most 25 lines."""
    found = facts(verdict)
    if damage(verdict):
        found.append(("damage", [amount(verdict), *findings(verdict)]))
    shown = verdict.bytes
    if shown is not None:
        found.append(("bytes", [f"what sector {shown.sector} should hold  |  what it does"]))
    lines = _listed(found)
    if shown is not None:
        lines += [f"  {row}" for row in dump(shown)[:MAX_ROWS]]
    rest: Facts = []
    if has_last_words(verdict):
        words = verdict.log.strip().splitlines()[-MAX_LOG:]
        rest.append(("log", ["the driver's last words", *words]))
    if verdict.plot is not None:
        rest.append(("plot", [verdict.plot]))
    return "\n".join([*lines, *_listed([*rest, ("next", commands(verdict))])])


def _listed(found: Facts) -> list[str]:
    """Return the lines of facts, with the name of each fact before its first line."""
    lines = []
    for name, words in found:
        heads = [f"{name}:", *[""] * len(words)]
        lines += [f"{head:<9} {line}" for head, line in zip(heads, words, strict=False)]
    return lines


def facts(verdict: Verdict) -> Facts:
    """Return what happened, without the damage."""
    found: Facts = [("verdict", [f"{verdict.verdict} ({verdict.driver}): {verdict.reason}"])]
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
        found.append(("culprit", [_culprit(verdict.culprit), _certainty(verdict)]))
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
    text = f"{played:,} ops in {_runs(verdict.runs)}"
    times = f"({search / ops if ops else 0:.1f} times the trace's {ops:,})"
    if not confirm:
        return f"{text} {times}"
    return f"{text}: {search:,} to search {times}, {confirm:,} to confirm"


def _culprit(op: CulpritOp) -> str:
    text = f"#{op.seq} {op.kind}"
    if op.length:
        touched = touched_sectors(op.offset, op.offset + op.length)
        text += f", sectors {touched[0]} to {touched[-1]} ({size(op.length)} at byte {op.offset})"
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
    return "1 run" if count == 1 else f"{count} runs"


def damage(verdict: Verdict) -> list[Finding]:
    """Return the damage right after the culprit, or the damage at the end if that is not known."""
    return verdict.culprit_damage or verdict.damage


def amount(verdict: Verdict) -> str:
    """Return how much is damaged, or an empty string if nothing is."""
    own, in_all = _amount(verdict.culprit_damage), _amount(verdict.damage)
    if not verdict.culprit_damage:
        return in_all if verdict.damage else ""
    return own if own == in_all else f"{own} right after the culprit, {in_all} in the end"


def finding(found: Finding) -> str:
    """Return what is wrong with a damaged range."""
    return found.text or sectors(found.sector, found.sectors)


def sectors(first: int, count: int) -> str:
    """Return a range of sectors in words: ``sectors 8 to 15`` for eight sectors from 8 on."""
    return f"sector {first}" if count == 1 else f"sectors {first} to {first + count - 1}"


def findings(verdict: Verdict) -> list[str]:
    """Return what is wrong with the damaged ranges, a line each."""
    shown = damage(verdict)
    lines = [finding(found) for found in shown[:MAX_FINDINGS]]
    if len(shown) > MAX_FINDINGS:
        lines.append(f"and {len(shown) - MAX_FINDINGS:,} more ranges")
    return lines


def _amount(ranges: list[Finding]) -> str:
    count = sum(found.sectors for found in ranges)
    return f"{count:,} {'sector' if count == 1 else 'sectors'} ({size(count * SECTOR)})"


def commands(verdict: Verdict) -> list[str]:
    """Return shell commands that show more."""
    if verdict.symptom is None:
        return []
    trace, culprit = verdict.trace, verdict.culprit
    if culprit is None:
        again = shell(verdict.command or ["trace", "replay", trace])
        return [f"{again} --runs 20"] if verdict.located else [again]
    seq = str(culprit.seq)
    if not damage(verdict):
        first = str(max(0, culprit.seq - 10))
        return [shell(["trace", "show", trace, "--ops", "--from", first, "--to", seq])]
    sector = str(damage(verdict)[0].sector)
    return [
        shell(["trace", "history", trace, "--sector", sector, "--at", seq]),
        shell(["trace", "checkout", trace, "--at", seq, "-o", "state.raw"]),
    ]


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
