"""The files of a matrix for people and for CI: an HTML page, a picture, JUnit XML."""

import xml.etree.ElementTree as ET
from pathlib import Path

from analysis.report.markup import Content, Markup, element
from analysis.report.page import Row, Section, page, picture, table
from blkbox.matrices.folder import JUNIT, PAGE, PICTURE
from blkbox.matrices.model import SYMBOLS, CellRow, Matrix
from tracer.files import write_whole
from tracer.text import many, printable
from tracer.verdict import BAD, VerdictKind

JUNIT_TAG = {
    VerdictKind.DAMAGED: "failure",
    VerdictKind.FAILED: "failure",
    VerdictKind.UNDECIDABLE: "error",
    None: "skipped",
}
"""The element in a testcase of JUnit's XML, by verdict. A clean cell has none."""

MAX_REASONS = 1000
"""Cells whose reasons the page lists."""


def write(matrix: Matrix, folder: Path) -> None:
    """Write the files. Raises StorageError."""
    write_whole(folder / JUNIT, junit(matrix))
    from analysis import plots

    figure = plots.grid(
        [build.name for build in matrix.builds],
        [trace.name for trace in matrix.traces],
        [[cell.verdict for cell in cells] for _, cells in matrix.rows()],
    )
    plots.save(figure, folder / PICTURE)
    write_whole(folder / PAGE, html(matrix, plots.small_png(figure)).encode())


def junit(matrix: Matrix) -> bytes:
    """Return the matrix as JUnit XML: a testsuite for each build, a testcase for each cell."""
    suites = ET.Element("testsuites", name="blkbox")
    for build, cells in matrix.rows():
        counts = dict.fromkeys(("failure", "error", "skipped"), 0)
        suite = ET.SubElement(suites, "testsuite", name=printable(build.name))
        for cell in cells:
            case = ET.SubElement(
                suite, "testcase", classname=printable(build.name), name=printable(cell.trace),
                time=f"{cell.seconds:.3f}",
            )  # fmt: skip
            tag = JUNIT_TAG.get(cell.verdict)
            if tag is None:
                continue
            counts[tag] += 1
            reason = printable(cell.reason or "not run")
            found = ET.SubElement(case, tag, message=reason)
            if tag != "skipped":
                found.set("type", str(cell.verdict))
                found.text = "\n".join(_facts(cell))
        suite.set("tests", str(len(cells)))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(name, str(counts[tag]))
        suite.set("time", f"{sum(cell.seconds for cell in cells):.3f}")
    ET.indent(suites)
    found_bytes: bytes = ET.tostring(suites, "utf-8", xml_declaration=True)
    return found_bytes + b"\n"


def _facts(cell: CellRow) -> list[str]:
    facts = [printable(cell.reason)]
    if cell.culprit is not None:
        facts.append(f"culprit: {cell.culprit}")
    if cell.damaged:
        facts.append(f"damage: {many(cell.damaged, 'sector')}")
    if cell.report is not None:
        facts.append(f"report: {cell.report}")
    return facts


def html(matrix: Matrix, drawn: bytes) -> str:
    """Return the page: the table, whose bad cells link to their reports, and the picture."""
    tally = matrix.tally
    counts = [f"{tally[kind]:,} {kind or 'not run'}" for kind in SYMBOLS if tally[kind]]
    summary = (
        f"{many(len(matrix.traces), 'trace')} on {many(len(matrix.builds), 'build')}: "
        f"{', '.join(counts)}."
    )
    sections = [
        Section("table", "Every trace on every build", _grid(matrix)),
        Section("picture", "At a glance", picture(
            drawn, "The verdicts as a grid of builds and traces", summary)),
    ]  # fmt: skip
    odd = [cell for cell in matrix.cells if cell.verdict not in (VerdictKind.CLEAN, None)]
    if odd:
        sections.append(Section("reasons", "What went wrong", _reasons(odd)))
    sections.append(Section("builds", "Builds", _builds(matrix)))
    return page("blkbox: a matrix", summary, sections, "the matrix")


def _grid(matrix: Matrix) -> Markup:
    columns = {"trace": ""} | {build.name: "cell" for build in matrix.builds}
    rows: list[Row] = [([trace.name, *map(_cell, cells)], "") for trace, cells in matrix.columns()]
    return table("Traces in rows, builds in columns", columns, rows)


def _cell(cell: CellRow) -> Content:
    name = str(cell.verdict) if cell.verdict is not None else "not-run"
    word = name.replace("-", " ")
    shown: Content = word
    if cell.report is not None:
        shown = element("a", word, href=cell.report)
    return element("span", shown, class_=f"verdict {name}", title=cell.reason or None)


def _reasons(odd: list[CellRow]) -> Markup:
    odd = sorted(odd, key=lambda cell: cell.verdict not in BAD)
    columns = {"trace": "", "build": "", "verdict": "", "reason": "note", "culprit": ""}
    rows: list[Row] = [
        ([cell.trace, cell.build, _cell(cell), cell.reason, cell.culprit or ""], "")
        for cell in odd[:MAX_REASONS]
    ]
    more = len(odd) - MAX_REASONS
    return table(f"Cells that are not clean{f', and {more:,} more' if more > 0 else ''}", columns,
                 rows)  # fmt: skip


def _builds(matrix: Matrix) -> Markup:
    columns = {"build": "", "fingerprint": "", "files": "number", "time": "number"}
    rows: list[Row] = [
        (
            [build.name, element("code", build.fingerprint or build.problem or "none"),
             build.files, f"{sum(cell.seconds for cell in cells):.1f} s"],
            "",
        )
        for build, cells in matrix.rows()
    ]  # fmt: skip
    return table("Fingerprints are of programs and libraries; times are of their cells", columns,
                 rows)  # fmt: skip
