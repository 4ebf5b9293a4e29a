"""Write what is left of a trace as scripts, and run each of them: does it show the fault?"""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from blkbox.minimizing.result import Minimized, Written
from replay.minimize.program import Program
from replay.options import ReplayOptions
from replay.script.about import About
from replay.script.iotest import iotest
from replay.script.nbdsh import Server, nbdsh_script, why_not_nbdsh
from replay.script.qemu_io import Image, qemu_io_script, why_not_qemu_io
from replay.start import alternatives
from tracer.driver import environment, tools
from tracer.driver.driver import Driver
from tracer.errors import UsageError
from tracer.files import check_new, write_whole
from tracer.op import Kind
from tracer.verdict import StartKind

RUNS = 10
"""Runs of a script that say how often it shows the fault."""

TIMEOUT = 120.0
"""Seconds that a script may take: it does a few ops."""

ALL_RUNS = 40.0
"""Seconds after which a script is not run again."""

ENOUGH = 0.5
"""The share of runs in which a script must show the fault, for no other form to be tried."""


class ScriptKind(StrEnum):
    """The forms of scripts."""

    QEMU_IO = "qemu-io"
    NBDSH = "nbdsh"
    IOTEST = "iotest"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A script to write."""

    path: Path
    kind: ScriptKind


def check_scripts(paths: list[Path], *, force: bool) -> list[Wanted]:
    """Return what to write, by the names of the files. Raises UsageError."""
    found = []
    for path in paths:
        check_new(path, force)
        if path.suffix == ".sh":
            kind = ScriptKind.QEMU_IO
        elif path.suffix == ".py":
            kind = ScriptKind.NBDSH
        elif ScriptKind.IOTEST in (path.name, path.suffix[1:]):
            kind = ScriptKind.IOTEST
        else:
            raise UsageError(
                f"--script {path}: give a name that ends in .sh (for qemu-io) or .py (for nbdsh), "
                "or iotest"
            )
        found.append(Wanted(path, kind))
    return found


def write_scripts(
    made: Minimized,
    program: Program,
    replaying: ReplayOptions,
    wanted: list[Wanted],
    say: Callable[[str], None],
) -> None:
    """Write scripts, run those that can be run, and note in ``made`` how often each showed the
    fault. Raises StorageError."""
    driver, program = _started(replaying, program)
    for script in wanted:
        say(f"writing {script.path}")
        done = Written(str(script.path), script.kind.value)
        made.scripts.append(done)
        texts = _texts(made, program, driver, script.kind, done)
        for number, text in enumerate(texts):
            if number and done.runs and done.shown >= ENOUGH * done.runs:
                break
            before = done.shown, script.path.read_bytes() if number else b""
            write_whole(script.path, text.encode())
            script.path.chmod(0o755)
            if script.kind is ScriptKind.IOTEST:
                done.why_not = "a skeleton: QEMU's tree runs it"
                continue
            _run(script, driver, done)
            if number and done.shown < before[0]:
                write_whole(script.path, before[1])
                script.path.chmod(0o755)
                done.shown = before[0]


def _started(replaying: ReplayOptions, program: Program) -> tuple[Driver, Program]:
    """Return the driver with commands that give a new image what the program starts with, and the
    program; it has writes in place of start steps if the data is written through the driver."""
    driver = replaying.driver
    if not any(step.kind == Kind.START for step in program.steps):
        return driver, program
    possible = alternatives(driver)
    usual = StartKind.CONVERTED if StartKind.CONVERTED in possible else StartKind.WRITTEN
    match replaying.start or usual:
        case StartKind.CONVERTED:
            return driver.converting(Path("{start}")), program
        case StartKind.BACKING:
            return driver.backed_by(Path("{base}")), program
    return driver, _writing_first(program)


def _writing_first(program: Program) -> Program:
    """Return the program with its start steps as writes, one after the other before all else."""
    room = 2 * len(program.steps)
    return replace(
        program,
        steps=tuple(
            replace(step, kind=int(Kind.WRITE), begin=2 * at, end=2 * at + 1)
            if step.kind == Kind.START
            else replace(step, begin=step.begin + room, end=step.end + room)
            for at, step in enumerate(program.steps)
        ),
    )


def _texts(
    made: Minimized, program: Program, driver: Driver, kind: ScriptKind, done: Written
) -> list[str]:
    """Return the script in the forms in which it can be written, the best first."""
    about = _about(made, driver)
    if kind is ScriptKind.NBDSH:
        done.why_not = why_not_nbdsh(program)
        server = _server(driver)
        return [] if done.why_not else [nbdsh_script(program, server, about)]
    image = _image(driver)
    if image is None:
        done.why_not = f"{driver.name} is not served by qemu-nbd: write a .py for nbdsh"
        return []
    done.why_not = why_not_qemu_io(program)
    if done.why_not:
        return []
    if kind is ScriptKind.IOTEST:
        return [iotest(program, image, about)]
    forms = (False, True) if _qemu_io(driver) is not None else (True,)
    return [qemu_io_script(program, image, about, served=served) for served in forms]


def _about(made: Minimized, driver: Driver) -> About:
    versions = environment.versions(driver)
    host = environment.host()
    named = tuple(
        f"{name} {number}" for name, number in versions.items()
        if name not in ("python", "msgpack", "blkbox")
    )  # fmt: skip
    return About(
        fault=made.fault,
        driver=driver.name,
        trace=Path(made.trace).name,
        ops=made.ops_before,
        versions=(*named, f"blkbox {version('blkbox')}", f"kernel {host['kernel']}"),
        should="all ops succeed, reads return what was written, and the check passes",
        does=made.small_verdict.reason if made.small_verdict is not None else made.reason,
        steps=tuple(made.steps),
        odds=f"A replay of these ops showed it in {made.shown} of {made.shown_runs} runs.",
    )


def _image(driver: Driver) -> Image | None:
    """Return how qemu-io opens a driver's image; None if qemu-nbd does not serve it."""
    serve, socket = driver.serve, "--socket={socket}"
    if serve is None:
        return Image("raw", ("create", "-q", "-f", "raw", "{image}", "{size}"),
                     ("--format=raw", "{image}"))  # fmt: skip
    if Path(serve[0]).name != "qemu-nbd" or socket not in serve or driver.create is None:
        return None
    at = serve.index(socket)
    return Image(
        driver.suffix,
        driver.create[1:],
        serve[at + 1 :],
        serve[1:at],
        driver.check[1:] if driver.check is not None else None,
    )


def _server(driver: Driver) -> Server:
    address = driver.address
    return Server(
        serve=driver.serve,
        create=driver.create,
        check=driver.check,
        check_passes=tuple(sorted(driver.check_passes)),
        env=driver.env,
        export=driver.export,
        uri=address.uri() if address is not None else None,
    )


def _qemu_io(driver: Driver) -> str | None:
    """Return the qemu-io of the driver's build; None if the build has none."""
    build = Path(driver.serve[0]).parent if driver.serve is not None else None
    installed = tools.find("qemu-io")
    if build is None or (tools.find("qemu-nbd") == (driver.serve or ("",))[0]):
        return installed
    own = build / "qemu-io"
    return str(own) if own.exists() else None


def _run(script: Wanted, driver: Driver, done: Written) -> None:
    """Run a script a few times, on the build that shows the fault."""
    env = dict(os.environ)
    command = ["sh", str(script.path.absolute())]
    if script.kind is ScriptKind.QEMU_IO:
        client = _qemu_io(driver) or tools.find("qemu-io")
        if client is None:
            done.why_not = "not run: there is no qemu-io"
            return
        env["QEMU_IO"] = client
        for name, words in (("QEMU_IMG", driver.create), ("QEMU_NBD", driver.serve)):
            if words is not None:
                env[name] = words[0]
    else:
        python = _python_with_nbd()
        if python is None:
            done.why_not = "not run: no Python here has libnbd's module (python3-libnbd)"
            return
        command = [python, str(script.path.absolute())]
    done.runs = done.shown = 0
    over = time.monotonic() + ALL_RUNS
    while done.runs < RUNS and time.monotonic() < over:
        try:
            code = subprocess.run(
                command, env=env, timeout=TIMEOUT, check=False, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = 1  # whatever hangs, hangs because of these ops
        if code == 125:
            done.why_not = "it could not be tried here: exit status 125"
            return
        done.runs += 1
        done.shown += code == 1


def _python_with_nbd() -> str | None:
    """Return a Python that has libnbd's module."""
    for python in ("python3", "/usr/bin/python3"):
        try:
            found = subprocess.run(
                [python, "-c", "import nbd"], check=False, capture_output=True
            )  # fmt: skip
        except OSError:
            continue
        if not found.returncode:
            return python
    return None
