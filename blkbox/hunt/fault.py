"""What tells one fault from another: a key that two findings of the same fault share."""

import re

from tracer.driver.complaints import complaint
from tracer.verdict import SymptomKind, Verdict

_DATA = {
    SymptomKind.READ, SymptomKind.IMAGE, SymptomKind.FLUSH, SymptomKind.REOPEN,
}  # fmt: skip
"""Symptoms of wrong data: which of them is seen first depends on the ops that follow."""


def key_of(verdict: Verdict) -> str:
    """Return the key of the fault that a verdict shows: what showed, the kinds of damage, the line
    of the check command, and what the driver complained of, without numbers."""
    shown = verdict.symptom
    parts = [verdict.verdict.value, "data" if shown in _DATA else str(shown)]
    classes = sorted({cause.kind.value for cause in verdict.causes if cause.kind is not None})
    parts += classes[:1] if shown in _DATA else []
    checks = [verdict.reason, *(other.reason for other in verdict.also)]
    parts += [general(one) for one in checks if one.startswith("the check failed")][:1]
    words = complaint(verdict.log)
    if words is not None:
        parts.append(general(words))
    elif shown in (SymptomKind.CRASH, SymptomKind.STOP):
        parts.append(general(re.sub(r",? #.*", "", verdict.reason)))
    elif shown is SymptomKind.STATUS:
        parts.append(
            general(re.sub(r"^#\d+ (\w+).*?( failed| succeeded)", r"\1\2", verdict.reason))
        )
    return " | ".join(parts)


def general(line: str) -> str:
    """Return a line without what differs between two findings: numbers, addresses, paths."""
    line = re.sub(r"0x[0-9a-fA-F]+", "N", line)
    line = re.sub(r"(?:/[\w.@+-]+){2,}", "PATH", line)
    line = re.sub(r"==\d+==", "", line)
    return re.sub(r"(?<![A-Za-z_])\d+", "N", line).strip()
