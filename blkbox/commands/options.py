"""Options that the verbs share."""

from pathlib import Path
from typing import Annotated

import typer

from tracer.mirror.scope import Compare
from tracer.op import OnConflict

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

JsonTo = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="[FILE.json]",
        help="Print the result as JSON. With a file: write it there, and print the text.",
    ),
]

ReportTo = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Also write a page for a bug report."),
]

CompareOption = Annotated[
    Compare,
    typer.Option(
        help="Compare what ops came to, what either side calls data and a sample of the rest, or "
        "the whole disk."
    ),
]

Thorough = Annotated[bool, typer.Option("--thorough", help="Compare more of what no op came to.")]

ConflictsOption = Annotated[
    OnConflict,
    typer.Option(
        "--conflicts",
        help="Send an op that conflicts with ops in flight at once, or hold it until they are "
        "done.",
    ),
]

AllowErrno = Annotated[
    str,
    typer.Option(
        help="Errors that the driver may return, like ENOSPC. Such an op leaves old or new data.",
        metavar="NAME,...",
    ),
]

Start = Annotated[
    str,
    typer.Option(
        metavar="auto|backing|converted|written",
        help="How the images get the data that the disk starts with: as the driver's backing file, "
        "converted into the image, or written through the driver. auto: converted if the driver "
        "can, otherwise written.",
    ),
]

ReplayConflicts = Annotated[
    OnConflict | None,
    typer.Option(
        help="Send an op that conflicts with ops in flight at once, or hold it until they are done "
        "[as recorded]."
    ),
]

Connections = Annotated[
    int | None,
    typer.Option(
        help="Spread the ops over so many connections to the driver [as recorded].", metavar="N"
    ),
]

Shuffle = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        metavar="S",
        help="Shuffle ops that were in flight together; 0 keeps the recorded order.",
    ),
]

ReopenWith = Annotated[
    str | None,
    typer.Option(
        help="Reopen the images with this build [the build that wrote them].", metavar="DRIVER"
    ),
]

Upto = Annotated[
    str | None,
    typer.Option(help="Run up to this op, or to this mark [the end].", metavar="OP|MARK"),
]

Timeout = Annotated[float, typer.Option(help="The time limit for an op, in seconds.", metavar="S")]

Force = Annotated[
    bool, typer.Option("--force", help="Replace existing files, or a server's or device's data.")
]

TraceToRun = Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to run.")]

DriverOfAFile = Annotated[
    str,
    typer.Option(
        "--driver",
        metavar="DRIVER",
        help="The driver under test: qcow2, raw, ..., FORMAT@DIR, or a .toml file.",
    ),
]

Cache = Annotated[
    str | None,
    typer.Option(
        metavar="MODE",
        help="The cache mode of qemu-nbd: writeback, writethrough, none, directsync, unsafe.",
    ),
]

Sample = Annotated[int, typer.Option("--seed", metavar="N", help="Selects the sample.")]

Depth = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="The most ops in flight [as recorded].")
]

Listen = Annotated[
    str | None,
    typer.Option(help="unix:PATH or tcp:HOST:PORT [a private unix socket]."),
]

AllowRemote = Annotated[
    bool,
    typer.Option("--allow-remote", help="Allow --listen tcp: on other than loopback addresses."),
]

ExportName = Annotated[
    str,
    typer.Option(metavar="NAME", help="The export's name; who names none gets this export too."),
]

TlsCertificates = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Take clients with TLS alone: DIR has server-cert.pem and server-key.pem.",
    ),
]

TlsPsk = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Take clients with TLS alone that have a key of FILE."),
]

TlsVerifyPeer = Annotated[
    bool,
    typer.Option(
        "--tls-verify-peer", help="Take clients alone that DIR/ca-cert.pem has certified."
    ),
]
