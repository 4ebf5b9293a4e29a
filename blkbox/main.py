"""The command ``trace``: its table of verbs, and the exit code for each kind of error."""

import importlib
import io
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from blkbox import output
from tracer import interrupts, progress
from tracer.errors import BlkboxError, DriverError, Exit

VERBS = {
    "record": "record",
    "replay": "replay",
    "plot": "plot",
    "show": "show",
    "verify": "verify",
    "history": "history",
    "checkout": "checkout",
    "serve": "serve",
    "import": "import_",  # import is a keyword: no module or function can have that name
    "export": "export",
    "formats": "formats",
    "mark": "mark",
    "cut": "cut",
    "strip": "strip",
    "diff": "diff",
    "report": "report",
    "doctor": "doctor",
}
"""Each verb, in the order of the help, and the name of its module in blkbox/commands. The module's
function has the same name."""

app = typer.Typer(
    name="trace",
    help="A flight recorder for block drivers: record a guest's disk, replay it on another build, "
    "and name the request that corrupted it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"blkbox {version('blkbox')}")
        raise typer.Exit


@app.callback()
def _trace(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options of ``trace`` itself."""


for _verb, _name in VERBS.items():
    app.command(_verb)(getattr(importlib.import_module(f"blkbox.commands.{_name}"), _name))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code."""
    try:
        interrupts.install()
        output.prepare()
        code = run(list(sys.argv[1:] if argv is None else argv))
        interrupts.ignore()
    except interrupts.Interrupted as error:  # it came while the output was written
        code = error.exit_code
        interrupts.ignore()
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run the command; return its exit code.

    What a verb prints is kept until its exit code is known, and printed then: whoever reads it
    cannot change the code (see blkbox/output.py).
    """
    with redirect_stdout(io.StringIO()) as printed, progress.shown():
        code = _run(argv)
    return output.deliver(printed.getvalue(), code)


def _run(argv: list[str]) -> int:
    """Run the command, without printing its output; return its exit code.

    Typer would exit with 1 for a bug and 2 for wrong usage. ``git bisect run`` takes both for a bad
    driver, so this maps them to codes of our own.
    """
    try:
        code = app(argv or ["--help"], prog_name="trace", standalone_mode=False)
    except TyperException as error:
        print(f"trace: {_one_line(error.format_message())} (try: trace --help)", file=sys.stderr)
        return Exit.USAGE
    except BlkboxError as error:
        print(f"trace: {error}", file=sys.stderr)
        if isinstance(error, DriverError) and error.log.strip():
            print(error.log.rstrip(), file=sys.stderr)
        return error.exit_code
    except interrupts.Interrupted as error:
        print(f"trace: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        print("trace: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except SystemExit as error:
        if not error.code:
            return Exit.CLEAN  # typer has shown what completes a command line
        # typer ends so when it sees EPIPE. That was not our stdout, which is written later
        print("trace: a connection or a pipe broke", file=sys.stderr)
        return Exit.STORAGE
    except OSError as error:
        print(
            f"trace: {error.strerror or error}: {error.filename or 'I/O failed'}", file=sys.stderr
        )
        return Exit.STORAGE
    except Exception:  # noqa: BLE001  a bug in blkbox must never look like a bad driver
        traceback.print_exc()
        print(
            "trace: this is a bug in blkbox; please report it with the lines above", file=sys.stderr
        )
        return Exit.BUG
    return code if isinstance(code, int) else Exit.CLEAN


def _one_line(text: str) -> str:
    return " ".join(text.split())
