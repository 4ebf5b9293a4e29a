"""How a verb's words are read, where typer alone cannot: ``--json`` with or without a file, the
guest's command after ``--``, and the options that every verb has."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tracer import progress
from tracer.errors import UsageError

STDOUT = "-"
"""The value of ``--json`` that means stdout."""

JSON_FILE = ("record", "replay")
"""The verbs whose ``--json`` may have a file: what they find takes long, and cannot be had twice
for certain."""


class Verb(TyperCommand):
    """A verb of ``trace``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the verb's words. Raises UsageError."""
        guest = any(param.name == "command" for param in self.params)
        words = with_json_value(args) if self.name in JSON_FILE else list(args)
        try:
            rest = super().parse_args(ctx, words)
        except typer.exceptions.TyperException as error:
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]  # so that the hint names the verb
            if guest and type(error).__name__ == "NoSuchOption" and "--" not in args:
                raise UsageError(f"{error.format_message()}; {_FORGOTTEN}") from error
            raise
        if guest and not ctx.resilient_parsing:  # a line that a shell completes is not whole
            trace = next(param.name for param in self.params if param.param_type_name == "argument")
            check_guest(args, ctx.params[trace], ctx.params["command"] or [])
        return rest


_FORGOTTEN = "if it belongs to the guest's command, write -- before that command"


def with_json_value(args: list[str]) -> list[str]:
    """Return the words with a value for each ``--json``.

    ``--json`` alone means stdout. The next word is its file if it ends in ``.json``: no trace does,
    and any other name can be given as ``--json=FILE``.
    """
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*words, word, *rest]
        if word == "--json":
            named = rest and rest[0].lower().endswith(".json")
            word = f"--json={rest.pop(0) if named else STDOUT}"
        words.append(word)
    return words


def wants_json(args: list[str]) -> bool:
    """Return whether the words of a command ask for JSON on stdout."""
    own = args[: args.index("--")] if "--" in args else args
    if next((word for word in own if not word.startswith("-")), None) in JSON_FILE:
        return f"--json={STDOUT}" in with_json_value(own)
    return "--json" in own


def check_guest(args: list[str], trace: object, command: list[str]) -> None:
    """Check that the words before ``--`` are ours, the trace among them, and those after it the
    guest's. Raises UsageError.

    Without ``--``, an option behind the guest's program would be taken for one of ours.
    """
    if "--" in args and args[args.index("--") + 1 :] == [str(trace), *command]:
        raise UsageError("the trace is missing: name it before --")
    if command and "{nbd}" in command[0]:
        raise UsageError("{nbd} stands where the guest's program should: is the trace missing?")
    if command and "--" not in args:
        behind = args[args.index(command[0], args.index(str(trace)) + 1) + 1 :]
        option = next((word for word in behind if word.startswith("-")), None)
        if option is not None:
            raise UsageError(f"{option} comes after the guest's program: {_FORGOTTEN}")


def with_verbosity(verb: Callable[..., int]) -> Callable[..., int]:
    """Return a verb that also takes ``-v`` and ``-q``."""
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("verbose", _Verbose), ("quiet", _Quiet))
    ]

    @functools.wraps(verb)
    def run(*, verbose: bool, quiet: bool, **rest: Any) -> int:
        if verbose and quiet:
            raise UsageError("-v and -q contradict each other: give one of them")
        with progress.talking(progress.Talk.ALL if verbose else progress.Talk.ERRORS
                              if quiet else progress.Talk.STEPS):  # fmt: skip
            return verb(**rest)

    signature = inspect.signature(verb, eval_str=True)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *options]
    )
    return run


_Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also show what is run, and how long it takes.")
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only the result and errors.")]
