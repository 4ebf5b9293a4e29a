"""A verdict as people read it."""

from replay.verdict import Verdict
from tracer.op import SECTOR
from tracer.text import size

MAX_RANGES = 8
"""Damaged ranges that are listed."""


def story(verdict: Verdict) -> str:
    """The result for people: what is wrong, the culprit, the damage, the bytes."""
    lines = [f"verdict:  {verdict.verdict} ({verdict.driver}): {verdict.reason}"]
    if verdict.verdict != "undecidable":
        passes = verdict.replayed_ops / verdict.ops if verdict.ops else 0
        lines.append(
            f"replayed: {verdict.replayed_ops:,} ops in {verdict.runs} "
            f"{'run' if verdict.runs == 1 else 'runs'} ({passes:.1f} times the trace's {verdict.ops:,})"
        )
    if verdict.volatile:
        lines.append(
            "note:     the driver keeps nothing over a restart, so nothing was compared after one"
        )
    if verdict.first_bad_read is not None:
        first = verdict.first_bad_read
        lines.append(f"seen:     first by read #{first['seq']}, in sector {first['sector']}")
    if verdict.culprit is not None:
        lines.append(f"culprit:  {_culprit(verdict)}")
    elif verdict.symptom is not None:
        lines.append("culprit:  not found")
    lines += _damage(verdict)
    if verdict.bytes is not None:
        lines += ["", f"sector {verdict.bytes['sector']}: what it should hold, and what it does"]
        lines += dump(verdict.bytes["offset"], verdict.bytes["expected"], verdict.bytes["actual"])
    if verdict.symptom in ("crash", "hang", "stop", "check", "status") and verdict.log.strip():
        lines += ["", "the driver's last words:", *verdict.log.strip().splitlines()[-10:]]
    if verdict.plot is not None:
        lines += ["", f"plot:     {verdict.plot}"]
    return "\n".join(lines)


def _culprit(verdict: Verdict) -> str:
    op = verdict.culprit
    assert op is not None
    text = f"#{op['seq']} {op['kind']}"
    if op["length"]:
        first, last = op["offset"] // SECTOR, -(-(op["offset"] + op["length"]) // SECTOR)
        text += f", sectors {first} to {last - 1} ({size(op['length'])} at byte {op['offset']})"
    if op["flags"]:
        text += ", " + " ".join(op["flags"])
    text += f", {op['submitted'] / 1e9:.6f} s into the recording"
    if verdict.confirmed:
        text += "\n          confirmed: without it the disk is right, with it wrong"
        return text + (f" (it took {verdict.tries} runs to show)" if verdict.tries > 1 else "")
    return text + "\n          not confirmed: the fault does not show in every run"


def _damage(verdict: Verdict) -> list[str]:
    ranges = verdict.damage
    if not ranges:
        return []
    total = sum(one["sectors"] for one in ranges)
    place = "one range" if len(ranges) == 1 else f"{len(ranges):,} ranges"
    lines = [f"damage:   {total:,} sectors ({size(total * SECTOR)}) in {place}"]
    lines += [
        f"          sectors {one['sector']} to {one['sector'] + one['sectors'] - 1} ({one['sectors']})"
        for one in ranges[:MAX_RANGES]
    ]
    if len(ranges) > MAX_RANGES:
        lines.append(f"          and {len(ranges) - MAX_RANGES:,} more")
    return lines


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
