"""The tables of the foreign formats: what can be imported, and what can be exported."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analysis.interop import (
    alibaba,
    biosnoop,
    blkparse,
    blktrace,
    columnar,
    dm_log_writes,
    fio_iolog,
    fiu,
    ftrace,
    msr,
    nbdkit_log,
    perfetto,
    qemu_io,
    spc,
    systor,
    tencent,
)
from analysis.interop.foreign_file import BinaryFile, TextFile
from analysis.interop.job import Job
from analysis.interop.sink import Sink


@dataclass(frozen=True, slots=True)
class Import:
    """A format that can be imported."""

    title: str
    recognise: Callable[[bytes], bool]
    """Returns whether a file's first bytes are of this format."""
    source: type[TextFile] | type[BinaryFile]
    read: Callable[[Any, Sink], None]
    """Passes the content of a ``source`` to a sink."""
    payloads: str = "hash"
    """"full" if the format has the data of writes, else "hash"."""
    completions: bool = True
    """Whether the format has the times of completions. Without them nothing is known of latencies,
    and of what was in flight together."""
    empty: re.Pattern[str] | None = None
    """The names of files that may be empty."""

    def fits(self, head: bytes, name: str) -> bool:
        """Return whether a file may be of this format: by its first bytes, or its name if empty."""
        if head:
            return self.recognise(head)
        return self.empty is not None and self.empty.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Export:
    """A format that can be exported, and the suffixes that name it."""

    title: str
    suffixes: tuple[str, ...]
    write: Callable[[Job], dict[str, int]]
    """Does a job. Returns what was left out, and how often."""


IMPORTS = {
    "qemu-io": Import("qemu-io script", qemu_io.recognise, TextFile, qemu_io.read, "full", False),
    "dm-log-writes": Import(
        "log of dm-log-writes or blklogwrites",
        dm_log_writes.recognise,
        BinaryFile,
        dm_log_writes.read,
        "full",
        False,
    ),
    "blktrace": Import(
        "blktrace", blktrace.recognise, BinaryFile, blktrace.read, empty=blktrace.CPU_FILE
    ),
    "blkparse": Import("blkparse", blkparse.recognise, TextFile, blkparse.read),
    "msr": Import("MSR Cambridge trace", msr.recognise, TextFile, msr.read),
    "alibaba": Import(
        "Alibaba block trace", alibaba.recognise, TextFile, alibaba.read, completions=False
    ),
    "fio": Import("fio iolog", fio_iolog.recognise, TextFile, fio_iolog.read, completions=False),
    "nbdkit": Import("log of nbdkit's log filter", nbdkit_log.recognise, TextFile, nbdkit_log.read),
    "ftrace": Import("block events of ftrace", ftrace.recognise, TextFile, ftrace.read),
    "biosnoop": Import("biosnoop", biosnoop.recognise, TextFile, biosnoop.read),
    "spc": Import("SPC (UMass) trace", spc.recognise, TextFile, spc.read, completions=False),
    "fiu": Import("FIU trace", fiu.recognise, TextFile, fiu.read, completions=False),
    "tencent": Import(
        "Tencent CBS trace", tencent.recognise, TextFile, tencent.read, completions=False
    ),
    "systor": Import("SYSTOR '17 trace", systor.recognise, TextFile, systor.read),
}


EXPORTS = {
    "dm-log-writes": Export("log of dm-log-writes", (".log",), dm_log_writes.write),
    "parquet": Export("Parquet, the ops", (".parquet",), columnar.parquet),
    "arrow": Export("Arrow IPC, the ops", (".arrow", ".feather", ".ipc"), columnar.arrow),
    "perfetto": Export("Chrome trace events", (".json",), perfetto.write),
    "fio": Export("fio iolog, version 3", (".iolog", ".fio"), fio_iolog.write),
}
