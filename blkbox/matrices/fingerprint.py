"""What tells a build from others: hashes of its programs and of the libraries that they load.

A build is what its commands say and the files that these name: programs, scripts, plugins. Paths do
not count, content does. ``ldd`` lists the libraries of a program; what it opens later by itself
(dlopen(3)) is not seen, except the plugins and filters of nbdkit.
"""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

from blake3 import blake3

from blkbox.matrices.model import BuildRow
from blkbox.matrices.places import local_driver
from tracer.driver.driver import Driver
from tracer.driver.spec import parse_driver
from tracer.errors import DriverError, StorageError

LDD_TIMEOUT = 20.0
"""Seconds that ldd may take. It takes 0.01."""

PIECE = 1 << 20
"""Bytes that are hashed at a time."""

ELF = b"\x7fELF"


def fingerprint(text: str) -> BuildRow:
    """Return the build that ``--driver TEXT`` names, with its fingerprint. Raises UsageError if
    nothing has that name, StorageError if it cannot be fetched."""
    try:
        driver = parse_driver(local_driver(text))
        if driver.address is not None:
            return BuildRow(name=text, alone=True)
        commands = [_normal(command) for command in _commands(driver)]
        files = sorted({path for command in _commands(driver) for path in _loaded(command)})
        content = {
            "commands": commands,
            "files": sorted((path.name, _hash(path)) for path in files),
            "env": sorted(driver.env.items()),
            "rest": [driver.suffix, driver.export, str(driver.fixed_image), version("blkbox")],
        }  # fmt: skip
    except DriverError as error:
        return BuildRow(name=text, problem=str(error))
    except OSError as error:
        raise StorageError(f"cannot read {error.filename}: {error.strerror}") from error
    key = blake3(json.dumps(content).encode()).hexdigest(16)
    alone = not driver.owns_image
    return BuildRow(name=text, fingerprint=key, files=len(files), alone=alone)


def _commands(driver: Driver) -> list[tuple[str, ...]]:
    every = (driver.create, driver.convert, driver.overlay, driver.serve, driver.check)
    return [command for command in every if command]


def _normal(command: tuple[str, ...]) -> list[str]:
    """Return a command with hashes of files in place of their paths."""
    words = []
    for word in command:
        path = _file(word)
        words.append(word if path is None else _hash(path))
    return words


def _file(word: str) -> Path | None:
    """Return the file that a word of a command names: a program by its name, a file by its path,
    also after ``key=``."""
    for name in (word, word.partition("=")[2]):
        if "/" in name and Path(name).is_file():
            return Path(name).resolve()
    found = shutil.which(word) if word and "{" not in word and " " not in word else None
    return Path(found).resolve() if found else None


def _split(word: str) -> list[str]:
    """Return the words in a word: a script for ``sh -c`` names programs too."""
    try:
        return shlex.split(word)
    except ValueError:  # a quote that does not end
        return word.split()


def _loaded(command: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files that a command names, and what these load."""
    words = [part for word in command for part in {word, *_split(word)}]
    named = [path for path in map(_file, words) if path is not None]
    first = _file(command[0])
    if first is not None and first.name == "nbdkit":
        named += _plugins(str(first), command)
    for path in named:
        yield path
        yield from _libraries(str(path), *_stamp(path))


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4096)
def _libraries(path: str, *_stamp: int) -> tuple[Path, ...]:
    """Return what a program needs to run: its shared libraries, or its interpreter and the shared
    libraries of that."""
    with open(path, "rb") as file:
        head = file.read(256)
    if head.startswith(b"#!"):
        words = head[2:].partition(b"\n")[0].decode(errors="replace").split()
        found = [path for path in map(_file, words) if path is not None]
        return (*found, *(one for path in found for one in _libraries(str(path), *_stamp)))
    if not head.startswith(ELF):
        return ()
    try:
        done = subprocess.run(
            ["ldd", path], capture_output=True, text=True, timeout=LDD_TIMEOUT, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ()
    words = done.stdout.split()
    return tuple(Path(word) for word in words if word.startswith("/") and Path(word).is_file())


def _plugins(nbdkit: str, command: tuple[str, ...]) -> list[Path]:
    """Return the plugins and filters that a command of nbdkit loads, as far as they are nbdkit's
    own."""
    config = _nbdkit_config(nbdkit)
    found = []
    for word in command[1:]:
        for name in word.removeprefix("--filter=").split():
            for kind in ("plugin", "filter"):
                path = Path(config.get(f"{kind}dir", ""), f"nbdkit-{name}-{kind}.so")
                if "/" not in name and path.is_file():
                    found.append(path.resolve())
    return found


@cache
def _nbdkit_config(nbdkit: str) -> dict[str, str]:
    try:
        done = subprocess.run(
            [nbdkit, "--dump-config"], capture_output=True, text=True, timeout=LDD_TIMEOUT,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {key: value for key, _, value in pairs}


def _hash(path: Path) -> str:
    return _hash_of(str(path), *_stamp(path))


@lru_cache(maxsize=4096)
def _hash_of(path: str, *_stamp: int) -> str:
    """Return the hash of a file's content. A file that changes is read again."""
    state = blake3()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            state.update(piece)
    return state.hexdigest(16)
