"""``trace record``."""

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blkbox.commands.options import (
    AllowErrno,
    AllowRemote,
    CompareOption,
    ConflictsOption,
    ExportName,
    JsonTo,
    Listen,
    ReportTo,
    Thorough,
    TlsCertificates,
    TlsPsk,
    TlsVerifyPeer,
)
from tracer.mirror.scope import Compare, Scope
from tracer.op import OnConflict, TrimRule
from tracer.recording.options import OnMismatch, Payloads, RecordOptions

if TYPE_CHECKING:
    from tracer.verdict import Recording

MISMATCHES = 10
"""The most mismatches that the summary lists."""


def record(
    out: Annotated[Path, typer.Argument(metavar="OUT.trace", help="The trace to write.")],
    driver: Annotated[
        str,
        typer.Option(
            help="The driver under test: raw, qcow2, vmdk, ..., FORMAT@DIR, an NBD URI, a block "
            "device, or a .toml file; none records at full speed, to be judged by a replay."
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND ...]",
            help="The guest. {nbd} becomes the disk's NBD URI, which is in NBD_URI too.",
        ),
    ] = None,
    raw: Annotated[Path | None, typer.Option(help="The raw reference image [OUT.raw].")] = None,
    image: Annotated[Path | None, typer.Option(help="The test image [OUT.test.FORMAT].")] = None,
    size: Annotated[str | None, typer.Option(help="The size of a new disk [16G].")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make new images in place of existing ones.")
    ] = False,
    listen: Listen = None,
    allow_remote: AllowRemote = False,
    export_name: ExportName = "",
    tls_certificates: TlsCertificates = None,
    tls_psk: TlsPsk = None,
    tls_verify_peer: TlsVerifyPeer = False,
    payloads: Annotated[
        Payloads, typer.Option(help="Keep the data that is written, or only digests.")
    ] = Payloads.FULL,
    on_mismatch: Annotated[
        OnMismatch, typer.Option(help="Fail the request and end, or note it and go on.")
    ] = OnMismatch.STOP,
    trim: Annotated[TrimRule, typer.Option(help="What trimmed bytes may read as.")] = TrimRule.ANY,
    conflicts: ConflictsOption = OnConflict.SEND,
    once: Annotated[
        bool, typer.Option("--once", help="End when the last client has left.")
    ] = False,
    trust_start: Annotated[
        bool, typer.Option("--trust-start", help="Do not compare the images at the start.")
    ] = False,
    compare: CompareOption = Compare.TOUCHED,
    thorough: Thorough = False,
    allow_errno: AllowErrno = "",
    sync: Annotated[
        bool,
        typer.Option("--sync", help="Flush the trace to disk at each flush or FUA of the guest."),
    ] = False,
    below: Annotated[
        bool,
        typer.Option(
            "--below",
            help="Also record what the driver does to its image, as OUT.lower (needs FUSE).",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing trace.")] = False,
    report: ReportTo = None,
    as_json: JsonTo = None,
) -> int:
    """Record what a guest does to its disk.

    Each request is done on a raw reference image and on the driver's test image.

    Example: trace record install.trace --driver qcow2 --size 8G -- qemu-system-x86_64 -m 1G
    -cdrom debian.iso -drive file={nbd},format=raw,if=virtio,discard=unmap
    """
    from blkbox import jobs, results
    from tracer import progress
    from tracer.driver.spec import parse_driver
    from tracer.nbd.uri import parse_name, served_tls
    from tracer.recording.session import record
    from tracer.text import parse_errnos, parse_size
    from tracer.trace.payloads import payload_path

    others = (out, payload_path(out), *(path for path in (raw, image) if path is not None))
    places = results.results(as_json, report, force=force, others=others)
    options = RecordOptions(
        trace=out,
        driver=parse_driver(driver, or_none=True),
        raw=raw,
        image=image,
        size=None if size is None else parse_size(size),
        fresh=fresh,
        listen=listen,
        allow_remote=allow_remote,
        export_name=parse_name(export_name),
        tls=served_tls(tls_certificates, tls_psk, verify_peer=tls_verify_peer),
        payloads=payloads,
        on_mismatch=on_mismatch,
        trim=trim,
        conflicts=conflicts,
        once=once,
        trust_start=trust_start,
        scope=Scope(compare, thorough),
        allowed=parse_errnos(allow_errno),
        sync=sync,
        force=force,
        below=below,
        command=tuple(command or ()),
        guest_stdout=sys.stderr.fileno() if places.on_stdout else None,
        handle_signals=True,
    )
    gc.freeze()  # the data path makes no cycles: the collector need not scan the existing objects
    result = record(options, progress.tell)
    results.deliver(
        result,
        places,
        lambda: _page(result, judged=not options.driver.absent),
        lambda page: jobs.report(out, page, force=force),
    )
    return result.exit_code


def _page(result: "Recording", *, judged: bool) -> str:
    """Return the summary. ``judged``: whether there was a driver to judge."""
    from tracer.driver.command import exit_text
    from tracer.text import printable, size, table

    rows: list[tuple[str, ...]] = [
        (kind, f"{count:,}", size(result.bytes[kind]) if kind in result.bytes else "")
        for kind, count in result.ops.items()
    ]
    rows = [("op", "count", "bytes"), *rows]
    lines = [table(rows, right=frozenset({1, 2})), ""]
    files = f"{result.trace} ({size(result.trace_bytes)}"
    if result.payload_bytes:
        files += f", payloads {size(result.payload_bytes)}"
    lines.append(f"trace:    {files})")
    made = [printable(name) for name in result.made if name != result.trace]
    if made:
        lines.append(f"made:     {', '.join(made)}")
    if result.guest_exit is not None:
        lines.append(f"guest:    {exit_text(result.guest_exit)}")
    for found in result.mismatches[:MISMATCHES]:
        where = f"op #{found.seq}" if found.seq is not None else "after the run"
        lines.append(f"mismatch: {where}, sector {found.sector} ({found.sectors}), {found.fault}")
    if len(result.mismatches) > MISMATCHES:
        lines.append(f"          and {len(result.mismatches) - MISMATCHES} more")
    if result.compared is not None:
        lines.append(f"compared: {result.compared.describe()}")
    if judged or result.verdict.exit_code:
        lines.append(f"verdict:  {result.verdict} ({result.driver}): {result.reason}")
    else:
        lines.append(f"recorded: {result.reason}; trace replay judges a driver with this trace")
    return "\n".join(lines)
