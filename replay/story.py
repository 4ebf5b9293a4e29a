"""A verdict as people read it: what failed, the culprit, the damage, what to do next."""

import shlex
from typing import Any

from replay.verdict import Verdict
from tracer.op import SECTOR
from tracer.text import size

MAX_FINDINGS = 4
"""Damaged ranges that are told of."""

MAX_ROWS = 4
"""Rows of the hex dump: the first that differ. The JSON has the whole sector."""

MAX_LOG = 4
"""Lines of the driver's last words."""


def story(verdict: Verdict) -> str:
    """The result for people, in at most 25 lines."""
    lines = [f"verdict:  {verdict.verdict} ({verdict.driver}): {verdict.reason}"]
    if verdict.verdict != "undecidable":
        lines.append(_cost(verdict))
    if verdict.volatile:
        lines.append(
            "note:     the driver keeps nothing over a restart, so nothing was compared after one"
        )
    if verdict.first_bad_read is not None:
        first = verdict.first_bad_read
        lines.append(f"seen:     first by read #{first['seq']}, in sector {first['sector']}")
    if verdict.culprit is not None:
        lines += [f"culprit:  {_culprit(verdict)}", f"          {_certainty(verdict)}"]
    elif verdict.symptom is not None:
        lines.append("culprit:  not found")
    lines += _damage(verdict)
    if verdict.bytes is not None:
        lines.append(f"bytes:    what sector {verdict.bytes['sector']} should hold  |  what it does")
        rows = dump(verdict.bytes["offset"], verdict.bytes["expected"], verdict.bytes["actual"])
        lines += [f"  {row}" for row in rows[:MAX_ROWS]]
    if verdict.symptom in ("crash", "hang", "stop", "check", "status") and verdict.log.strip():
        lines.append("log:      the driver's last words")
        lines += [f"          {line}" for line in verdict.log.strip().splitlines()[-MAX_LOG:]]
    if verdict.plot is not None:
        lines.append(f"plot:     {verdict.plot}")
    lines += _next(verdict)
    return "\n".join(lines)


def _cost(verdict: Verdict) -> str:
    search = verdict.replayed_ops - verdict.confirm_ops
    passes = search / verdict.ops if verdict.ops else 0
    text = f"replayed: {verdict.replayed_ops:,} ops in {_runs(verdict.runs)}"
    times = f"({passes:.1f} times the trace's {verdict.ops:,})"
    if not verdict.confirm_ops:
        return f"{text} {times}"
    return f"{text}: {search:,} to search {times}, {verdict.confirm_ops:,} to confirm"


def _culprit(verdict: Verdict) -> str:
    op = verdict.culprit
    assert op is not None
    text = f"#{op['seq']} {op['kind']}"
    if op["length"]:
        first, last = op["offset"] // SECTOR, -(-(op["offset"] + op["length"]) // SECTOR)
        text += f", sectors {first} to {last - 1} ({size(op['length'])} at byte {op['offset']})"
    if op["flags"]:
        text += ", " + " ".join(op["flags"])
    return text + f", {op['submitted'] / 1e9:.6f} s into the recording"


def _certainty(verdict: Verdict) -> str:
    if not verdict.confirmed:
        return "not confirmed: the fault does not show in every run (try --runs 20)"
    text = f"confirmed: wrong with it in {verdict.shown} of {_runs(verdict.tries)}, "
    text += f"right without it in {verdict.clean_without} of {verdict.clean_without}"
    if verdict.needs_company:
        text += "; only with other ops in flight"
    if verdict.detected > 1:
        text += f"; shown by run {verdict.detected} of the whole trace"
    return text + (f", in order {verdict.seed}" if verdict.seed else "")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _damage(verdict: Verdict) -> list[str]:
    """How much is damaged, and how: by the culprit, where that is known, else by all that was played."""
    shown = verdict.culprit_damage or verdict.damage
    if not shown:
        return []
    own, in_all = _amount(verdict.culprit_damage), _amount(verdict.damage)
    if not verdict.culprit_damage:
        total = in_all
    elif own == in_all:
        total = own
    else:
        total = f"{own} right after the culprit, {in_all} in the end"
    lines = [f"damage:   {total}"]
    for one in shown[:MAX_FINDINGS]:
        first, last = one["sector"], one["sector"] + one["sectors"] - 1
        lines.append(f"          {one['text'] or f'sectors {first} to {last}'}")
    if len(shown) > MAX_FINDINGS:
        lines.append(f"          and {len(shown) - MAX_FINDINGS:,} more ranges")
    return lines


def _amount(damage: list[dict[str, Any]]) -> str:
    sectors = sum(one["sectors"] for one in damage)
    return f"{sectors:,} {'sector' if sectors == 1 else 'sectors'} ({size(sectors * SECTOR)})"


def _next(verdict: Verdict) -> list[str]:
    """Commands that show more."""
    if verdict.symptom is None:
        return []
    trace = shlex.quote(verdict.trace)
    commands = []
    shown = verdict.culprit_damage or verdict.damage
    if verdict.culprit is None:
        commands.append(f"trace replay {trace} --driver ... --runs 20")
    elif shown:
        seq = verdict.culprit["seq"]
        commands.append(f"trace history {trace} --sector {shown[0]['sector']} --at {seq}")
        commands.append(f"trace checkout {trace} --at {seq} -o state.raw")
    else:
        seq = verdict.culprit["seq"]
        commands.append(f"trace show {trace} --ops --from {max(0, seq - 10)} --to {seq}")
    return [f"next:     {commands[0]}", *(f"          {command}" for command in commands[1:])]


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
