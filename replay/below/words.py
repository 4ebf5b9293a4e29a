"""The result of power cuts in words."""

import shlex
from pathlib import Path

from replay.below.found import RUN, Fault, GuestOp, PowerCut
from tracer.op import sectors
from tracer.text import many, ops
from tracer.verdict import VerdictKind

MAX_LINES = 4
"""The most missing lower ops, and ranges of damage, that a fault shows."""


def words(found: PowerCut) -> str:
    """Return the result as ``trace powercut`` prints it."""
    cache = "" if found.cache == "writeback" else f", cache={found.cache}"
    lines = [("verdict", f"{found.verdict} ({found.driver}{cache}): {_why(found)}")]
    if found.points:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.lower.items())
        lines.append(("lower ops", f"{sum(found.lower.values()):,} of {ops(found.ops)}: {kinds}"))
    if found.tried:
        lines += _states(found)
    for number, fault in enumerate(found.faults, 1):
        lines += _fault(fault, number, len(found.faults))
    if found.continued:
        lines.append(("continued", f"{many(found.continued, 'state')}, with the rest of the trace"))
    lines += [
        ("", f"state {one.state}, from op {one.first} on: {one.reason}")
        for one in found.later[:MAX_LINES]
    ]
    for check in found.checks:
        lines.append(
            ("check", f"{check.says}: {check.states:,} of {many(found.checked, 'image')}, "
                      f"first state {check.first}")
        )  # fmt: skip
    if found.faults and found.faults[0].image is None:
        lines.append(("next", "with --keep DIR, images like these stay"))
    elif found.faults:
        lines.append(("next", _again(found, found.faults[0])))
    return "\n".join(f"{f'{key}:' if key else '':10} {text}" for key, text in lines)


def _why(found: PowerCut) -> str:
    if found.reason is not None:
        return found.reason
    if found.verdict is not VerdictKind.DAMAGED:
        return "no power cut broke a promise"
    if any(fault.opens is not None for fault in found.faults):
        return "after a power cut, the image does not open"
    if not found.faults:
        return "after a power cut, the rest of the trace goes wrong"
    first = found.faults[0]
    if first.promise is None:
        return "after a power cut, sectors hold what they never may"
    return "a power cut loses what was flushed"


def _states(found: PowerCut) -> list[tuple[str, str]]:
    sampled = "all" if found.complete else "a sample"
    rate = found.judged / found.seconds if found.seconds else 0.0
    text = (
        f"{found.judged:,} judged, {sampled}: {found.tried:,} tried of {found.states:,} at "
        f"{many(found.points, 'point')}, {found.distinct:,} distinct"
    )
    lines = [
        ("states", text),
        ("", f"{found.seconds:.1f} s, {rate:.0f} a second, seed {found.seed}"),
    ]
    if found.interrupted is not None:
        lines.append(("", f"ended by {found.interrupted}"))
    if found.repaired:
        lines.append(("", f"{found.repaired:,} were repaired first, as the format prescribes"))
    if found.damaged:
        lines.append(("damaged", many(found.damaged, "state")))
    if found.broken:
        lines.append(("broken", f"{many(found.broken, 'state')}, by the check alone"))
    return lines


def _fault(fault: Fault, number: int, count: int) -> list[tuple[str, str]]:
    lines = []
    name = "culprit" if count == 1 else f"culprit {number}"
    if fault.promise is not None and fault.wrote is not None:
        if fault.promise.seq == fault.wrote.seq:
            lines.append((name, f"{_op(fault.promise)}, which is durable once it is done"))
        else:
            lines.append((name, f"{_op(fault.promise)}, which made {_op(fault.wrote)} durable"))
    elif fault.check is not None and not fault.damage:
        lines.append((name, f"the check finds {fault.check}, which this format never must have"))
    elif fault.opens is None:
        lines.append((name, "no flush: the sectors hold what they may at no time"))
    if fault.opens is not None:
        lines.append((name if not lines else "", f"the image does not open: {fault.opens}"))
    last = f", after {fault.last.text()}" if fault.last is not None else ""
    lines.append(("state", f"{fault.state}: {many(fault.point, 'lower op')} issued{last}"))
    if fault.torn is not None:
        lines.append(("", f"of that only the first {many(fault.torn, 'byte')} are on the disk"))
    if not fault.missing and fault.torn is None:
        lines.append(("", "nothing is missing: all that was issued is on the disk"))
    if fault.missing:
        least = ", none of which can be put back" if fault.shrunk else ""
        lines.append(("missing", f"{many(len(fault.missing), 'lower op')}{least}"))
        lines += [("", one.text()) for one in fault.missing[:MAX_LINES]]
        if len(fault.missing) > MAX_LINES:
            lines.append(("", f"and {len(fault.missing) - MAX_LINES:,} more"))
    if fault.in_flight:
        seqs = ", ".join(f"#{seq}" for seq in fault.in_flight[:8])
        lines.append(("in flight", seqs + (", ..." if len(fault.in_flight) > 8 else "")))
    if fault.damage:
        lines.append(("damage", many(sum(one.sectors for one in fault.damage), "sector")))
        lines += [("", one.text()) for one in fault.damage[:MAX_LINES]]
        if len(fault.damage) > MAX_LINES:
            lines.append(("", f"and {many(len(fault.damage) - MAX_LINES, 'range')} more"))
    if fault.image is not None:
        lines.append(("image", fault.image))
    return lines


def _again(found: PowerCut, fault: Fault) -> str:
    """Return the command that builds the image of a kept state again."""
    image = Path(fault.image or "")
    words = ["trace", "checkout", str(image.parent / RUN), "--state", str(fault.state)]
    if fault.torn is None:
        words += ["--missing", ",".join(str(one.number) for one in fault.missing) or "none"]
    if found.seed:
        words += ["--seed", str(found.seed)]
    return shlex.join([*words, "-o", f"again{image.suffix}"])


def _op(op: GuestOp) -> str:
    text = f"#{op.seq} {op.kind}"
    if op.kind != "flush":
        touched = sectors(op.offset, op.offset + op.length)
        text += f" at sector {touched.start} ({many(len(touched), 'sector')})"
    return " ".join([text, *op.flags])
