"""Errors of the command: what stderr and ``--json`` say of an exception."""

import json
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from typer.exceptions import Abort, TyperException

from tracer import progress
from tracer.errors import BlkboxError, DriverError, Exit
from tracer.interrupts import Interrupted
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.problem import Problem


def problem_of(error: BaseException) -> "Problem":
    """Return what an exception that ended a verb says, with its exit code.

    Typer would exit with 1 for a bug and 2 for wrong usage. ``git bisect run`` takes both for a bad
    driver, so this maps them to codes of our own.
    """
    match error:
        case TyperException():
            return _usage(error)
        case BlkboxError():
            log = error.log.rstrip() if isinstance(error, DriverError) else ""
            return _problem(error.exit_code, str(error), log=log)
        case Interrupted():
            return _problem(error.exit_code, str(error))
        case KeyboardInterrupt() | Abort():
            return _problem(Exit.INTERRUPTED, "interrupted")
        case SystemExit():
            # typer ends so when it sees EPIPE. That was not our stdout, which is written later
            return _problem(Exit.STORAGE, "a connection or a pipe broke")
        case OSError():
            name = error.filename or "I/O failed"
            return _problem(Exit.STORAGE, f"{error.strerror or error}: {name}")
    # a bug in blkbox must never look like a bad driver
    lines = "".join(traceback.format_exception(error)).rstrip()
    message = "this is a bug in blkbox; please report it with the lines below"
    return _problem(Exit.BUG, message, log=lines)


def show(problem: "Problem", *, as_json: bool) -> None:
    """Say on stderr what went wrong, and with ``as_json`` on stdout too."""
    hint = f" (try: {problem.hint})" if problem.hint else ""
    progress.tell(printable(f"trace: {problem.message}{hint}"))
    if problem.log:
        progress.tell(problem.log)
    if as_json:
        import msgspec

        from tracer.problem import Failure

        print(json.dumps(msgspec.to_builtins(Failure(error=problem)), indent=2))


def _problem(number: int, message: str, hint: str | None = None, log: str = "") -> "Problem":
    from tracer.problem import Problem, code_of

    return Problem(code=code_of(number), exit=number, message=message, hint=hint, log=log)


def _usage(error: TyperException) -> "Problem":
    """Return what is wrong with the words of a command, in our words where typer's are odd."""
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    for odd, plain in _PLAIN.items():
        message = re.sub(odd, plain, message)
    hint = f"{context.command_path if context is not None else 'trace'} --help"
    if context is not None and context.parent is None:
        if message.startswith("No such option"):
            message += "; a verb's options come after the verb"
        named = re.match("No such command '(.*)'", message)
        if named is not None and Path(named[1]).is_file():
            hint = f"trace show {named[1]}"
    return _problem(Exit.USAGE, message, hint=hint)


_PLAIN = {
    "Value error, ": "",
    "Input should be a valid integer.*": "it should be an integer",
    "Input should be a valid number.*": "it should be a number",
    "Input should be": "it should be",
    r"Got unexpected extra argument\(s\) \((.*)\)": r"there is an argument too many: \1",
}
"""Words of typer and its parts, as patterns, and plain ones."""
