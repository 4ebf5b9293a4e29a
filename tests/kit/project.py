"""A repository of a small driver, a build per commit: nbdkit with a plugin in Python.

The build is ``build/qemu-nbd``, so that ``--driver raw@build`` runs it. It takes qemu-nbd's
arguments and serves the image with the plugin of its commit.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.kit.peers import PEER_ENV, peer

GOOD = "pass"
BAD = "data = data[:512]"
"""What a build does with the data of a write, before it writes them. BAD loses the rest of it."""

NO_BUILD = "this is no Python"

PLUGIN = """\
import nbdkit, os

API_VERSION = 2
image = None

def config(key, value):
    global image
    image = os.open(value, os.O_RDWR)

def open(readonly):
    return 1

def get_size(h):
    return os.fstat(image).st_size

def pread(h, buf, offset, flags):
    buf[:] = os.pread(image, len(buf), offset)

def pwrite(h, buf, offset, flags):
    data = bytes(buf)
    {change}
    os.pwrite(image, data, offset)

def flush(h, flags):
    os.fsync(image)
"""

PROGRAM = """\
#!/bin/sh
# run as qemu-nbd: serve the last argument at --socket=PATH
for word do case $word in --socket=*) socket=${word#*=} ;; --version) exit ;; esac; done
exec nbdkit --foreground --unix "$socket" python "${0%/*}/plugin.py" image="$word"
"""

MAKEFILE = """\
build: plugin.py program
\tpython3 -c 'compile(open("plugin.py").read(), "plugin.py", "exec")'
\tmkdir -p build && cp plugin.py build/ && cp program build/qemu-nbd && chmod +x build/qemu-nbd
\t{then}
.PHONY: build
"""


@dataclass(frozen=True)
class Commit:
    """What a commit does with the data of a write, and the last step of its build."""

    change: str = GOOD
    then: str = "true"


def project(folder: Path, commits: list[Commit]) -> list[str]:
    """Make a repository with these commits in a folder; return their hashes, the oldest first."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".gitignore").write_text("build/\n")
    hashes = []
    for number, commit in enumerate(commits):
        (folder / "plugin.py").write_text(PLUGIN.replace("{change}", commit.change))
        (folder / "program").write_text(PROGRAM)
        (folder / "Makefile").write_text(MAKEFILE.replace("{then}", commit.then))
        (folder / "NEWS").write_text(f"{number}\n")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "-m", f"change {number}")
        hashes.append(git(folder, "rev-parse", "HEAD").strip())
    return hashes


WHO = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; return what it printed."""
    return peer("git", *WHO, "-C", folder, *words)


def shell(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with ``sh``, its output in one stream. The exit code is the caller's matter."""
    return subprocess.run(
        ["sh", "-c", script],
        cwd=cwd, env=PEER_ENV | environment, text=True, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def with_trace(folder: Path, python: str) -> str:
    """Put the command ``trace`` into a folder, run by this Python; return PATH with it in front."""
    folder.mkdir(exist_ok=True)
    script = folder / "trace"
    root = Path(__file__).parents[2]
    script.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {python} -m blkbox "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{PEER_ENV['PATH']}"
