"""Traces and builds by path or URL. A URL (fsspec) is fetched once by each process that needs it.

Whoever runs cells keeps the last few traces and all builds that it fetched, in a private folder
that goes with the process.
"""

import atexit
import shutil
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

from tracer.disk.private import PrivateFolder, Use
from tracer.driver.spec import FORMATS
from tracer.errors import StorageError, TraceError, UsageError
from tracer.nbd.uri import is_uri
from tracer.trace.file import Trace
from tracer.trace.packed import PackedReader, block_path, is_packed
from tracer.trace.payloads import SUFFIX as PAYLOADS
from tracer.trace.payloads import payload_path

TRACES_KEPT = 4
"""Fetched traces that stay: cells come trace by trace."""


def is_url(text: str) -> bool:
    """Whether ``text`` is a URL of a file or a folder. An NBD URI is none."""
    return "://" in text and not is_uri(text)


def driver_url(text: str) -> tuple[str, str] | None:
    """Return the format and the URL in ``FORMAT@URL``, or an empty format and the URL of a .toml
    file; None if a driver is neither."""
    name, at, rest = text.partition("@")
    if at and name in FORMATS and is_url(rest):
        return name, rest
    return ("", text) if is_url(text) else None


def open_url(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path there. Raises UsageError."""
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{url}: to use URLs, install blkbox[cluster]") from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError, OSError) as error:
        raise UsageError(f"{url}: {error}") from error
    return system, path


@cache
def _folder() -> Path:
    folder = PrivateFolder(Use.FETCHED)
    atexit.register(folder.close)
    return folder.path


_traces: OrderedDict[str, Path] = OrderedDict()


def local_trace(where: str, digest: str = "") -> Path:
    """Return the path of a trace, which is fetched if it is a URL. ``digest`` tells versions of it
    apart; without one, its payloads stay where they are. Raises TraceError, StorageError,
    UsageError."""
    if not is_url(where):
        return Path(where)
    name = f"{where} {digest}"
    if name in _traces:
        _traces.move_to_end(name)
        return _traces[name]
    while len(_traces) >= TRACES_KEPT:
        shutil.rmtree(_traces.popitem(last=False)[1].parent, ignore_errors=True)
    place = _new_place()
    trace = place / (Path(where).name or "trace")
    try:
        _get(where, trace)
        with Trace(trace) as opened:
            real = opened.header.payloads == "full"
        if real and digest:
            _get_payloads(where, trace)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    _traces[name] = trace
    return trace


@cache
def local_driver(text: str) -> str:
    """Return ``--driver TEXT`` with a path in place of a URL, whose folder is fetched. Raises
    TraceError, StorageError, UsageError."""
    found = driver_url(text)
    if found is None:
        return text
    name, url = found
    place = _new_place()
    system, path = open_url(url)
    folder = path.rstrip("/") if name else path.rpartition("/")[0]
    try:
        files = system.find(folder, detail=False)
        for file in files:
            target = place / str(file)[len(folder) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(file, str(target))
            target.chmod(0o700)  # object stores know no modes, and a build is to be run
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot fetch {url}: {error}") from error
    return f"{name}@{place}" if name else str(place / path.rpartition("/")[2])


def _new_place() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(dir=_folder()))


def _get_payloads(url: str, trace: Path) -> None:
    """Fetch the payloads of a trace, with the blocks that it shares if they are packed."""
    store = payload_path(trace)
    _get(f"{url.removesuffix(trace.suffix)}{PAYLOADS}", store)
    if is_packed(store):
        for name in PackedReader(store, None).names:
            block = block_path(place := trace.parent, name)
            block.parent.mkdir(parents=True, exist_ok=True)
            _get(f"{url.rpartition('/')[0]}/{block.relative_to(place)}", block)


def _get(url: str, target: Path) -> None:
    system, path = open_url(url)
    try:
        system.get_file(path, str(target))
    except FileNotFoundError as error:
        raise TraceError(f"cannot open {url}: no such file") from error
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot fetch {url}: {error}") from error
