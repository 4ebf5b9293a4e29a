"""The blocks of code in the documentation, and how the tests run each.

A block has a language. Those of ``sh``, ``console`` and ``python`` are run, those of ``toml`` are
written to a file, and the rest is only shown. Comments before a block, which no reader sees, say
more:

    <!-- not run: needs a guest of 2 GB -->     why the tests do not run the block
    <!-- run by: tests/test_bisect.py -->       the test that does
    <!-- file: split.toml -->                   the block is the content of this file
    <!-- exits 1: trace replay x.trace -->      a command of the block that begins so exits with 1
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RUN, WRITTEN, SHOWN = {"sh", "console", "python"}, {"toml"}, {"text", "json", "yaml"}

COMMENT = re.compile(r"<!-- (not run|run by|file|exits \d+): (.*) -->")
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of a page."""

    line: int
    language: str
    text: str
    comments: tuple[tuple[str, str], ...]
    """What each comment is about, and what it says of it."""

    def says(self, about: str) -> str | None:
        """What a comment says, or None."""
        return dict(self.comments).get(about)

    @property
    def expected(self) -> dict[str, int]:
        """The beginnings of commands that exit with another code than 0, and the code."""
        return {
            words: int(about.split()[1])
            for about, words in self.comments
            if about.startswith("exits")
        }


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    found = []
    for fence in FENCE.finditer(page):
        comments = []
        before = page[: fence.start()].splitlines()
        while before and (comment := COMMENT.fullmatch(before[-1])):
            comments.append((comment[1], comment[2]))
            before.pop()
        line = page.count("\n", 0, fence.start()) + 1
        found.append(Block(line, fence[1], fence[2], tuple(comments)))
    return found


def commands(console: str) -> tuple[str, list[str]]:
    """The commands in a block of a terminal, and the lines that they print."""
    typed, printed, more = [], [], False
    for line in console.splitlines():
        if line.startswith("$ ") or more:
            typed.append(line.removeprefix("$ "))
            more = line.endswith("\\")
        else:
            printed.append(line)
    return "\n".join(typed) + "\n", printed


REPORTS = """\
trap 'code=$?; printf "%s\\t%s\\n" "$code" "${BASH_COMMAND//$'\\n'/ }" >&9' ERR
"""
"""Tells descriptor 9 of each command that fails. A pipe that its reader closes is no failure."""


def run(block: Block, folder: Path, environment: dict[str, str]) -> None:
    """Run a block in a folder, as its reader would; fail if a command ends otherwise than it should
    or does not print what the block shows."""
    script, printed = block.text, []
    if block.language == "console":
        script, printed = commands(script)
    if block.language == "python":
        argv = [sys.executable, "-W", "error", "-c", script]
    else:
        argv = ["bash", "-c", f"exec 9>.failed\n{REPORTS}{script}"]
    done = subprocess.run(
        argv, cwd=folder, env=environment, text=True, check=False, timeout=300,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if block.language == "python":
        assert done.returncode == 0, done.stdout
        return
    failed = [line.split("\t", 1) for line in (folder / ".failed").read_text().splitlines()]
    wanted = dict(block.expected)
    for code, command in failed:
        [began] = [words for words in wanted if command.startswith(words)] or [""]
        assert wanted.pop(began, 0) == int(code), f"exit {code}: {command}\n{done.stdout}"
    assert not wanted, f"these do not fail as the page says: {wanted}\n{done.stdout}"
    said = {alike(line) for line in done.stdout.splitlines()}
    missing = [line for line in printed if alike(line) not in said]
    assert not missing, "\n".join(["not printed:", *missing, "but:", done.stdout])


def alike(line: str) -> str:
    """A line without what differs from run to run: numbers, and the spaces that align them."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]+", "#", line)).strip()
