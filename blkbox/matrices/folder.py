"""What a matrix leaves on the disk.

    matrix.json     the whole matrix
    cells/KEY.json  the verdict of a cell that has one on its driver: it is not run again
    reports/        a page for each bad cell

A cell's file appears whole, after its report. So a matrix may be killed at any moment, and goes on.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from blkbox.matrices.cell import Ran
from blkbox.matrices.model import SCHEMA, Matrix
from tracer.errors import StorageError, UsageError
from tracer.files import write_whole
from tracer.verdict import Verdict, from_json
from tracer.verdict_file import is_json, read_object

STATE = "matrix.json"
CELLS = "cells"
REPORTS = "reports"
LOCK = ".lock"
PAGE, PICTURE, JUNIT = "matrix.html", "matrix.png", "junit.xml"

OURS = frozenset({STATE, CELLS, REPORTS, LOCK, PAGE, PICTURE, JUNIT})
"""All that a matrix makes in its folder."""

TEMPORARY = ".blkbox-"
"""How the names of folders begin in which a file is made that appears whole (tracer/files.py)."""


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Make the folder, or go on in one that has a matrix. No other matrix uses it meanwhile.

    Raises UsageError if something else is in it or another matrix runs there, and StorageError.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give a new one")
    try:
        names = {entry.name for entry in os.scandir(folder)} if folder.exists() else set()
        foreign = {name for name in names - OURS if not name.startswith(TEMPORARY)}
        if foreign:
            raise UsageError(
                f"{folder} has {min(foreign)}, which is no part of a matrix: give a new folder"
            )
        for inner in (CELLS, REPORTS):
            (folder / inner).mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot use {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another matrix runs in {folder}") from None
        for place in (folder, folder / CELLS, folder / REPORTS):
            for left in place.glob(f"{TEMPORARY}*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(lock)


def report_name(key: str) -> str:
    """Return the path of a cell's report in the matrix's folder."""
    return f"{REPORTS}/{key}.html"


def keep(folder: Path, ran: Ran) -> None:
    """Keep what came of a cell, and its report. Raises StorageError."""
    if ran.report is not None:
        write_whole(folder / report_name(ran.key), ran.report)
    if ran.counts:
        write_whole(folder / CELLS / f"{ran.key}.json", ran.page())


def kept(folder: Path, key: str) -> tuple[Verdict, dict[str, Any]] | None:
    """Return the verdict of a cell that was run before, and what else is known of it; None if there
    is none that can be read."""
    path = folder / CELLS / f"{key}.json"
    try:
        raw = read_object(path)
        more = raw.get("cell")
        return from_json(raw, Verdict, name=str(path)), more if isinstance(more, dict) else {}
    except (OSError, UsageError):
        return None


def save(folder: Path, matrix: Matrix) -> None:
    """Write the matrix, whole or not at all. Raises StorageError."""
    write_whole(folder / STATE, f"{json.dumps(msgspec.to_builtins(matrix), indent=2)}\n".encode())


def load(path: Path) -> Matrix:
    """Return the matrix in a folder, or in a file. Raises UsageError if there is none."""
    path = path / STATE if path.is_dir() else path
    try:
        matrix = msgspec.json.decode(path.read_bytes(), type=Matrix)
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"{path} is not a matrix: {error}") from error
    if matrix.schema != SCHEMA:
        raise UsageError(f"{path} has schema {matrix.schema}; this version reads {SCHEMA}")
    if len(matrix.cells) != len(matrix.traces) * len(matrix.builds):
        raise UsageError(f"{path} is not a matrix: it has {len(matrix.cells)} cells")
    return matrix


def is_matrix(path: Path) -> bool:
    """Whether a path is a matrix's folder or file. What cannot be read is none."""
    try:
        if path.is_dir():
            return (path / STATE).is_file()
        return is_json(path) and bool(load(path))  # a trace may be too large to read
    except (OSError, UsageError):
        return False
