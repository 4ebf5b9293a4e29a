"""A program as a Python script on libnbd, which starts any NBD server or takes a URI."""

from dataclasses import dataclass
from pprint import pformat

from replay.minimize.program import Program, Step, groups
from replay.script.about import About, attempts, comment, tries
from replay.script.expected import Disk, why_not
from tracer.op import KIND_BY_NUMBER, Kind


@dataclass(frozen=True, slots=True)
class Server:
    """How the script makes its image and starts its server: command lines with ``{image}``,
    ``{size}``, ``{start}``, ``{base}`` and ``{socket}``. None: there is no such step."""

    serve: tuple[str, ...] | None
    create: tuple[str, ...] | None
    check: tuple[str, ...] | None
    check_passes: tuple[int, ...]
    env: dict[str, str]
    export: str
    uri: str | None = None
    """The URI of a server that runs, in place of ``serve``."""


def why_not_nbdsh(program: Program) -> str | None:
    """Return why a program cannot be a script for nbdsh; None if it can."""
    return why_not(program)


def nbdsh_script(program: Program, server: Server, about: About) -> str:
    """Return the script."""
    disk = Disk(program)
    start = [step for step in program.steps if step.kind == Kind.START]
    disk.done(start)
    rows: list[object] = []
    number = 0
    for group in groups(program) or ():
        group = [step for step in group if step.kind != Kind.START]
        if not group:
            continue
        if group[0].restart:
            rows.append("restart")
        expected = {id(step): pieces for step, pieces in disk.reads(group)}
        row = []
        for step in group:
            pieces = [(one.start, one.stop, one.values) for one in expected.get(id(step), [])]
            row.append((*_row(step), pieces))
            number += 1
        rows.append(row)
        disk.done(group)
    final = [(piece.start, piece.stop, piece.values) for piece in disk.final()]
    how = (
        "It needs libnbd's Python module (python3-libnbd). Argument: the URI of a server that runs "
        f"already, if not the one below. {tries(program)}"
    )
    facts = {
        "CREATE": server.create, "SERVE": server.serve, "CHECK": server.check,
        "CHECK_PASSES": server.check_passes, "ENV": server.env, "EXPORT": server.export,
        "URI": server.uri, "ATTEMPTS": attempts(program), "SIZE": program.size,
        "START": [(step.offset, step.length, _byte(step)) for step in start],
        "GROUPS": rows, "FINAL": final,
    }  # fmt: skip
    lines = [f"{name} = {pformat(value, width=90)}" for name, value in facts.items()]
    return "\n".join(
        ["#!/usr/bin/env python3", comment(about, how), "", _HEAD, *lines, _BODY]
    )  # fmt: skip


def _row(step: Step) -> tuple[str, int, int, int, int | None, int]:
    """Return a step as (kind, offset, length, flags, byte, connection)."""
    byte = step.fill.byte if step.fill is not None else None
    return (
        KIND_BY_NUMBER[step.kind].label, step.offset, step.length, step.flags, byte,
        step.connection,
    )  # fmt: skip


def _byte(step: Step) -> int:
    assert step.fill is not None
    assert step.fill.byte is not None
    return step.fill.byte


_HEAD = """import os
import signal
import subprocess
import sys
import tempfile
import time

import nbd

# commands; {image}, {size}, {start} and {socket} are replaced. GROUPS: what is in flight together,
# as (kind, offset, length, flags, byte, connection, what a read may return); FINAL: what the disk
# may hold at the end, as (start, stop, bytes)"""

_BODY = '''
READ = 16 << 20
faults = []


def broken(kind, error, trace):
    """A bug of this script is no fault of the server."""
    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    os._exit(125)


sys.excepthook = broken


def fault(text):
    print(f"fault: {text}")
    faults.append(text)


class Server:
    """The server under test, and connections to it."""

    def __init__(self, folder):
        self.folder = folder
        self.image = os.path.join(folder, "image")
        self.start_image = os.path.join(folder, "start.raw")
        self.socket = os.path.join(folder, "socket")
        self.process = None
        self.connections = {}
        self.uri = sys.argv[1] if len(sys.argv) > 1 else URI

    def words(self, command):
        places = {"{image}": self.image, "{image_option}": self.image, "{size}": str(SIZE),
                  "{start}": self.start_image, "{base}": self.start_image,
                  "{socket}": self.socket}
        found = []
        for word in command:
            for place, value in places.items():
                word = word.replace(place, value)
            found.append(word)
        return found

    def run(self, command):
        return subprocess.run(self.words(command), env={**os.environ, **ENV}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def create(self):
        if self.uri is not None:
            return
        with open(self.start_image, "wb") as file:
            file.truncate(SIZE)
            for offset, length, byte in START:
                file.seek(offset)
                file.write(bytes([byte]) * length)
        if CREATE is None:
            os.rename(self.start_image, self.image)
        elif self.run(CREATE).returncode:
            sys.exit(125)

    def start(self):
        if self.uri is not None:
            return
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.log = open(os.path.join(self.folder, "log"), "w+")
        self.process = subprocess.Popen(self.words(SERVE), env={**os.environ, **ENV},
                                        stdout=self.log, stderr=self.log)
        for _ in range(100):
            if os.path.exists(self.socket) or self.process.poll() is not None:
                break
            time.sleep(0.1)

    def connect(self, number):
        if number not in self.connections:
            handle = nbd.NBD()
            handle.set_strict_mode(0)
            for context in (nbd.CONTEXT_BASE_ALLOCATION,):
                handle.add_meta_context(context)
            handle.set_export_name(EXPORT)
            if self.uri is not None:
                handle.connect_uri(self.uri)
            else:
                for left in range(50, -1, -1):
                    try:
                        handle.connect_unix(self.socket)
                        break
                    except nbd.Error:
                        if not left or self.process.poll() is not None:
                            raise
                        time.sleep(0.1)
            self.connections[number] = handle
        return self.connections[number]

    def stop(self):
        for handle in self.connections.values():
            try:
                handle.shutdown()
            except nbd.Error:
                pass
        self.connections = {}
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            fault("the server does not stop")
            return
        if code not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            self.log.seek(0)
            said = self.log.read().strip().splitlines()
            fault(f"the server ended with {code}: {said[-1] if said else ''}")
        self.process = None

    def check(self):
        if self.uri is None and CHECK is not None:
            done = self.run(CHECK)
            if done.returncode not in CHECK_PASSES:
                fault(f"the check failed: {(done.stdout.splitlines() or [''])[0]}")


def submit(handle, kind, offset, length, flags, byte):
    """Start an op. Return its cookie, and the buffer of a read."""
    if kind == "read":
        buffer = nbd.Buffer(length)
        return handle.aio_pread(buffer, offset, flags=flags), buffer
    if kind == "write":
        data = nbd.Buffer.from_bytearray(bytearray([byte]) * length)
        return handle.aio_pwrite(data, offset, flags=flags), data
    if kind == "flush":
        return handle.aio_flush(flags=flags), None
    if kind == "block_status":
        return handle.aio_block_status(length, offset, lambda *_: 0, flags=flags), None
    start = {"trim": handle.aio_trim, "zero": handle.aio_zero, "cache": handle.aio_cache}[kind]
    return start(length, offset, flags=flags), None


def compare(what, data, offset, pieces):
    """Look at the bytes from offset on: are they what they may be?"""
    for start, stop, values in pieces:
        found = set(data[max(0, start - offset) : max(0, stop - offset)])
        if not found <= set(values):
            wrong = ", ".join(f"0x{byte:02x}" for byte in sorted(found - set(values))[:4])
            right = " or ".join(f"0x{byte:02x}" for byte in values)
            fault(f"{what}: bytes {start} to {stop - 1} hold {wrong}, not {right}")


def together(server, group):
    """Do the ops of a group, all in flight together."""
    flying = []
    for kind, offset, length, flags, byte, connection, pieces in group:
        handle = server.connect(connection)
        flying.append((handle, *submit(handle, kind, offset, length, flags, byte),
                       kind, offset, pieces))
    for handle, cookie, buffer, kind, offset, pieces in flying:
        try:
            while not handle.aio_command_completed(cookie):
                handle.poll(-1)
        except nbd.Error as error:
            fault(f"{kind} at {offset}: {error}")
            if handle.aio_is_dead() or handle.aio_is_closed():
                raise
            continue
        if kind == "read":
            compare("a read", buffer.to_bytearray(), offset, pieces)


def compare_all(server, when):
    handle = server.connect(1)
    for start, stop, values in FINAL:
        for at in range(start, stop, READ):
            data = handle.pread(min(READ, stop - at), at)
            compare(when, data, at, [(at, min(stop, at + READ), values)])


def attempt():
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        server.create()
        server.start()
        try:
            try:
                server.connect(1)
            except nbd.Error as error:
                print(f"cannot connect: {error}")
                server.stop()
                sys.exit(125)
            for group in GROUPS:
                if group == "restart":
                    server.stop()
                    server.check()
                    server.start()
                else:
                    together(server, group)
            compare_all(server, "at the end")
            if server.connect(1).can_flush():
                server.connect(1).flush()
                compare_all(server, "flushed")
            server.stop()
            server.check()
            server.start()
            compare_all(server, "reopened")
        except nbd.Error as error:
            fault(f"the server went away: {error}")
        server.stop()


def main():
    left = int(os.environ.get("ATTEMPTS", ATTEMPTS))
    while left and not faults:
        attempt()
        left -= 1
    if not faults:
        print("no fault")
    sys.exit(1 if faults else 0)


main()
'''
