"""Where a long command's result goes: text on stdout, or JSON there; and a JSON file and a report
beside the text, so that nothing has to be run again."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blkbox.arguments import STDOUT
from tracer.errors import BlkboxError, StorageError, UsageError
from tracer.files import PAGES, check_new, replaced, write_whole

if TYPE_CHECKING:
    from tracer.verdict import Recording, Verdict


@dataclass(frozen=True, slots=True)
class Results:
    """Where a result goes."""

    on_stdout: bool
    """Whether stdout gets JSON in place of text."""
    json: Path | None = None
    report: Path | None = None


def results(
    as_json: str | None, report: Path | None, *, force: bool, others: Iterable[Path] = ()
) -> Results:
    """Return where a result goes. ``as_json`` is the value of ``--json``.

    Called before the work starts, so that a name that cannot be used is refused at once. ``others``
    are files that the command reads or writes. Raises UsageError.
    """
    file = None if as_json in (None, STDOUT) else Path(str(as_json))
    if file is not None:
        check_new(file, force)
    if report is not None:
        check_new(report, force, PAGES)
    new = [path for path in (file, report) if path is not None]
    taken = list(others)
    names = [path.absolute() for path in (*new, *taken)]
    for path in new:
        if names.count(path.absolute()) > 1 or replaced([path], taken):
            raise UsageError(f"{path} would be written over: give each file a name of its own")
    return Results(as_json == STDOUT, file, report)


def deliver(
    result: "Verdict | Recording",
    places: Results,
    in_words: Callable[[], str],
    write_report: Callable[[Path], object],
) -> None:
    """Print the result and write its files.

    Raises StorageError or what ``write_report`` raises if a file cannot be written, but only after
    all else was delivered: the result took long to find.
    """
    from tracer.verdict import to_json

    page = json.dumps(to_json(result), indent=2)
    print(page if places.on_stdout else in_words())
    lines: list[str] = []
    failure: BlkboxError | None = None
    if places.json is not None:
        try:
            write_whole(places.json, f"{page}\n".encode())
            lines.append(f"json:     {places.json}")
        except StorageError as error:
            failure = error
    if places.report is not None:
        try:
            write_report(places.report)
            lines.append(f"report:   {places.report}")
        except BlkboxError as error:
            failure = failure or error
    if lines and not places.on_stdout:
        print("\n".join(lines))
    if failure is not None:
        raise failure
