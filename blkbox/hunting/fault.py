"""What tells one fault of a hunt from another: a key that two findings of it share."""

from blkbox.judging.signs import DATA, general, words_of
from tracer.driver.complaints import complaint
from tracer.verdict import SymptomKind, Verdict


def key_of(verdict: Verdict) -> str:
    """Return the key of the fault that a verdict shows: what showed, the kinds of damage, the line
    of the check command, and what the driver complained of, without numbers."""
    shown = verdict.symptom
    parts = [verdict.verdict.value, "data" if shown in DATA else str(shown)]
    classes = sorted({cause.kind.value for cause in verdict.causes if cause.kind is not None})
    parts += classes[:1] if shown in DATA else []
    checks = [verdict.reason, *(other.reason for other in verdict.also)]
    parts += [general(one) for one in checks if one.startswith("the check failed")][:1]
    said = complaint(verdict.log)
    if said is not None:
        parts.append(general(said))
    elif shown in (SymptomKind.CRASH, SymptomKind.STOP, SymptomKind.STATUS):
        parts.append(words_of(shown, verdict.reason, ""))
    return " | ".join(parts)
