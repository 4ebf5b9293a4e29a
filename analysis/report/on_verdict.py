"""The page about what a replay found."""

from analysis.frames.columns import FLAG_SEPARATOR
from analysis.frames.frames import Frames
from analysis.report import sections
from analysis.report.markup import Markup, join
from analysis.report.page import Row, Section, facts, page, paragraph, shell, table
from analysis.report.sections import AT_THE_END, MAX_ROWS, Focus
from analysis.story import words
from tracer import text
from tracer.errors import UsageError
from tracer.op import SECTOR
from tracer.ranges import RangeSet
from tracer.verdict import DamageKind, Environment, Finding, SectorBytes, Verdict, VerdictKind


def of_verdict(recording: Frames, verdict: Verdict, source: str) -> str:
    """Return the page about what a replay found. ``source`` names the file of the verdict.

    Raises TraceError, and UsageError if the verdict is about another trace.
    """
    _check(recording, verdict)
    focus = _focus(recording, verdict)
    shown = words.damage(verdict)
    summary = words.facts(verdict)[1:]  # the first is the headline
    if shown:
        summary.append(("damage", [words.amount(verdict), *words.findings(verdict)]))
    parts = [
        Section("what", "What happened", facts(summary)),
        Section("reproduce", "Reproduce", _reproduce(verdict)),
    ]
    if shown or verdict.culprit is not None:
        amount = words.amount(verdict) or "nothing is damaged"
        drawn = sections.damage_map(recording, verdict, amount)
        parts.append(
            Section("damage", "Damage", join((drawn, _causes(verdict), _findings(verdict))))
        )
    if verdict.bytes is not None:
        parts.append(_bytes(verdict.bytes))
    if shown:
        parts.append(
            Section(
                "history", "History of the damaged sectors", _histories(recording, verdict, focus)
            )
        )
    if verdict.verdict in (VerdictKind.DAMAGED, VerdictKind.FAILED):
        about = "the culprit" if verdict.culprit is not None else f"#{focus.seq}"
        parts.append(Section("ops", f"Ops around {about}", sections.ops_around(recording, focus)))
    if verdict.log.strip():
        parts.append(Section("log", "The driver's last words", sections.log(verdict.log)))
    if verdict.environment != Environment():
        parts.append(Section("replayed", "Replayed on", sections.ran_on(verdict.environment)))
    parts.append(Section("recorded", "Recorded on", sections.recorded_on(recording)))
    title = f"{verdict.driver}: {verdict.verdict}"
    if verdict.culprit is not None:
        by = "by" if verdict.verdict is VerdictKind.DAMAGED else "at"
        title += f" {by} #{verdict.culprit.seq} {verdict.culprit.kind}"
    return page(title, verdict.reason, parts, f"{source} and {recording.path.name}")


def _check(recording: Frames, verdict: Verdict) -> None:
    """Raise UsageError if the verdict is about another trace.

    The damage picture checks the disk and the culprit too, but is not always drawn.
    """
    path = text.printable(str(recording.path))
    if verdict.size != recording.header.size:
        raise UsageError(
            f"{path} has a disk of {recording.header.size} bytes, the verdict is about a disk "
            f"of {verdict.size} bytes"
        )
    op = verdict.culprit
    if op is not None:
        same = (op.kind, op.offset, op.length, FLAG_SEPARATOR.join(op.flags))
        columns = recording.ops.filter(seq=op.seq)
        found = columns.select("kind", "offset_bytes", "length_bytes", "flags").collect().rows()
        if found != [same]:
            raise UsageError(f"{path} is not the trace of this verdict: op #{op.seq} is another op")


def _focus(recording: Frames, verdict: Verdict) -> Focus:
    notes: dict[int, list[str]] = {}
    first, culprit = verdict.first_bad_read, verdict.culprit
    if culprit is not None:
        notes.setdefault(culprit.seq, []).append("the culprit")
    if first is not None:
        notes.setdefault(first.seq, []).append("the first wrong read")
    seq = next((op.seq for op in (culprit, first) if op is not None), recording.count - 1)
    ranges = ((finding.start, finding.end) for finding in words.damage(verdict))
    return Focus(
        seq,
        culprit.seq if culprit is not None else None,
        {number: "; ".join(said) for number, said in notes.items()},
        RangeSet(ranges),
    )


def _reproduce(verdict: Verdict) -> Markup:
    again = (
        text.shell(verdict.command)
        or f"{text.shell(['trace', 'replay', verdict.trace])} --driver ..."
    )
    parts = [shell([again])]
    if more := words.commands(verdict):
        parts += [paragraph("To see more:"), shell(more)]
    return join(parts)


def _causes(verdict: Verdict) -> Markup:
    """Return the table of causes, if any has more than one range."""
    shown = [
        *(("right after the culprit", cause) for cause in verdict.culprit_causes),
        *(("in the end", cause) for cause in verdict.causes),
    ]
    if all(cause.ranges == 1 for _, cause in shown):
        return join(())
    rows: list[Row] = []
    for when, cause in shown[:MAX_ROWS]:
        size = text.size(cause.sectors * SECTOR)
        rows.append(((cause.what, when, f"{cause.ranges:,}", size, cause.text), ""))
    name = "Causes of the damage"
    if len(shown) > MAX_ROWS:
        name += f" (the first {MAX_ROWS} of {len(shown):,})"
    columns = {
        "what": "wrap",
        "seen": "wrap",
        "ranges": "number",
        "size": "number",
        "in words": "note",
    }
    return table(name, columns, rows)


def _findings(verdict: Verdict) -> Markup:
    """Return the table of damaged ranges, with where their bytes came from."""
    shown = words.damage(verdict)
    if not shown:
        return paragraph("No sector is damaged.")
    rows: list[Row] = []
    for finding in shown[:MAX_ROWS]:
        source = finding.source
        origin = f"#{source.seq} {source.kind}, from its byte {source.at} on" if source else ""
        size = text.size(finding.sectors * SECTOR)
        place = words.sectors(finding.sector, finding.sectors)
        rows.append(((place, size, finding.kind or "", origin, finding.text or ""), ""))
    when = "right after the culprit" if verdict.culprit_damage else "in the end"
    name = f"What is damaged {when}, and where the wrong bytes came from"
    if len(shown) > MAX_ROWS:
        name += f" (the first {MAX_ROWS} of {len(shown):,})"
    columns = {
        "where": "place",
        "size": "number",
        "damage": "wrap",
        "source": "wrap",
        "in words": "note",
    }
    return table(name, columns, rows)


def _bytes(shown: SectorBytes) -> Section:
    expected, actual = bytes.fromhex(shown.expected), bytes.fromhex(shown.actual)
    wrong = [at for at, (good, bad) in enumerate(zip(expected, actual, strict=True)) if good != bad]
    summary = f"{len(wrong)} of {len(expected)} bytes differ"
    if wrong:
        first, last = shown.offset + wrong[0], shown.offset + wrong[-1]
        summary += f", from byte {first} to byte {last} of the disk"
    summary += ". Lines with - are what the sector should hold, lines with + what it does."
    return Section(
        "bytes",
        f"Bytes of sector {shown.sector}",
        join((paragraph(summary), sections.hex_dump(shown.offset, expected, actual))),
    )


def _histories(recording: Frames, verdict: Verdict, focus: Focus) -> Markup:
    """Return the history of one sector for each cause of damage."""
    at = {finding.sector: finding for finding in words.damage(verdict)}
    chosen: dict[tuple[DamageKind | None, int | None], Finding] = {}
    for cause in words.causes(verdict):
        if (found := at.get(cause.sector)) is not None:
            chosen.setdefault((found.kind, found.source.seq if found.source else None), found)
    parts = []
    for (kind, origin), finding in list(chosen.items())[: sections.MAX_HISTORIES]:
        first = verdict.first_bad_read
        if focus.culprit is not None:
            moment = focus.culprit
        elif first is not None and finding.start <= first.sector * SECTOR < finding.end:
            moment = first.seq
        else:
            moment = AT_THE_END
        parts.append(sections.history(recording, focus, finding.sector, moment, kind, origin))
    if len(chosen) > len(parts):
        parts.append(paragraph(f"And {len(chosen) - len(parts):,} more kinds of damage."))
    return join(parts)
