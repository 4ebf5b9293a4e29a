"""Profiles: which features a generated trace may have, and how likely each is.

A profile is data: a named one, or a .toml file. What a seed draws from one is in ``features``.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from tracer.driver.driver import MAX_CONNECTIONS
from tracer.errors import UsageError
from tracer.files import read_toml
from tracer.mirror.mirror import MAX_OPS
from tracer.op import SECTOR
from tracer.text import SHOWN, parse_size, printable
from tracer.trace.records import MAX_LENGTH

Range = tuple[int, int]
"""The least and the most."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

MAX_RATE = 1_000_000
"""The most ops between two flushes: as good as never."""

MAX_RESTARTS = 1000
"""The most restarts in a trace. Each takes a driver a good part of a second."""

MAX_SPOTS = 1024
"""The most hot spots. The header has a list of them."""

MAX_NAME = 64
"""Characters in a profile's name."""


# ---------------------------------------------------------------- what a field may hold


def _read_chance(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError("give a probability, from 0 to 1")
    return float(value)


def _read_range(value: Any, least: int, most: int) -> Range:
    ends = value if isinstance(value, list) else [value, value]
    if len(ends) == 2 and all(type(end) is int for end in ends):
        first, last = ends
        if least <= first <= last <= most:
            return first, last
    raise UsageError(f"give a number from {least} to {most}, or a range like [{least}, {most}]")


def _read_size(value: Any, least: int, most: int) -> int:
    size = parse_size(value) if isinstance(value, str) else value
    if type(size) is not int or not least <= size <= most:
        raise UsageError(f"give a size from {least} to {most} bytes")
    return size


def _read_clusters(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    sizes = tuple(_read_size(one, SECTOR, GIB) for one in values)
    if not sizes or any(size & (size - 1) for size in sizes):
        raise UsageError('give powers of two, as a list like [4096, "64K"]')
    return sizes


# ---------------------------------------------------------------- profiles


@dataclass(frozen=True, slots=True)
class Profile:
    """What a seed may draw.

    A float is the probability that a trace has the feature at all; a range is what a number is
    drawn from. A trace with few features reaches states that one with all of them hardly reaches:
    without flushes, for example, caches fill up.
    """

    name: str

    write: float = 1.0
    read: float = 0.9
    zero: float = 0.75
    trim: float = 0.6
    flush: float = 0.8
    cache: float = 0.2
    block_status: float = 0.4

    fua: float = 0.5
    no_hole: float = 0.6
    fast_zero: float = 0.25
    zeroes: float = 0.4
    """Writes whose data is zeroes."""
    unaligned: float = 0.25
    """Offsets and lengths of any number of bytes; otherwise whole sectors, or whole 4 KiB."""
    conflicts: float = 0.5
    """Ops in flight together may overlap, and often do."""
    quiet: float = 0.6
    """Now and then an op starts with nothing in flight."""
    barriers: float = 0.5
    """Some flushes have nothing else in flight."""
    hot: float = 0.85
    """Most ops go to a few places."""
    whole: float = 0.7
    """Ops of whole clusters."""
    spanning: float = 0.6
    """Ops across the border of two clusters."""
    big: float = 0.3
    """A few ops up to the longest."""
    start: float = 0.15
    """The disk starts with some data. A replay puts it into the image, or into a backing file."""

    depth: Range = (1, 32)
    """The most ops in flight."""
    connections: Range = (1, 8)
    flush_every: Range = (8, 400)
    """Ops from one flush to the next, on average."""
    restarts: Range = (0, 3)
    spots: Range = (1, 8)
    """Hot spots."""

    # 64 KiB, the cluster of qcow2 and of most others, is the likeliest
    clusters: tuple[int, ...] = (
        SECTOR, 4 * KIB, 32 * KIB, 64 * KIB, 64 * KIB, 64 * KIB, MIB, 2 * MIB
    )  # fmt: skip
    """The sizes of clusters to choose from, in bytes."""
    longest_data: int = MAX_LENGTH["data"]
    """Bytes of the longest read, write or cache."""
    longest_other: int = 2 * GIB
    """Bytes of the longest op of another kind."""
    data_per_op: int = 64 * KIB
    """Bytes of data that each op adds to what these may move, so that a trace replays fast."""


DEFAULT = Profile("default")

PROFILES = {
    profile.name: profile
    for profile in (
        DEFAULT,
        Profile("aligned", unaligned=0.0),
        Profile("serial", conflicts=0.0, depth=(1, 1), connections=(1, 1)),
        Profile(
            "conflicts",
            conflicts=1.0,
            depth=(2, 32),
            zero=0.9,
            trim=0.8,
            no_hole=0.8,
            hot=1.0,
            spots=(1, 4),
            whole=0.9,
        ),
        Profile("queues", connections=(2, 8), depth=(4, 32), flush=1.0, fua=0.8),
        Profile(
            "durability", flush=1.0, fua=0.8, barriers=0.8, flush_every=(2, 20), restarts=(2, 10)
        ),
        Profile("start", start=1.0),
        Profile("large", big=1.0, clusters=(64 * KIB, MIB, 2 * MIB), data_per_op=256 * KIB),
    )
}
"""The named profiles."""

_READ: dict[str, Callable[[Any], Any]] = {
    **{one.name: _read_chance for one in fields(Profile) if isinstance(one.default, float)},
    "depth": partial(_read_range, least=1, most=MAX_OPS),
    "connections": partial(_read_range, least=1, most=MAX_CONNECTIONS),
    "flush_every": partial(_read_range, least=1, most=MAX_RATE),
    "restarts": partial(_read_range, least=0, most=MAX_RESTARTS),
    "spots": partial(_read_range, least=1, most=MAX_SPOTS),
    "clusters": _read_clusters,
    "longest_data": partial(_read_size, least=4 * KIB, most=MAX_LENGTH["data"]),
    "longest_other": partial(_read_size, least=4 * KIB, most=2 * GIB),
    "data_per_op": partial(_read_size, least=1, most=MAX_LENGTH["data"]),
}
"""By a profile's field, the function that reads its value in a .toml file."""


def parse_profile(text: str) -> Profile:
    """Return the profile that ``--profile TEXT`` names. Raises UsageError if nothing has that name,
    or if the .toml file cannot be read or is not valid."""
    if text in PROFILES:
        return PROFILES[text]
    if text.endswith(".toml"):
        return load_toml(Path(text))
    near = get_close_matches(text.lower(), PROFILES, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    shown = printable(text[:SHOWN])
    raise UsageError(
        f"--profile {shown!r} is not known: {meant}Give {', '.join(PROFILES)}, or a .toml file"
    )


def load_toml(path: Path) -> Profile:
    """Return the profile in a .toml file (docs/hunting.md). Raises UsageError."""
    raw = read_toml(path)
    base = raw.pop("base", DEFAULT.name)
    if not isinstance(base, str) or base not in PROFILES:
        raise UsageError(f"{path}: 'base' must be one of {', '.join(PROFILES)}")
    name = raw.pop("name", path.stem)
    if not isinstance(name, str) or not name.isprintable() or len(name) > MAX_NAME:
        raise UsageError(f"{path}: 'name' must be a string of at most {MAX_NAME} characters")
    changes = {}
    for key, value in raw.items():
        if key not in _READ:
            near = get_close_matches(key, _READ, n=1)
            meant = f"; did you mean {near[0]}?" if near else f": known are {', '.join(_READ)}"
            raise UsageError(f"{path}: unknown key {printable(key[:SHOWN])!r}{meant}")
        try:
            changes[key] = _READ[key](value)
        except UsageError as error:
            raise UsageError(f"{path}: {key}: {error}") from error
    return replace(PROFILES[base], name=name, **changes)
