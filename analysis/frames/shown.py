"""A trace as a notebook shows it: the facts of its header and end, without reading its ops."""

from datetime import UTC, datetime
from pathlib import Path

from tracer import text
from tracer.html import facts
from tracer.op import SECTOR
from tracer.trace.file import Trace
from tracer.trace.header import Header


def in_a_line(path: Path, header: Header, trace: Trace | None) -> str:
    """Return the facts as one line. ``trace`` is None if the file is closed."""
    about = f"<Frames {path.name}: {text.size(header.size)}"
    if trace is None:
        return f"{about}, no longer open>"
    # counting ops would read the whole trace
    return f"{about}, {trace.count:,} records{'' if trace.end else ', not closed'}>"


def in_html(path: Path, header: Header, trace: Trace | None) -> str:
    """Return the facts as a table."""
    rows: list[tuple[str, object]] = [
        ("disk", f"{text.size(header.size)}, {-(-header.size // SECTOR):,} sectors"),
        ("driver", header.driver.get("name")),
        ("recorded", f"{datetime.fromtimestamp(header.started / 1e9, UTC):%Y-%m-%d %H:%M} UTC"),
    ]
    if trace is None:
        return facts(path.name, [*rows, ("state", "no longer open")])
    end = trace.end
    rows += [
        ("records", f"{trace.count:,}"),
        ("took", text.seconds(end.time) if end else "not closed"),
        ("verdict", end and end.verdict),
    ]
    return facts(path.name, rows)
