"""The manual, trace(1) and a page per verb, made from the same source as ``--help``.

``python -m blkbox.manual docs/man`` writes the manual pages; the documentation's site has the same
as Markdown (docs/site/hooks.py). click-man cannot: Typer brings its own copy of
Click, and click-man leaves out the options of what is not its own Click's.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from blkbox.main import VERBS, app
from tracer.driver.tools import TOOLS, variable
from tracer.errors import Exit
from tracer.recording.control import VARIABLE

STATUS = {
    Exit.CLEAN: "Nothing is wrong.",
    Exit.BAD_DRIVER: "The driver is bad; for diff, the two differ.",
    Exit.UNDECIDABLE: "The driver cannot be judged: it does not build, start or serve, or this "
    "trace cannot be used on it.",
    Exit.INTERRUPTED: "Interrupted: 128 + the number of the signal (129 SIGHUP, 143 SIGTERM).",
    Exit.USAGE: "The command line asks for something impossible. Nothing was touched.",
    Exit.BAD_TRACE: "A trace or its payloads cannot be read.",
    Exit.STORAGE: "The host's disk failed or is full.",
    Exit.BUG: "A bug in blkbox.",
}
"""The exit codes, for people."""

PROG = "trace"


Terms = list[tuple[str, str]]
"""Terms, and what each means."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of the manual says, whatever it is written in."""

    name: str
    """The page's name, like trace-replay."""
    path: str
    """The command, like "trace replay"."""
    usage: str
    summary: str
    prose: list[str]
    sections: list[tuple[str, Terms]]
    examples: list[str]
    see: tuple[str, ...]
    """The names of other pages."""


def manual() -> list[Page]:
    """Return every page, that of ``trace`` itself first."""
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    names = {verb: f"{PROG}-{verb}" for verb in VERBS}
    made = [_overview(command, names)]
    for verb, name in names.items():
        # the options of trace itself (--version, completion) are on its own page alone
        inner = command.commands[verb]
        assert isinstance(inner, TyperCommand)
        made.append(_page(name, f"{PROG} {verb}", inner, see=(PROG,)))
    return made


def _overview(command: TyperGroup, names: dict[str, str]) -> Page:
    """Return the page of ``trace`` itself."""
    verbs = command.commands
    listed = [(f"{name}(1)", verbs[verb].get_short_help_str(200)) for verb, name in names.items()]
    variables = [
        (variable(name), f"The path of {name} ({purpose}).") for name, purpose in TOOLS.items()
    ]
    variables.append((VARIABLE, "In a guest's command: where trace mark reaches its recording."))
    variables.append(("TMPDIR", "The folder of a replay's images."))
    extra = (("COMMANDS", listed), ("ENVIRONMENT", variables))
    return _page(PROG, PROG, command, extra=extra, see=tuple(names.values()))


def _page(
    name: str,
    path: str,
    command: TyperCommand | TyperGroup,
    *,
    see: tuple[str, ...],
    extra: tuple[tuple[str, Terms], ...] = (),
) -> Page:
    """Return the page of a command. ``extra`` are more sections, each with its terms."""
    context = typer.Context(command, info_name=path)
    first, *rest = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    arguments: Terms = []
    options: Terms = []
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is not None:
            (options if param.param_type_name == "option" else arguments).append(record)
    status = [(str(int(code)), text) for code, text in STATUS.items()]
    sections = [("ARGUMENTS", arguments), ("OPTIONS", options), *extra, ("EXIT STATUS", status)]
    return Page(
        name=name,
        path=path,
        usage=re.sub("[{}]", "", " ".join(command.collect_usage_pieces(context))),
        summary=first,
        prose=[part for part in rest if not part.startswith("Example: ")],
        sections=[(title, terms) for title, terms in sections if terms],
        examples=[part.removeprefix("Example: ") for part in rest if part.startswith("Example: ")],
        see=see,
    )


def pages() -> dict[str, str]:
    """Return every manual page in roff, by its file's name."""
    return {f"{page.name}.1": _roff(page) for page in manual()}


def _roff(page: Page) -> str:
    """Return a page for man(1)."""
    summary = page.summary[0].lower() + page.summary[1:].rstrip(".")
    lines = [
        f'.TH {page.name.upper()} 1 "" "blkbox {version("blkbox")}" "blkbox"',
        ".SH NAME",
        f"{_text(page.name)} \\- {_text(summary)}",
        ".SH SYNOPSIS",
        f".B {_text(page.path)}",
        _text(page.usage),
        ".SH DESCRIPTION",
        _text(page.summary),
        *(line for part in page.prose for line in (".PP", _text(part))),
        *(line for title, terms in page.sections for line in _terms(title, terms)),
        *_examples(page.examples),
        ".SH SEE ALSO",
        *_see(page.see),
    ]
    return "\n".join(lines) + "\n"


def _terms(title: str, terms: Terms) -> Iterator[str]:
    """Yield a section with terms and what each means."""
    yield f".SH {title}"
    for term, meaning in terms:
        yield from (".TP", f".B {_text(term)}", _text(meaning))


def _examples(examples: list[str]) -> Iterator[str]:
    """Yield a section with commands, as they are typed."""
    if examples:
        yield ".SH EXAMPLES"
    for example in examples:
        yield from (".PP", ".nf", ".RS", _text(example), ".RE", ".fi")


def _see(others: tuple[str, ...]) -> Iterator[str]:
    """Yield a list of other pages."""
    for other in others[:-1]:
        yield f".BR {_text(other)} (1),"
    yield f".BR {_text(others[-1])} (1)"


def _text(text: str) -> str:
    """Return text for roff: a backslash and a hyphen mean themselves, and so does a dot or a quote
    at the start of a line."""
    text = re.sub(r"\s+", " ", text).replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


if __name__ == "__main__":
    for file, content in pages().items():
        (Path(sys.argv[1]) / file).write_text(content)
