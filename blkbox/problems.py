"""Errors of the command: what stderr and ``--json`` say of an exception."""

import json
import sys
import traceback
from typing import TYPE_CHECKING

from typer.exceptions import Abort, TyperException

from tracer.errors import BlkboxError, DriverError, Exit
from tracer.interrupts import Interrupted

if TYPE_CHECKING:
    from tracer.problem import Problem


def problem_of(error: BaseException) -> "Problem":
    """Return what an exception that ended a verb says, with its exit code.

    Typer would exit with 1 for a bug and 2 for wrong usage. ``git bisect run`` takes both for a bad
    driver, so this maps them to codes of our own.
    """
    match error:
        case TyperException():
            context = getattr(error, "ctx", None)
            verb = context.command_path if context is not None else "trace"
            return _problem(Exit.USAGE, _one_line(error.format_message()), hint=f"{verb} --help")
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
    print(f"trace: {problem.message}{hint}", file=sys.stderr)
    if problem.log:
        print(problem.log, file=sys.stderr)
    if as_json:
        import msgspec

        from tracer.problem import Failure

        print(json.dumps(msgspec.to_builtins(Failure(error=problem)), indent=2))


def _problem(number: int, message: str, hint: str | None = None, log: str = "") -> "Problem":
    from tracer.problem import Problem, code_of

    return Problem(code=code_of(number), exit=number, message=message, hint=hint, log=log)


def _one_line(text: str) -> str:
    return " ".join(text.split())
