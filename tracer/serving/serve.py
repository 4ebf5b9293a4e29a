"""``trace serve``: an NBD server for the disk as it should have been at a moment of a trace."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

from tracer.closing import Closing
from tracer.disk import private
from tracer.disk.loop import Loop
from tracer.errors import TraceError
from tracer.nbd.server import Request, Server
from tracer.nbd.uri import Tls
from tracer.op import Kind
from tracer.recording.acceptor import Acceptor
from tracer.recording.connection import MAX_WARNINGS, at_most
from tracer.recording.guest import GuestCommand
from tracer.recording.listener import listen, security
from tracer.recording.signals import Signals
from tracer.serving.past import Answer, Past
from tracer.serving.scratch import Scratch
from tracer.text import printable
from tracer.trace.data import TraceWithData
from tracer.trace.marks import last_op, resolve_upto


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What to serve, and to whom."""

    trace: Path
    at: str | None = None
    """The op after which, or the mark at which; None: after the last op."""
    scratch: bool = False
    """Take writes, and forget them at the end."""
    listen: str | None = None
    """``unix:PATH`` or ``tcp:HOST:PORT``; None: a private unix socket."""
    allow_remote: bool = False
    """Allow an address that other machines can reach."""
    export_name: str = ""
    """The export's name. A client that names none gets this export too."""
    tls: Tls | None = None
    """What clients must authenticate the connection with; None: no TLS."""
    command: tuple[str, ...] = ()
    """The client's command; empty: serve until SIGINT, SIGTERM or SIGHUP."""


@dataclass(frozen=True, slots=True)
class Served:
    """A disk that is being served."""

    trace: str
    uri: str
    size: int
    """The disk's size in bytes."""
    before: int
    """The disk has the ops with a lower seq than this."""
    scratch: bool
    """Whether it takes writes, which are forgotten at the end."""
    schema: int = 1


def serve(
    options: ServeOptions, say: Callable[[str], None], ready: Callable[[Served], None] | None = None
) -> int | None:
    """Serve until the command has ended or a signal comes. Return the command's exit status, if
    there is one, negative for a signal. ``say`` shows a message to the user. ``ready`` gets what is
    served, before the command begins; None: ``say`` gets it in words, unless there is a command.

    Raises UsageError if the address, the op or the command cannot be used, TraceError if the trace
    cannot be read, StorageError if there is no room for ``scratch``. Must run in the main thread,
    since it handles signals.
    """
    with Loop() as loop, ExitStack() as stack:
        signals = stack.enter_context(Signals(loop))
        server = stack.enter_context(_Server(loop, options, say))
        served = server.served
        if ready is not None:
            ready(served)
        command = None
        if options.command:
            command = GuestCommand(loop, options.command, served.uri, {})
            stack.callback(command.kill)
            signals.forward_to(command.signal)
        elif ready is None:
            when = f"after op #{served.before - 1}" if served.before else "before the first op"
            mode = "writes are forgotten at the end" if served.scratch else "read-only"
            say(f"serving {printable(served.trace)} {when}, {mode}: {served.uri}")
        while command.exited is None if command is not None else signals.received is None:
            server.turn()
        return command.exited if command is not None else None


@contextmanager
def serving(options: ServeOptions, say: Callable[[str], None]) -> Iterator[Served]:
    """Serve in a thread while the block runs. ``options.command`` is not used. Raises as ``serve``,
    at the end of the block also what ended the thread."""
    over = False
    problem: list[Exception] = []
    with Loop() as loop, _Server(loop, options, say) as server:
        wake = os.eventfd(0, os.EFD_CLOEXEC)
        loop.add(wake, lambda _: None)

        def run() -> None:
            try:
                while not over:
                    server.turn()
            except Exception as error:  # noqa: BLE001  it is raised where the user sees it
                problem.append(error)

        thread = Thread(target=run, name="serve", daemon=True)
        thread.start()
        try:
            yield server.served
        finally:
            over = True
            os.eventfd_write(wake, 1)
            thread.join()
            loop.remove(wake)
            os.close(wake)
        if problem:
            raise problem[0]


class _Server(Closing):
    """Answers all clients from one disk, each request at once."""

    def __init__(self, loop: Loop, options: ServeOptions, say: Callable[[str], None]) -> None:
        private.sweep()
        self._loop = loop
        self._say = say
        self._problem: TraceError | None = None
        with ExitStack() as stack:
            sock, address = listen(options, stack)
            source = stack.enter_context(TraceWithData(options.trace))
            trace = source.trace
            before = last_op(trace) + 1 if options.at is None else resolve_upto(trace, options.at)
            self._past = Past(source, before)
            self._disk: Past | Scratch = self._past
            if options.scratch:
                self._disk = stack.enter_context(Scratch(self._past))
            if not source.real:
                say(
                    "blkbox: the trace has no payloads: the data is made from digests, not the "
                    "guest's"
                )
            self._acceptor = Acceptor(
                loop, sock, replace(self._disk.export, name=options.export_name),
                tls=security(options), say=say, warn=at_most(MAX_WARNINGS, say),
            )  # fmt: skip
            self.served = Served(
                str(trace.path), address.uri(), self._disk.export.size, before, options.scratch
            )
            stack.callback(self._disconnect)
            self._stack = stack.pop_all()

    def turn(self) -> None:
        """Wait for events, then answer what came in."""
        self._loop.poll(1.0)
        for client in self._acceptor.guests:
            server, backlog = client.server, client.backlog
            while backlog and not client.is_behind:
                request = backlog.popleft()
                answer = self._disk.execute(
                    request.kind, request.offset, request.length, request.data
                )
                _reply(server, request, answer)
                client.channel.send()
            client.channel.pause(bool(backlog) or client.is_behind)
        self._acceptor.tidy()
        if self._past.problem is not self._problem:
            self._problem = self._past.problem
            self._say(f"blkbox: {self._problem}")

    def close(self) -> None:
        """Disconnect all clients, take no more, and close the disk."""
        self._stack.close()

    def _disconnect(self) -> None:
        self._acceptor.close()
        self._acceptor.disconnect()


def _reply(server: Server, request: Request, answer: Answer) -> None:
    error, data, extents = answer
    if error:
        server.reply_error(request, error)
    elif request.kind == Kind.READ:
        assert data is not None
        server.reply_read(request, data)
    elif request.kind == Kind.BLOCK_STATUS:
        server.reply_status(request, extents)
    else:
        server.reply(request)
