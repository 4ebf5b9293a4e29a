"""The documentation: its site builds without a warning and takes nothing from another host, and the
links of its files work where they are read in the repository."""

import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from blkbox import __all__ as names
from blkbox.main import VERBS

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("demo/*.md")])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does: a link that leads nowhere ends it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT, text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loads(HTMLParser):
    """What a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.found.add(value or "")


@pytest.mark.slow
def test_the_site_has_a_page_for_each_verb_and_loads_nothing_from_elsewhere(site: Path) -> None:
    verbs = {path.stem for path in (site / "reference").glob("trace-*.html")}
    assert verbs == {f"trace-{verb}" for verb in VERBS}
    python = (site / "reference" / "api.html").read_text()
    assert {name for name in names if f">blkbox.{name}<" in python} == set(names)
    loads = Loads()
    pages = list(site.rglob("*.html"))
    for page in pages:
        loads.feed(page.read_text())
    assert loads.found
    assert not {url for url in loads.found if re.match(r"(\w+:)?//", url)}
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", styles)


def test_the_site_shows_a_pipe_in_a_table_as_one(site: Path) -> None:
    assert (
        "auto|backing|converted|written" in (site / "reference" / "trace-replay.html").read_text()
    )


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|^    .*?$|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub: a repeated one gets a number."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken(path: Path) -> list[str]:
    """The links of a page that lead nowhere in the repository."""
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text()))
    found = []
    for link in links:
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_links_of_a_page_lead_somewhere(path: Path) -> None:
    assert not broken(path)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b, c\n[a](#a-b-c) [b](#b) [c](none.md) `[d](code.md)` [e](page.md#x)\n")
    assert broken(page) == ["#b", "none.md", "page.md#x"]
