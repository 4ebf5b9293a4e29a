"""Pages of reports as tests read them, and verdicts to make them of."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.kit.command import trace
from tests.kit.faulty.workload import KIB, Request, make_trace
from tracer.op import Kind

LOST: list[Request] = [
    (Kind.WRITE, 0, 4096, 0),
    (Kind.WRITE, 1024 * KIB, 4096, 0),
    (Kind.READ, 0, 4096, 0),
]


class Outline(HTMLParser):
    """A page's text by section, its table rows, and what it marks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {"": ""}
        self.rows: list[list[str]] = []
        self.marked: list[tuple[bool, str]] = []
        self._section, self._open = "", [""]
        self._was = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
            self.sections[self._section] = ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "mark":
            self._was = ("class", "was") in attrs
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self._open
        while self._open.pop() != tag:
            pass
        if tag in ("dd", "dt", "p", "h1"):
            self.sections[self._section] += "\n"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.sections[self._section] += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if "mark" in self._open:
            self.marked.append((self._was, data))

    def row(self, first: str) -> list[str]:
        """The last row that begins with this cell."""
        return [row for row in self.rows if row[0] == first][-1]


def reported(folder: Path, *argv: object) -> Outline:
    """The page that comes of a command."""
    trace("report", *argv, "-o", "page.html", "--force", cwd=folder)
    return Outline((folder / "page.html").read_text())


def lost_write(
    folder: Path, requests: list[Request] = LOST, together: int = 1, **more: Any
) -> dict[str, Any]:
    """A trace, and a verdict in verdict.json that its second write was lost, or ``more``."""
    make_trace(folder / "w.trace", requests, together=together)
    op = {
        "seq": 1,
        "kind": "write",
        "offset": 1 << 20,
        "length": 4096,
        "flags": [],
        "submitted": 100,
    }
    one = {
        "sector": 2048,
        "sectors": 8,
        "class": "lost-write",
        "source": None,
        "text": "nothing there",
    }
    verdict = {
        "schema": 1, "verdict": "damaged", "reason": "the image is wrong", "driver": "some",
        "trace": "w.trace", "size": 4 << 20, "ops": 3, "culprit": op, "damage": [one],
        "culprit_damage": [one], "first_bad_read": None, "symptom": "image",
    }  # fmt: skip
    verdict |= more
    (folder / "verdict.json").write_text(json.dumps(verdict))
    return verdict
