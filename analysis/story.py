"""A verdict as people read it: what failed, the culprit, the damage, what to do next."""

from collections.abc import Mapping
from typing import Any

from tracer.op import SECTOR
from tracer.text import shell, size

Verdict = Mapping[str, Any]
"""What ``trace replay --json`` prints."""

MAX_FINDINGS = 4
"""Damaged ranges that are told of."""

MAX_ROWS = 4
"""Rows of the hex dump: the first that differ. The JSON has the whole sector."""

MAX_LOG = 4
"""Lines of the driver's last words."""


def story(verdict: Verdict) -> str:
    """The result for people, in at most 25 lines."""
    told = facts(verdict)
    if damage(verdict):
        told.append(("damage", [amount(verdict), *findings(verdict)]))
    shown = verdict["bytes"]
    if shown is not None:
        told.append(("bytes", [f"what sector {shown['sector']} should hold  |  what it does"]))
    lines = _listed(told)
    if shown is not None:
        rows = dump(shown["offset"], shown["expected"], shown["actual"])
        lines += [f"  {row}" for row in rows[:MAX_ROWS]]
    told = []
    if has_last_words(verdict):
        words = verdict["log"].strip().splitlines()[-MAX_LOG:]
        told.append(("log", ["the driver's last words", *words]))
    if verdict["plot"] is not None:
        told.append(("plot", [verdict["plot"]]))
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
    told = [("verdict", [f"{verdict['verdict']} ({verdict['driver']}): {verdict['reason']}"])]
    if verdict["verdict"] != "undecidable":
        told.append(("replayed", [_cost(verdict)]))
    if verdict["volatile"]:
        note = "the driver keeps nothing over a restart, so nothing was compared after one"
        told.append(("note", [note]))
    first = verdict["first_bad_read"]
    if first is not None:
        told.append(("seen", [f"first by read #{first['seq']}, in sector {first['sector']}"]))
    if verdict["culprit"] is not None:
        told.append(("culprit", [_culprit(verdict["culprit"]), _certainty(verdict)]))
    elif verdict["symptom"] is not None:
        told.append(("culprit", ["not found" if verdict["located"] else "not looked for"]))
    return told


def has_last_words(verdict: Verdict) -> bool:
    """Whether the driver's log says something of how it failed."""
    failed = verdict["symptom"] in ("crash", "hang", "stop", "check", "status")
    return failed and bool(verdict["log"].strip())


def _cost(verdict: Verdict) -> str:
    played, confirm, ops = verdict["replayed_ops"], verdict["confirm_ops"], verdict["ops"]
    search = played - confirm
    text = f"{played:,} ops in {_runs(verdict['runs'])}"
    times = f"({search / ops if ops else 0:.1f} times the trace's {ops:,})"
    if not confirm:
        return f"{text} {times}"
    return f"{text}: {search:,} to search {times}, {confirm:,} to confirm"


def _culprit(op: Mapping[str, Any]) -> str:
    text = f"#{op['seq']} {op['kind']}"
    if op["length"]:
        first, last = op["offset"] // SECTOR, -(-(op["offset"] + op["length"]) // SECTOR)
        text += f", sectors {first} to {last - 1} ({size(op['length'])} at byte {op['offset']})"
    if op["flags"]:
        text += ", " + " ".join(op["flags"])
    return text + f", {op['submitted'] / 1e9:.6f} s into the recording"


def _certainty(verdict: Verdict) -> str:
    if not verdict["confirmed"]:
        return "not confirmed: the fault does not show in every run (try --runs 20)"
    shown, tries, clean = verdict["shown"], verdict["tries"], verdict["clean_without"]
    text = (
        f"confirmed: wrong with it in {shown} of {_runs(tries)}, right without it in {clean} of {clean}"
    )
    if verdict["needs_company"]:
        text += "; only with other ops in flight"
    if verdict["detected"] > 1:
        text += f"; shown by run {verdict['detected']} of the whole trace"
    return text + (f", in order {verdict['seed']}" if verdict["seed"] else "")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def damage(verdict: Verdict) -> list[dict[str, Any]]:
    """The damage to tell of: the culprit's, where that is known, else that of all that was played."""
    return list(verdict["culprit_damage"] or verdict["damage"])


def amount(verdict: Verdict) -> str:
    """How much is damaged; empty where nothing is."""
    own, in_all = _amount(verdict["culprit_damage"]), _amount(verdict["damage"])
    if not verdict["culprit_damage"]:
        return in_all if verdict["damage"] else ""
    return own if own == in_all else f"{own} right after the culprit, {in_all} in the end"


def finding(one: Mapping[str, Any]) -> str:
    """What is wrong with a damaged range."""
    return one["text"] or sectors(one["sector"], one["sectors"])


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


def _amount(ranges: list[dict[str, Any]]) -> str:
    count = sum(one["sectors"] for one in ranges)
    return f"{count:,} {'sector' if count == 1 else 'sectors'} ({size(count * SECTOR)})"


def commands(verdict: Verdict) -> list[str]:
    """Commands that show more, for a shell."""
    if verdict["symptom"] is None:
        return []
    trace, culprit = verdict["trace"], verdict["culprit"]
    if culprit is None:
        again = shell(verdict["command"] or ["trace", "replay", trace])
        return [f"{again} --runs 20"] if verdict["located"] else [again]
    seq = str(culprit["seq"])
    if not damage(verdict):
        first = str(max(0, culprit["seq"] - 10))
        return [shell(["trace", "show", trace, "--ops", "--from", first, "--to", seq])]
    sector = str(damage(verdict)[0]["sector"])
    return [
        shell(["trace", "history", trace, "--sector", sector, "--at", seq]),
        shell(["trace", "checkout", trace, "--at", seq, "-o", "state.raw"]),
    ]


def dump(offset: int, expected_hex: str, actual_hex: str) -> list[str]:
    """Two hex dumps side by side, as qemu-io's ``read -v`` prints one. Rows that do not differ are left
    out (``...``), and so are rows that only repeat the one above (``*``, as hexdump has it)."""
    expected, actual = bytes.fromhex(expected_hex), bytes.fromhex(actual_hex)
    lines: list[str] = []
    above = None
    for at in range(0, len(expected), 16):
        row = expected[at : at + 16], actual[at : at + 16]
        if row[0] == row[1]:
            line = "..."
        elif row == above:
            line = "*"
        else:
            line = f"{offset + at:08x}:  {_row(row[0])}  |  {_row(row[1])}"
        if line not in ("...", "*") or lines[-1:] != [line]:
            lines.append(line)
        above = row
    return lines


def _row(data: bytes) -> str:
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return f"{data.hex(' '):<47}  {text:<16}"
