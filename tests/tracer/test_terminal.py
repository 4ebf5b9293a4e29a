"""The status row: it has the last row of the terminal, and leaves the others to the guest."""

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.peers import PEER_ENV, need
from tracer import terminal
from tracer.terminal import Rates

OURS = re.compile(r"\x1b7.*?\x1b8|\x1bD\x1bM")
"""What the row writes: it saves the cursor before and restores it after."""

GUEST = """
printf 'half a line'; sleep 1.5; echo ', the other half'
qemu-io -f raw -c 'write 0 4k' $NBD_URI >/dev/null; echo done
"""


def on_terminal(*argv: str, cwd: Path, term: str = "xterm", raw: bool = False) -> str:
    """Run a program on a terminal of 24 rows and 80 columns; return all that it shows."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    if raw:
        mode = termios.tcgetattr(its)
        mode[3] &= ~termios.ICANON
        termios.tcsetattr(its, termios.TCSANOW, mode)
    env = PEER_ENV | {"TERM": term}
    with subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, cwd=cwd, env=env) as process:
        os.close(its)
        shown = b"".join(chunks(ours))
    os.close(ours)
    assert process.returncode in (0, 125), shown.decode()
    return shown.decode()


def chunks(descriptor: int) -> Iterator[bytes]:
    with suppress(OSError):  # EIO: all programs on the terminal have ended
        while chunk := os.read(descriptor, 65536):
            yield chunk


def recorded(cwd: Path, *options: str, guest: str = GUEST, **how: str | bool) -> str:
    need("qemu-io")
    return on_terminal(
        *(sys.executable, "-m", "blkbox", "record", "t.trace", "--driver", "raw", "--size", "1M"),
        *(*options, "--", "sh", "-c", guest),
        cwd=cwd, **how,
    )  # fmt: skip


@pytest.mark.slow
def test_the_row_is_the_last_and_the_guest_s_lines_stay_whole(tmp_path: Path) -> None:
    shown = recorded(tmp_path)
    rows = [text for text in OURS.findall(shown) if "ops" in text]
    assert rows
    assert all("\x1b[1;23r\x1b[24;1H" in text for text in rows)
    assert "half a line, the other half\r\ndone\r\n" in OURS.sub("", shown)
    last = OURS.findall(shown)[-1]
    assert last == "\x1b7\x1b[24;1H\x1b[0m\x1b[K\x1b[r\x1b8"  # the whole screen scrolls again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "how"), [(["-q"], {}), ([], {"term": "dumb"}), ([], {"raw": True})]
)
def test_there_is_no_row_for_those_who_cannot_or_do_not_want_to_see_it(
    tmp_path: Path, options: list[str], how: dict[str, str | bool]
) -> None:
    assert not OURS.search(recorded(tmp_path, *options, **how))


def test_what_is_done_soon_shows_no_row(tmp_path: Path) -> None:
    assert not OURS.search(recorded(tmp_path, guest="true"))


def test_rates_are_those_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    rates = Rates(0)
    for second in range(1, 11):
        now = 100.0 + second
        assert rates.now(second * 50) == [50]
    for second in range(11, 17):
        now = 100.0 + second
        stalled = rates.now(500)
    assert stalled == [0]
