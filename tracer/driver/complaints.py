"""What a driver prints that says it is broken: reports of sanitizers, assertions, stack traces."""

import re

PATTERNS = (
    r"ERROR: (Address|Leak|Memory|Thread)Sanitizer: [\w-]+",
    r"WARNING: (Memory|Thread)Sanitizer: [\w -]+",
    r"runtime error: .*",  # the undefined behaviour sanitizer, which goes on afterwards
    r"Assertion .*failed.*",
    r"\bBUG(:| at) .*",
    r"thread '.*' panicked at .*",
    r"^panic: .*",
    r"^fatal error: .*",
    r"malloc\(\): .*|free\(\): .*|corrupted size vs\. prev_size.*|double free or corruption.*",
    r"\*\*\* stack smashing detected \*\*\*",
    r"^Traceback \(most recent call last\):",
    r"Segmentation fault",
)
"""How such lines begin, from the most to the least telling."""

_ANY = re.compile("|".join(f"(?:{pattern})" for pattern in PATTERNS), re.MULTILINE)


def complaint(log: str) -> str | None:
    """Return the first line of a driver's output that says it is broken; None if none does. Of a
    Python traceback it is the last line, which has the exception."""
    found = _ANY.search(log)
    if found is None:
        return None
    start = log.rfind("\n", 0, found.start()) + 1
    end = log.find("\n", found.end())
    line = log[start : end if end >= 0 else len(log)].strip()
    if line.startswith("Traceback"):
        rest = [one for one in log[found.end() :].splitlines() if one.strip()]
        last = next((one for one in rest if not one.startswith((" ", "\t"))), line)
        return last.strip()
    return line
