"""A verdict as people read it: what failed, the culprit, the damage, what to do next."""

from analysis.story import hexdump
from tracer.op import SECTOR
from tracer.text import shell, size
from tracer.verdict import CulpritOp, Finding, SectorBytes, SymptomKind, Verdict, VerdictKind

MAX_FINDINGS = 4
"""Damaged ranges that are told of."""

MAX_ROWS = 4
"""Rows of the hex dump: the first that differ. The JSON has the whole sector."""

MAX_LOG = 4
"""Lines of the driver's last words."""

_FAILED = {
    SymptomKind.CRASH, SymptomKind.HANG, SymptomKind.STOP, SymptomKind.CHECK, SymptomKind.STATUS,
}  # fmt: skip
"""Symptoms that the driver may have said something about."""


def story(verdict: Verdict) -> str:
    """The result for people, in at most 25 lines."""
    told = facts(verdict)
    if damage(verdict):
        told.append(("damage", [amount(verdict), *findings(verdict)]))
    shown = verdict.bytes
    if shown is not None:
        told.append(("bytes", [f"what sector {shown.sector} should hold  |  what it does"]))
    lines = _listed(told)
    if shown is not None:
        lines += [f"  {row}" for row in dump(shown)[:MAX_ROWS]]
    told = []
    if has_last_words(verdict):
        words = verdict.log.strip().splitlines()[-MAX_LOG:]
        told.append(("log", ["the driver's last words", *words]))
    if verdict.plot is not None:
        told.append(("plot", [verdict.plot]))
    return "\n".join([*lines, *_listed([*told, ("next", commands(verdict))])])


def _listed(told: list[tuple[str, list[str]]]) -> list[str]:
    """Lines behind the names of what they tell."""
    lines = []
    for name, words in told:
        heads = [f"{name}:", *[""] * len(words)]
        lines += [f"{head:<9} {line}" for head, line in zip(heads, words, strict=False)]
    return lines


def facts(verdict: Verdict) -> list[tuple[str, list[str]]]:
    """What happened, but for the damage: the name of each fact, and its lines."""
    told = [("verdict", [f"{verdict.verdict} ({verdict.driver}): {verdict.reason}"])]
    if verdict.verdict is not VerdictKind.UNDECIDABLE:
        told.append(("replayed", [_cost(verdict)]))
    if verdict.volatile:
        note = "the driver keeps nothing over a restart, so nothing was compared after one"
        told.append(("note", [note]))
    first = verdict.first_bad_read
    if first is not None:
        told.append(("seen", [f"first by read #{first.seq}, in sector {first.sector}"]))
    if verdict.culprit is not None:
        told.append(("culprit", [_culprit(verdict.culprit), _certainty(verdict)]))
    elif verdict.symptom is not None:
        told.append(("culprit", ["not found" if verdict.located else "not looked for"]))
    return told


def has_last_words(verdict: Verdict) -> bool:
    """Whether the driver's log says something of how it failed."""
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
        first, last = op.offset // SECTOR, -(-(op.offset + op.length) // SECTOR)
        text += f", sectors {first} to {last - 1} ({size(op.length)} at byte {op.offset})"
    if op.flags:
        text += ", " + " ".join(op.flags)
    return text + f", {op.submitted / 1e9:.6f} s into the recording"


def _certainty(verdict: Verdict) -> str:
    if not verdict.confirmed:
        return "not confirmed: the fault does not show in every run (try --runs 20)"
    shown, tries, clean = verdict.shown, verdict.tries, verdict.clean_without
    text = f"confirmed: wrong with it in {shown} of {_runs(tries)}, right without it in {clean} of {clean}"
    if verdict.needs_company:
        text += "; only with other ops in flight"
    if verdict.detected > 1:
        text += f"; shown by run {verdict.detected} of the whole trace"
    return text + (f", in order {verdict.seed}" if verdict.seed else "")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def damage(verdict: Verdict) -> list[Finding]:
    """The damage to tell of: the culprit's, where that is known, else that of all that was played."""
    return verdict.culprit_damage or verdict.damage


def amount(verdict: Verdict) -> str:
    """How much is damaged; empty where nothing is."""
    own, in_all = _amount(verdict.culprit_damage), _amount(verdict.damage)
    if not verdict.culprit_damage:
        return in_all if verdict.damage else ""
    return own if own == in_all else f"{own} right after the culprit, {in_all} in the end"


def finding(one: Finding) -> str:
    """What is wrong with a damaged range."""
    return one.text or sectors(one.sector, one.sectors)


def sectors(first: int, count: int) -> str:
    """``sectors 8 to 15`` for eight of them."""
    return f"sector {first}" if count == 1 else f"sectors {first} to {first + count - 1}"


def findings(verdict: Verdict) -> list[str]:
    """How it is damaged."""
    shown = damage(verdict)
    lines = [finding(one) for one in shown[:MAX_FINDINGS]]
    if len(shown) > MAX_FINDINGS:
        lines.append(f"and {len(shown) - MAX_FINDINGS:,} more ranges")
    return lines


def _amount(ranges: list[Finding]) -> str:
    count = sum(one.sectors for one in ranges)
    return f"{count:,} {'sector' if count == 1 else 'sectors'} ({size(count * SECTOR)})"


def commands(verdict: Verdict) -> list[str]:
    """Commands that show more, for a shell."""
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
    """Two hex dumps side by side, as qemu-io's ``read -v`` prints one. Rows that do not differ are left
    out (``...``), and so are rows that only repeat the one above (``*``, as hexdump has it)."""
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
