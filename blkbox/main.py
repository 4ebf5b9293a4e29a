"""The command ``trace``: its table of verbs, and the exit code for each kind of error."""

import importlib
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Annotated

import typer

from blkbox import output, problems
from blkbox.arguments import Verb, wants_json, with_verbosity
from tracer import interrupts, progress
from tracer.errors import Exit

VERBS = {
    "record": "record",
    "replay": "replay",
    "plot": "plot",
    "show": "show",
    "verify": "verify",
    "history": "history",
    "checkout": "checkout",
    "serve": "serve",
    "generate": "generate",
    "hunt": "hunt",
    "minimize": "minimize",
    "powercut": "powercut",
    "inject": "inject",
    "matrix": "matrix",
    "import": "import_",  # import is a keyword: no module or function can have that name
    "export": "export",
    "formats": "formats",
    "mark": "mark",
    "cut": "cut",
    "strip": "strip",
    "pack": "pack",
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
    _function = getattr(importlib.import_module(f"blkbox.commands.{_name}"), _name)
    app.command(_verb, cls=Verb)(with_verbosity(_function))


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
        code = _run(argv, printed)
    return output.deliver(printed.getvalue(), code)


def _run(argv: list[str], printed: io.StringIO) -> int:
    """Run the command, without printing its output; return its exit code."""
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    try:
        code = app(argv or ["--help"], prog_name="trace", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  any exception has its exit code
        if isinstance(error, SystemExit) and not error.code:
            return Exit.CLEAN  # typer has shown what completes a command line
        problem = problems.problem_of(error)
        # stdout gets one JSON object: the result, if there is one
        problems.show(problem, as_json=wants_json(argv) and not printed.getvalue())
        return problem.exit
    return code if isinstance(code, int) else Exit.CLEAN
