"""Nothing that a trace, a verdict or a file's name says becomes markup, runs, or is opened.

Pages are read by Python's HTML parser, which every machine has, and shown by a real browser where
there is one. It is no peer that ``make test`` installs: it takes 400 MB, and the parser sees the
same.
"""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.report import of_trace, of_verdict
from analysis.report.markup import MAX_TEXT, Markup, element, join
from tests.kit.browser import PROGRAM, Page, browser
from tests.kit.command import trace
from tests.kit.peers import PEER_ENV
from tests.kit.system import PATIENCE
from tracer.op import Op
from tracer.text import printable
from tracer.trace.file import TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, Mark, Mismatch, pack_op
from tracer.verdict_file import load

HOSTILE = [
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "' onmouseover='document.title=1' x='",
    "</style><script>document.title='owned'</script>",
    "</title></pre></table></section><h1>owned</h1>",
    "<svg onload=document.title='owned'>",
    "--><script>document.title='owned'</script><!--",
    "]]><script>document.title='owned'</script>",
    "<a href=javascript:document.title='owned'>&amp;&lt;&#60;script&#62;",
    "\u202egnp.exe\u2066\u200f\u200b\u2028\ufeff",
    "\x1b]0;owned\x07\x00\x08\r\n\x85\x9b31m",
    "\u0627\u0644\u0639 \u05d0\u05d1 {{7*7}} ${7*7} %s {0} $x_1$ \\frac",
]
NAME = "<img src=x onerror=document.title='owned'>\u202e\n\x1b[31m"
"""A file's name, which has no slash."""

ELEMENTS = set(
    re.findall(
        "[a-z0-9]+",
        "html head meta title style body header h1 h2 p nav ul li a main section dl div dt dd pre "
        "code span mark table caption thead tbody tr th td figure figcaption img footer",
    )
)
ATTRIBUTES = set(
    re.findall(
        "[a-z-]+",
        "lang charset http-equiv content name id class href src alt scope role tabindex aria-label "
        "aria-labelledby",
    )
)


class Everything(HTMLParser):
    """All elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def hostile_trace(path: Path) -> Path:
    """A trace that says hostile things wherever a trace can say anything."""
    odd: dict[str, Any] = dict(zip(HOSTILE, reversed(HOSTILE), strict=True))
    header = Header(
        1 << 20, driver={"name": HOSTILE[0], "serve": HOSTILE, **odd},
        host={"name": HOSTILE[1], **odd},
        tools={**odd, "list": [HOSTILE[2], {"deep": HOSTILE[3]}], "path": "/etc/passwd"},  # type: ignore[dict-item]
        id=HOSTILE[4], started=(1 << 63) - 1,
    )  # fmt: skip
    writer = TraceWriter(path, header)
    writer.write([pack_op(Op(at, at % 2, 0, 4096, 4096, at, at + 2)) for at in range(30)])
    for at, name in enumerate(HOSTILE):
        writer.mark(Mark(at, at, name.replace("\0", "")))
    writer.mismatch(Mismatch(20, 1, 4096, 512, 0, 0, 7, 0, bytes(16)))
    writer.close(End(30, 1, 0, HOSTILE[0]))
    return path


def hostile_verdict(trace: Path) -> dict[str, Any]:
    """A verdict that says hostile things wherever it can say anything."""
    damage = [
        {
            "sector": 8 + at, "sectors": 1, "class": "foreign", "text": name,
            "source": {"seq": 3, "kind": name, "offset": 0, "length": 512, "at": 0},
        }
        for at, name in enumerate(HOSTILE)
    ]  # fmt: skip
    all_said = "\n".join(HOSTILE)
    return {
        "schema": 1, "verdict": "damaged", "reason": all_said, "driver": all_said,
        "trace": str(trace),
        "size": 1 << 20, "ops": 30, "damage": damage, "culprit_damage": damage,
        "culprit": {"seq": 21, "kind": "write", "offset": 4096, "length": 4096, "flags": [],
                    "submitted": 21},
        "first_bad_read": {"seq": 22, "sector": 8}, "symptom": "crash", "log": all_said * 3,
        "command": HOSTILE, "plot": "/etc/passwd", "reader": HOSTILE[0],
        "bytes": {"sector": 8, "offset": 4096, "expected": b"<script>".hex() * 64,
                  "actual": b"<img src".hex() * 64},
        "environment": {"host": {name: name for name in HOSTILE}, "driver": {"serve": HOSTILE},
                        "tools": {"a": [[HOSTILE[0]]]}, HOSTILE[0]: HOSTILE[0]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of both kinds."""
    folder = tmp_path_factory.mktemp("hostile")
    path = hostile_trace(folder / f"{NAME}.trace")
    (folder / "verdict.json").write_text(json.dumps(hostile_verdict(path)))
    verdict = load(folder / "verdict.json")
    with analysis.open(path) as recording:
        return {
            "trace": of_trace(recording, NAME),
            "verdict": of_verdict(recording, verdict, NAME),
        }


@pytest.fixture(params=["trace", "verdict"])
def page(request: pytest.FixtureRequest, pages: dict[str, str]) -> str:
    return pages[request.param]


# ---------------------------------------------------------------- as a parser reads it


@pytest.mark.slow
def test_hostile_words_are_words(page: str) -> None:
    read = Everything(page)
    assert set(read.elements) <= ELEMENTS
    assert {name for name, _ in read.attributes} <= ATTRIBUTES
    assert (read.elements["title"], read.elements["style"], read.elements["h1"]) == (1, 1, 1)
    for words in HOSTILE:
        assert printable(words) in read.text
    assert printable(NAME) in read.text


def test_nothing_is_hidden(page: str) -> None:
    """No character that cannot be seen is left, in any place."""
    assert {c for c in html.unescape(page) if not c.isprintable()} <= {"\n"}


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    read = Everything(page)
    assert all(value.startswith("#") for name, value in read.attributes if name == "href")
    assert all(value.startswith("data:image/") for name, value in read.attributes if name == "src")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|@font-face", style[1])
    (policy,) = (value for _, value in read.attributes if "default-src" in value)
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; img-src data:", policy
    )


def test_pictures_have_no_scripts_either(page: str) -> None:
    sources = [value for name, value in Everything(page).attributes if name == "src"]
    kinds = [source.partition(";")[0] for source in sources]
    assert set(kinds) <= {"data:image/svg+xml", "data:image/png"}
    for source in sources:
        drawn = base64.b64decode(source.partition(",")[2])
        assert drawn.startswith((b"\x89PNG", b"<?xml"))
    (drawn,) = [
        base64.b64decode(source.partition(",")[2])
        for kind, source in zip(kinds, sources, strict=True)
        if kind == "data:image/svg+xml"
    ]
    for one in ET.fromstring(drawn).iter():
        assert one.tag.rpartition("}")[2] not in ("script", "foreignObject", "a", "image", "iframe")
        for name, value in one.attrib.items():
            assert not name.rpartition("}")[2].startswith("on")
            if name.endswith("href"):
                assert value.startswith("#")


def test_every_picture_and_table_has_words(page: str) -> None:
    read = Everything(page)
    assert all(value for name, value in read.attributes if name in ("alt", "aria-label"))
    assert read.elements["img"] == Counter(name for name, _ in read.attributes)["alt"] > 0
    assert read.elements["table"] == read.elements["caption"] > 0
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value[1:] for name, value in read.attributes if name == "href"}
    assert links <= set(ids)


@given(st.text(), st.text())
def test_any_text_stays_text(words: str, value: str) -> None:
    page = join((words, element("p", words, Markup("<b>ours</b>"), title=value), words))
    read = Everything(page)
    shown = printable(words)
    if len(words) <= MAX_TEXT:
        assert read.text == f"{shown}{shown}ours{shown}"
    assert read.elements == {"p": 1, "b": 1}
    assert read.attributes == [("title", printable(value))]


# ---------------------------------------------------------------- what is touched


HOOK = """
import sys
seen = open(sys.argv.pop(1), "w")
def hook(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "socket.connect", "subprocess.Popen",
                 "os.system", "os.exec", "os.posix_spawn"):
        print(event, repr(arguments[:2]), file=seen, flush=True)
import blkbox.main
sys.addaudithook(hook)
blkbox.main.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["verdict.json", "h.trace"])
def test_nothing_that_is_named_is_opened_or_run(tmp_path: Path, source: str) -> None:
    """What a trace names, and what a verdict names but for its trace."""
    folder = tmp_path / "untouched"
    folder.mkdir()
    (folder / "plot.png").write_text("mine")
    named = [str(folder / "plot.png"), f"nbd+unix:///?socket={folder}/sock", f"touch {folder}/ran"]
    driver = {"name": named[0], "serve": ["touch", f"{folder}/ran"]}
    tools = dict(zip(named, named, strict=True))
    header = Header(1 << 20, driver=driver, host={"a": named[0], "b": named[1:]}, tools=tools)
    writer = TraceWriter(tmp_path / "h.trace", header)
    writer.write([pack_op(Op(at, at % 2, 0, 4096, 4096, at, at + 2)) for at in range(30)])
    writer.mark(Mark(0, 0, named[0][:86]))
    writer.mismatch(Mismatch(20, 1, 4096, 512, 0, 0, 7, 0, bytes(16)))
    writer.close(End(30, 1, 0, "clean"))
    verdict = hostile_verdict(Path("h.trace")) | {
        "plot": named[0], "driver": named[0], "reader": named[1], "log": named[0],
        "command": ["touch", f"{folder}/ran"], "environment": {"driver": driver},
    }  # fmt: skip
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    subprocess.run(
        [sys.executable, "-c", HOOK, "seen", "report", source, "-o", "page.html"],
        cwd=tmp_path, env=PEER_ENV, timeout=PATIENCE, check=True, capture_output=True,
    )  # fmt: skip
    seen = (tmp_path / "seen").read_text()
    assert "h.trace" in seen
    assert "untouched" not in seen
    assert "socket.connect" not in seen
    assert "subprocess.Popen" not in seen
    assert sorted(path.name for path in folder.iterdir()) == ["plot.png"]


# ---------------------------------------------------------------- as a browser shows it


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if shutil.which(PROGRAM, path=PEER_ENV["PATH"]) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


def opened(shown: Page, path: Path, page: str, width: int = 1200) -> Page:
    path.write_text(page)
    shown.open(path, width)
    return shown


def test_no_script_runs_and_no_element_is_made(shown: Page, page: str, tmp_path: Path) -> None:
    """With the policy that forbids scripts, and with the page's escaping alone."""
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert bare != page
    read = Everything(page)
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    assert title is not None
    for number, version in enumerate((page, bare)):
        opened(shown, tmp_path / f"{number}.html", version)
        count = "document.getElementsByTagName('*').length"
        assert shown.run(count) == read.elements.total() - number
        assert shown.run("document.title") == " ".join(html.unescape(title[1]).split())
        names = (
            "[...new Set([...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()))]"
        )
        assert set(shown.run(names)) <= ATTRIBUTES
        assert shown.run(
            "performance.getEntriesByType('resource').every(e => e.name.startsWith('data:'))"
        )


def test_the_policy_lets_our_style_and_picture_in_and_no_script(
    shown: Page, page: str, tmp_path: Path
) -> None:
    opened(shown, tmp_path / "p.html", page)
    assert shown.run("getComputedStyle(document.querySelector('dl div')).display") == "grid"
    assert shown.run("document.images[0].naturalWidth") > 100
    opened(
        shown,
        tmp_path / "s.html",
        page.replace("</body>", "<script>document.title=1</script></body>"),
    )
    assert shown.run("document.title") != "1"


@pytest.mark.parametrize("width", [320, 375, 390, 768, 1600])
def test_no_width_makes_the_page_scroll_sideways(
    shown: Page, page: str, tmp_path: Path, width: int
) -> None:
    opened(shown, tmp_path / "w.html", page, width)
    assert shown.run("innerWidth") == width
    assert shown.run("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("dark", [False, True])
def test_pictures_have_white_ground_on_every_page(
    shown: Page, page: str, tmp_path: Path, dark: bool
) -> None:
    """A dark cell is more ops: pictures are not turned into their negative."""
    (tmp_path / "p.html").write_text(page)
    shown.open(tmp_path / "p.html", dark=dark)
    ground = "[...document.querySelectorAll('figure .scroll')].map(e => getComputedStyle(e)"
    assert set(shown.run(f"{ground}.backgroundColor)")) == {"rgb(255, 255, 255)"}
    body = shown.run("getComputedStyle(document.body).backgroundColor")
    assert body == ("rgb(22, 23, 24)" if dark else "rgb(255, 255, 255)")
    looks = shown.run("[...document.images].map(e => getComputedStyle(e).filter)")
    assert all(look.startswith("brightness(0.8") == dark for look in looks)


def test_on_a_phone_pictures_scroll_in_their_box(shown: Page, page: str, tmp_path: Path) -> None:
    opened(shown, tmp_path / "p.html", page, 375)
    boxes = shown.run(
        "[...document.querySelectorAll('figure .scroll')].map(e => [e.clientWidth, e.scrollWidth])"
    )
    assert boxes
    assert all(width < 375 and inside >= 890 for width, inside in boxes)


def test_the_page_prints(shown: Page, page: str, tmp_path: Path) -> None:
    printed = opened(shown, tmp_path / "p.html", page).pdf()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") >= 2
    # on paper nothing scrolls: what is wider than its box would be lost
    shown.call("Emulation.setEmulatedMedia", media="print")
    shown.call(
        "Emulation.setDeviceMetricsOverride",
        width=688,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    scrolled = "[...document.querySelectorAll('.scroll')]"
    wide = f"{scrolled}.filter(e => e.scrollWidth > e.clientWidth).length"
    assert shown.run(wide) == 0
    shown.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.slow
def test_a_file_with_a_hostile_name_makes_a_page(tmp_path: Path) -> None:
    path = hostile_trace(tmp_path / f"{NAME}.trace")
    done = trace("report", path, "-o", "page.html", cwd=tmp_path)
    assert done.stderr == ""
    assert printable(NAME) in Everything((tmp_path / "page.html").read_text()).text
