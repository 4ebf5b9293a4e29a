"""What a fault looks like, so that two runs can be told to show the same one."""

import re
from dataclasses import dataclass

from tracer.driver.complaints import complaint
from tracer.verdict import SymptomKind, Verdict, VerdictKind

DATA = frozenset({
    SymptomKind.READ, SymptomKind.IMAGE, SymptomKind.FLUSH, SymptomKind.REOPEN,
})  # fmt: skip
"""Symptoms of wrong data: which of them is seen first depends on the ops that follow."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One symptom, without the places and numbers in which two runs of one fault differ."""

    verdict: VerdictKind
    what: SymptomKind
    classes: frozenset[str] = frozenset()
    """The kinds of damage, if it is wrong data."""
    words: str = ""
    """What was said of it, if it is anything else."""

    def shows(self, other: "Sign") -> bool:
        """Whether ``other``, of another run, is the same fault: the same verdict and symptom, and a
        kind of damage in common or the same words."""
        if self.what in DATA and other.what in DATA:
            return not self.classes or bool(self.classes & other.classes)
        return (self.verdict, self.what, self.words) == (other.verdict, other.what, other.words)

    def __str__(self) -> str:
        what = "wrong data" if self.what in DATA else self.what.value.replace("_", " ")
        more = ", ".join(sorted(self.classes)) or self.words
        return f"{self.verdict.value}: {what}" + (f" ({more})" if more else "")


def sign_of(verdict: Verdict) -> Sign:
    """Return the sign of a verdict that is not clean. Right after the culprit the kind of damage is
    surest."""
    assert verdict.symptom is not None
    causes = verdict.culprit_causes or verdict.causes
    classes = frozenset(cause.kind.value for cause in causes if cause.kind is not None)
    return sign(verdict.verdict, verdict.symptom, classes, verdict.reason, verdict.log)


def sign(
    verdict: VerdictKind, what: SymptomKind, classes: frozenset[str], reason: str, log: str
) -> Sign:
    """Return a sign from what is known of a symptom."""
    if what in DATA:
        return Sign(verdict, what, classes)
    if what is SymptomKind.BLOCK_STATUS:
        return Sign(verdict, what)
    return Sign(verdict, what, words=words_of(what, reason, log))


def words_of(what: SymptomKind, reason: str, log: str) -> str:
    """Return what was said of a symptom that is not wrong data: the line of the check command, what
    the driver complained of, or the reason, without numbers."""
    if what is SymptomKind.CHECK:
        return general(reason)
    said = complaint(log)
    if said is not None and what in (SymptomKind.CRASH, SymptomKind.STOP):
        return general(said)
    if what is SymptomKind.STATUS:
        return general(re.sub(r"^#\d+ (\w+).*?( failed| succeeded)", r"\1\2", reason))
    return general(re.sub(r"^#\d+ (\w+) .*?(?= was )", r"\1", re.sub(r",? #.*", "", reason)))


def general(line: str) -> str:
    """Return a line without what differs between two findings: numbers, addresses, paths."""
    line = re.sub(r"0x[0-9a-fA-F]+", "N", line)
    line = re.sub(r"(?:/[\w.@+-]+){2,}", "PATH", line)
    line = re.sub(r"==\d+==", "", line)
    return re.sub(r"(?<![A-Za-z_])\d+", "N", line).strip()
