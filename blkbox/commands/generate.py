"""``trace generate``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blkbox.commands.options import AsJson

if TYPE_CHECKING:
    from replay.generate.writing import Generated


def generate(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT.trace", help="The trace to write.")
    ],
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed gives another trace.")] = 0,
    ops: Annotated[int, typer.Option(metavar="N", help="The number of ops.")] = 2000,
    size: Annotated[str, typer.Option(metavar="S", help="The disk's size.")] = "64M",
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.toml",
            help="What the seed draws from: default, aligned, serial, conflicts, queues, "
            "durability, start, large, or a file.",
        ),
    ] = "default",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing trace.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make a trace from a seed, without a guest and without a driver.

    Each seed switches some features on and others off: kinds of op, flags, conflicts, depth,
    connections, flushes, restarts. The same seed gives the same trace everywhere.

    Example: trace generate -o seven.trace --seed 7 --size 1G

    docs/hunting.md describes the profiles, and how to write one.
    """
    from blkbox.jobs import generate
    from tracer.text import parse_size

    made = generate(out, seed=seed, ops=ops, size=parse_size(size), profile=profile, force=force)
    print(json.dumps(asdict(made), indent=2) if as_json else _page(made))
    return 0


def _page(made: "Generated") -> str:
    from tracer.text import many, printable, table
    from tracer.text import size as in_words

    rows: list[tuple[str, ...]] = [("op", "count", "bytes")]
    rows += [
        (kind, f"{count:,}", in_words(made.bytes[kind]) if made.bytes[kind] else "")
        for kind, count in made.ops.items()
    ]
    drawn = made.features
    traits = [
        f"depth {drawn['depth']}",
        many(drawn["connections"], "connection"),
        "conflicts" if drawn["conflicts"] else "no conflicts",
        f"clusters of {in_words(drawn['cluster'])}",
        many(made.restarts, "restart"),
    ]
    lines = [
        table(rows, right=frozenset({1, 2})),
        "",
        f"trace:    {made.trace} ({in_words(made.trace_bytes)})",
        f"disk:     {in_words(made.size)}",
        f"profile:  {printable(made.profile)}, seed {made.seed}",
        f"drawn:    {', '.join(traits)}",
    ]
    return "\n".join(lines)
