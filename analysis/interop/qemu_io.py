"""qemu-io scripts: a command per line, as qemu-io reads them from standard input.

The source is QEMU's qemu-io-cmds.c. Commands that do nothing to the disk, or that open another
disk, are errors: without them, the script would mean something else.

A script has no times: each command comes a microsecond after the command before it. ``aio_read``
and ``aio_write`` are in flight until ``aio_flush``, or until the script ends.
"""

import getopt
import re

from analysis.interop.foreign_file import TextFile
from analysis.interop.sink import Begun, Sink, pieces
from tracer.op import Flag, Kind, Op

STEP = 1000
"""Nanoseconds from one command to the next."""

PATTERN = 0xCD
"""The byte that qemu-io writes by default."""

OPTIONS = {
    "read": "abCl:pP:qrs:v",
    "readv": "CP:qrv",
    "aio_read": "CiP:qrv",
    "write": "bcCfnpP:qrs:uz",
    "writev": "CfP:qr",
    "aio_write": "CfiP:qruz",
    "discard": "Cq",
    "flush": "",
    "aio_flush": "",
}
"""The commands that can be imported, with their options as for getopt(3) (QEMU 7.2 to 10)."""

ALIASES = {"r": "read", "w": "write", "d": "discard", "f": "flush"}

VECTORED = frozenset({"readv", "writev", "aio_read", "aio_write"})
"""Commands that take several lengths."""

OTHER_DATA = {
    "-b": "the VM state is not on the disk",
    "-c": "compressed writes cannot be recorded",
    "-i": "a request that is meant to be invalid cannot be recorded",
}
"""Options that cannot be imported, and why."""

_SIZE = re.compile(r"(?:(0x[0-9a-f]+)|(\d+)(?:(\.\d+))?([bkmgtpe]?))", re.IGNORECASE)
_UNITS = {unit: 1 << (10 * power) for power, unit in enumerate("bkmgtpe")}


def recognise(head: bytes) -> bool:
    """Return whether the first line that is not empty or a comment is a qemu-io command."""
    for line in head.decode(errors="replace").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            return ALIASES.get(words[0], words[0]) in OPTIONS
    return False


def read(source: TextFile, sink: Sink) -> None:
    """Pass the commands of a script to a sink.

    Raises TraceError at the first line that is not a command, or that a trace cannot hold.
    """
    in_flight: list[Begun] = []
    now = 0
    for line in source:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("q", "quit"):
            break
        name = ALIASES.get(words[0], words[0])
        if name not in OPTIONS:
            raise source.error(f"{words[0]!r}: not a command that can be imported")
        now += STEP
        if name == "aio_flush":  # this command waits, it does not flush
            _finish(sink, in_flight, now)
            continue
        begun = _begin(source, sink, name, words[1:], now)
        if name.startswith("aio_"):
            in_flight.append(begun)
        else:
            sink.end(begun, now)
    _finish(sink, in_flight, now + STEP)


def _finish(sink: Sink, in_flight: list[Begun], now: int) -> None:
    for begun in in_flight:
        sink.end(begun, now)
    in_flight.clear()


def _begin(source: TextFile, sink: Sink, name: str, words: list[str], now: int) -> Begun:
    try:
        found, rest = getopt.gnu_getopt(words, OPTIONS[name])
    except getopt.GetoptError as error:
        raise source.error(f"{name}: {error.msg}") from error
    options = dict(found)
    for option, why in OTHER_DATA.items():
        if option in options:
            raise source.error(f"{name} {option}: {why}")
    if name == "flush":
        return sink.begin(Op(0, Kind.FLUSH, submitted=now))
    if len(rest) < 2 or (len(rest) > 2 and name not in VECTORED):
        raise source.error(f"{name}: expected an offset and a length")
    offset, *lengths = (_size(source, word) for word in rest)
    op = Op(0, Kind.READ, 0, offset, sum(lengths), now)
    if "discard" in name:
        op.kind = Kind.TRIM
    elif "write" in name:
        return _write(source, sink, name, op, options)
    return sink.begin(op)


def _write(source: TextFile, sink: Sink, name: str, op: Op, options: dict[str, str]) -> Begun:
    """Begin a write of a pattern or of zeroes."""
    if "-s" in options:
        raise source.error(f"{name} -s: data from another file cannot be imported")
    if not options.keys().isdisjoint(("-u", "-n")) and "-z" not in options:
        raise source.error(f"{name}: -u and -n need -z")
    if "-z" in options and "-P" in options:
        raise source.error(f"{name}: -z and -P contradict each other")
    op.kind = Kind.ZERO if "-z" in options else Kind.WRITE
    op.flags = Flag.FUA if "-f" in options else 0
    if "-z" in options:
        op.flags |= 0 if "-u" in options else Flag.NO_HOLE
        op.flags |= Flag.FAST_ZERO if "-n" in options else 0
        return sink.begin(op)
    byte = _pattern(source, options.get("-P"))
    begun: Begun = []
    for offset, length in pieces(op):
        data = bytes([byte]) * length if sink.keeps_data else None
        begun += sink.begin(Op(0, op.kind, op.flags, offset, length, op.submitted), data)
    return begun


def _pattern(source: TextFile, word: str | None) -> int:
    """Return a byte, as strtol(3) reads it with base 0."""
    if word is None:
        return PATTERN
    base = 16 if word[:2].lower() == "0x" else 8 if word[:1] == "0" else 10
    try:
        byte = int(word, base) if word.isalnum() and word.isascii() else -1
    except ValueError:
        byte = -1
    if not 0 <= byte <= 0xFF:
        raise source.error(f"{word!r} is not a byte")
    return byte


def _size(source: TextFile, word: str) -> int:
    """Return a number of bytes, as qemu_strtosz reads it (util/cutils.c).

    Examples: ``512``, ``0x200``, ``64k``, ``1.5M``.
    """
    match = _SIZE.fullmatch(word)
    if match is None or len(word) > 40:
        raise source.error(f"{word!r} is not a number of bytes")
    if match[1]:
        return int(match[1], 16)
    unit = _UNITS[match[4].lower() or "b"]
    whole = int(match[2]) * unit
    return whole + int(float(match[3]) * unit) if match[3] else whole
