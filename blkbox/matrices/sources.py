"""Which traces a matrix has: files, folders, globs, manifests, URLs and seeds become a list."""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from blkbox.matrices.model import MatrixOptions, TraceRow
from blkbox.matrices.places import is_url, open_url
from tracer.errors import UsageError
from tracer.files import read_toml
from tracer.trace.file import SUFFIX

MAX_SEEDS = 1_000_000
"""The most traces that are generated."""


def parse_seeds(text: str) -> range:
    """Return the seeds in ``1-200`` or ``7``. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", text.strip())
    if match is None:
        raise UsageError(f"--generate {text[:40]!r}: give a seed or a range of seeds, like 1-200")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last - first >= MAX_SEEDS:
        raise UsageError(f"--generate {text}: give from 1 to {MAX_SEEDS:,} seeds, the lowest first")
    return range(first, last + 1)


def rows_of(options: MatrixOptions) -> list[TraceRow]:
    """Return the traces of a matrix, each once, with distinct names. Raises UsageError."""
    named = list(dict.fromkeys(_named(options.traces)))
    rows = [TraceRow(name=name, where=where) for name, where in zip(
        _distinct(named), (where for _, where in named), strict=True)]  # fmt: skip
    rows += [TraceRow(name=f"seed {seed}", where=None, seed=seed) for seed in options.seeds or ()]
    if not rows:
        raise UsageError("there is no trace: name some, or give --generate")
    return rows


def _named(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name, if it has one, and the absolute path or URL of each trace."""
    for text in texts:
        if is_url(text):
            yield from (("", url) for url in _urls(text))
        elif text.endswith(".toml"):
            yield from _manifest(Path(text))
        else:
            yield from (("", str(path.absolute())) for path in _paths(text))


def _paths(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        found = sorted(path.rglob(f"*{SUFFIX}"))
        if not found:
            raise UsageError(f"there is no *{SUFFIX} in {path}")
        return found
    if path.exists() or not glob.has_magic(text):
        if not path.exists():
            raise UsageError(f"there is no trace {text}")
        return [path]
    found = [Path(one) for one in sorted(glob.glob(text, recursive=True))]
    if not found:
        raise UsageError(f"nothing matches {text}")
    return found


def _urls(url: str) -> list[str]:
    system, path = open_url(url)
    try:
        if glob.has_magic(path):
            found = sorted(system.glob(path))
        elif system.isdir(path):
            found = sorted(one for one in system.find(path) if str(one).endswith(SUFFIX))
        else:
            return [url]
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot list {url}: {error}") from error
    if not found:
        raise UsageError(f"there is no trace in {url}")
    return [str(system.unstrip_protocol(one)) for one in found]


def _manifest(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what a manifest lists: ``traces``, a list of what the command line takes too, or a
    table of names. Paths are relative to the manifest. Raises UsageError."""
    raw = read_toml(path)
    traces: Any = raw.pop("traces", None)
    if raw:
        raise UsageError(f"{path}: unknown key {next(iter(raw))!r}; known is traces")
    entries: list[tuple[str, Any]] = []
    if isinstance(traces, dict):
        entries = list(traces.items())
    elif isinstance(traces, list):
        entries = [("", text) for text in traces]
    if not entries or not all(isinstance(text, str) for _, text in entries):
        raise UsageError(f"{path}: 'traces' must be a list of paths, or a table of names and paths")
    for name, text in entries:
        there = text if is_url(text) else str(path.absolute().parent / text)
        found = list(_named([there]))
        if name and len(found) != 1:
            raise UsageError(f"{path}: {name!r} must be one trace, and {text} is {len(found)}")
        yield from ((name, where) for _, where in found)


def _distinct(named: list[tuple[str, str]]) -> list[str]:
    """Return a name for each trace: the one that it has, or the end of its path that no other
    has."""
    names = [name or _end(where, 1) for name, where in named]
    parts = 1
    while parts < 20 and len(set(names)) < len(names):
        parts += 1
        twice = {name for name, times in Counter(names).items() if times > 1}
        names = [
            _end(where, parts) if name in twice else name
            for name, (_, where) in zip(names, named, strict=True)
        ]
    if len(set(names)) < len(names):
        raise UsageError(f"two traces have the name {Counter(names).most_common(1)[0][0]}")
    return names


def _end(where: str, parts: int) -> str:
    return "/".join(where.removesuffix(SUFFIX).split("/")[-parts:])
