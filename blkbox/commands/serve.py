"""``trace serve``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox import output
from blkbox.commands.options import (
    AllowRemote,
    AsJson,
    ExportName,
    Listen,
    TlsCertificates,
    TlsPsk,
    TlsVerifyPeer,
)


def serve(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to read.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND ...]",
            help="The client. {nbd} becomes the disk's NBD URI, which is in NBD_URI too.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="OP|MARK", help="After this op, or when this mark was set [after the last op]."
        ),
    ] = None,
    scratch: Annotated[
        bool,
        typer.Option("--scratch", help="Take writes, keep them in TMPDIR and forget them."),
    ] = False,
    listen: Listen = None,
    allow_remote: AllowRemote = False,
    export_name: ExportName = "",
    tls_certificates: TlsCertificates = None,
    tls_psk: TlsPsk = None,
    tls_verify_peer: TlsVerifyPeer = False,
    as_json: AsJson = False,
) -> int:
    """Serve the disk as it should have been at a moment.

    The disk is an NBD export, to be mounted or booted, without a checkout. It is read-only unless
    --scratch is given.

    Example: trace serve install.trace --at "packages unpacked" -- qemu-img compare -f raw -F raw
    {nbd} test.raw

    With a command, ends with the command's exit code (128 + the signal if one killed it).
    Otherwise, prints the URI, and serves until SIGINT, SIGTERM or SIGHUP; ends with 0.

    With --json, the first line on stdout is one object, with the URI, the size in bytes, and the
    number of the first op that the disk does not have (before). It comes as soon as clients can
    connect.

    Trimmed bytes are zeroes, unless the trace was recorded with --trim old-or-zero: then they keep
    their earlier content.
    """
    from tracer import progress
    from tracer.nbd.uri import parse_name, served_tls
    from tracer.serving.serve import Served, ServeOptions, serve

    options = ServeOptions(
        trace=trace,
        at=at,
        scratch=scratch,
        listen=listen,
        allow_remote=allow_remote,
        export_name=parse_name(export_name),
        tls=served_tls(tls_certificates, tls_psk, verify_peer=tls_verify_peer),
        command=tuple(command or ()),
    )

    def ready(served: Served) -> None:
        output.at_once(json.dumps(asdict(served)))

    code = serve(options, progress.tell, ready if as_json else None)
    if code is None:
        return 0
    return code if code >= 0 else 128 - code
