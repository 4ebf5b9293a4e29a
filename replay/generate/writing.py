"""``trace generate``: draw features, make the ops, write the trace."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgpack
from blake3 import blake3

from replay.generate.dice import Dice
from replay.generate.features import draw
from replay.generate.profiles import Profile
from replay.generate.traffic import traffic
from tracer.errors import UsageError
from tracer.files import check_new, whole
from tracer.op import KIND_BY_NUMBER, Op
from tracer.progress import bar
from tracer.trace.header import MAX_SIZE, Header
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import new_payload_path, payload_path
from tracer.trace.records import MAX_INT, End

GENERATOR = 1
"""The generator's version. It rises when the same arguments give another trace."""

MAX_COUNT = 1_000_000_000
"""The most ops in a trace: 100 GB of records."""


@dataclass(slots=True)
class Generated:
    """A trace that was generated. Sizes are bytes."""

    trace: str
    profile: str
    seed: int
    size: int
    features: dict[str, Any]
    """What the seed drew from the profile."""
    ops: dict[str, int] = field(default_factory=dict)
    """Ops by kind."""
    bytes: dict[str, int] = field(default_factory=dict)
    """Bytes of the ops by kind."""
    restarts: int = 0
    trace_bytes: int = 0
    schema: int = 1


def generate(
    target: Path,
    profile: Profile,
    *,
    seed: int,
    ops: int,
    size: int,
    force: bool,
) -> Generated:
    """Write the trace that ``seed`` draws from ``profile``: ``ops`` ops on a disk of ``size``
    bytes. The same arguments give the same file.

    Raises UsageError if an argument is wrong or ``target`` cannot be used, OSError and
    StorageError. Nothing is written then.
    """
    for name, number, least, most in (
        ("--seed", seed, 0, MAX_INT), ("--ops", ops, 1, MAX_COUNT),
    ):  # fmt: skip
        if not least <= number <= most:
            raise UsageError(f"{name} {number}: give a number from {least} to {most}")
    if size == 0:
        raise UsageError("--size 0: an empty disk takes no ops, so there is nothing to generate")
    if not 0 < size <= MAX_SIZE:
        raise UsageError(f"--size {size}: no disk has that size")
    for new in (target, new_payload_path(target)):
        check_new(new, force)
    features = draw(profile, size, Dice(2 * seed))
    header = _header(asdict(features), profile.name, seed, ops, size)
    made = Generated(str(target), profile.name, seed, size, header.profile["features"])
    counts: Counter[int] = Counter()
    lengths: Counter[int] = Counter()
    end = 0
    with whole(payload_path(target), target) as folder, bar("generating", ops, "ops") as progress:
        path = folder / target.name
        with TraceOutput(path, header) as output:
            for record in traffic(features, size, ops, seed):
                if isinstance(record, Op):
                    output.op(record)
                    counts[record.kind] += 1
                    lengths[record.kind] += record.length
                    end = record.completed
                    progress(1)
                else:
                    output.restart(record)
                    made.restarts += 1
            output.close(End(features.start + ops, 0, end, "generated"))
        made.trace_bytes = path.stat().st_size
    for kind, count in sorted(counts.items()):
        label = KIND_BY_NUMBER[kind].label
        made.ops[label], made.bytes[label] = count, lengths[kind]
    return made


def _header(features: dict[str, Any], name: str, seed: int, ops: int, size: int) -> Header:
    """Return the header of a generated trace. Its id is made from what made the trace, so that the
    same trace has the same id."""
    profile = {"generator": GENERATOR, "name": name, "seed": seed, "ops": ops, "features": features}
    key = blake3(msgpack.packb([profile, size])).hexdigest(16)
    return Header(
        size=size,
        payloads="hash",
        start_image="recorded" if features["start"] else "blank",
        driver={"name": "none, generated"},
        tools={"blkbox": version("blkbox")},
        id=key,
        profile=profile,
    )
