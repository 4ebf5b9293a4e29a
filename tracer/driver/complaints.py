"""What a driver prints that says it is broken: reports of sanitizers, assertions, stack traces."""

import re

SANITIZERS = (
    r"ERROR: (Address|Leak|Memory|Thread)Sanitizer: [\w-]+",
    r"WARNING: (Memory|Thread)Sanitizer: [\w -]+",
    r"runtime error: .*",  # the undefined behaviour sanitizer, which goes on afterwards
)
"""Reports of sanitizers: these are faults whatever else happens."""

PATTERNS = (
    *SANITIZERS,
    r"Assertion .*failed.*",
    r"\bBUG(:| at) .*",
    r"thread '.*' panicked at .*",
    r"^panic: .*",
    r"^fatal error: .*",
    r"malloc\(\): .*|free\(\): .*|corrupted size vs\. prev_size.*|double free or corruption.*",
    r"\*\*\* stack smashing detected \*\*\*",
    r"^Traceback \(most recent call last\):",
    r"Segmentation fault",
    r"\bfailed: .*",
)
"""How such lines begin, from the most to the least telling."""

_ANY = re.compile("|".join(f"(?:{pattern})" for pattern in PATTERNS), re.MULTILINE)


_SANITIZER = re.compile("|".join(f"(?:{pattern})" for pattern in SANITIZERS), re.MULTILINE)


def sanitizer_report(log: str) -> str | None:
    """Return the first line of a sanitizer's report in a driver's output; None if there is none."""
    found = _SANITIZER.search(log)
    return None if found is None else _line(log, found)


def complaint(log: str) -> str | None:
    """Return the first line of a driver's output that says it is broken; None if none does. Of a
    Python traceback it is the last line, which has the exception."""
    found = _ANY.search(log)
    if found is None:
        return None
    line = _line(log, found)
    if line.startswith("Traceback"):
        rest = [one for one in log[found.end() :].splitlines() if one.strip()]
        last = next((one for one in rest if not one.startswith((" ", "\t"))), line)
        return last.strip()
    return line


def _line(log: str, found: re.Match[str]) -> str:
    """Return the line in which something was found."""
    start = log.rfind("\n", 0, found.start()) + 1
    end = log.find("\n", found.end())
    return log[start : end if end >= 0 else len(log)].strip()
