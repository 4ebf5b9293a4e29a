"""A headless Chromium, told what to do over its debugging pipe (the Chrome DevTools Protocol): a
message is JSON and ends with a zero byte."""

import base64
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.system import PATIENCE

PROGRAM = "chromium"

_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Starts a browser with its ends of the pipes where it wants them: file descriptors 3 and 4."""


class Page:
    """One page, at a phone's or any other width."""

    def __init__(self, to: int, come: int) -> None:
        self._to, self._from = to, come
        self._poll = select.poll()  # select() takes no descriptor above 1023
        self._poll.register(come, select.POLLIN)
        self._number, self._session, self._pending = 0, None, b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = session
        self.call("Page.enable")

    def open(self, path: Path, width: int = 1200, dark: bool = False) -> None:
        """Load a file in a window ``width`` CSS pixels wide; wait until it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + PATIENCE
        while self.run("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG, however long it is."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        """The page on A4 paper."""
        answer = self.call(
            "Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69,
            preferCSSPageSize=False,
        )  # fmt: skip
        return base64.b64decode(answer["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; events that come meanwhile are dropped."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            assert self._poll.poll(PATIENCE * 1000), "the browser does not answer"
            more = os.read(self._from, 1 << 20)
            assert more, "the browser went away"
            self._pending += more
        message, self._pending = self._pending.split(b"\0", 1)
        return dict(json.loads(message))


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with one page; ``folder`` is for what it keeps of its own."""
    theirs, ours, answers, out = *os.pipe(), *os.pipe()
    options = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
        "--no-first-run",
        "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={folder}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(theirs), str(out), PROGRAM, *options],
        pass_fds=(theirs, out),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.close(out)
    try:
        page = Page(ours, answers)
        yield page
        page.call("Browser.close")
    finally:
        os.close(ours)
        os.close(answers)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=PATIENCE)
