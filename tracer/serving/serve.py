"""``trace serve``: an NBD server for the disk as it should have been at a moment of a trace."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tracer.disk import private
from tracer.disk.loop import Loop
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


def serve(options: ServeOptions, say: Callable[[str], None]) -> int | None:
    """Serve until the command has ended or a signal comes. Return the command's exit status, if
    there is one, negative for a signal. ``say`` shows a message to the user.

    Raises UsageError if the address, the op or the command cannot be used, TraceError if the trace
    cannot be read, StorageError if there is no room for ``scratch``. Must run in the main thread,
    since it handles signals.
    """
    private.sweep()
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        sock, address = listen(options, stack)
        source = stack.enter_context(TraceWithData(options.trace))
        trace = source.trace
        before = last_op(trace) + 1 if options.at is None else resolve_upto(trace, options.at)
        past = Past(source, before)
        disk: Past | Scratch = past
        if options.scratch:
            disk = stack.enter_context(Scratch(past))
        signals = stack.enter_context(Signals(loop))
        if not source.real:
            say("blkbox: the trace has no payloads: the data is made from digests, not the guest's")
        server = _Server(loop, sock, disk, options, say)
        stack.callback(server.close)
        command = None
        if options.command:
            command = GuestCommand(loop, options.command, address.uri(), {})
            stack.callback(command.kill)
            signals.forward_to(command.signal)
        else:
            when = f"after op #{before - 1}" if before else "before the first op"
            mode = "writes are forgotten at the end" if options.scratch else "read-only"
            say(f"serving {printable(str(trace.path))} {when}, {mode}: {address.uri()}")
        problem = None
        while command.exited is None if command is not None else signals.received is None:
            server.turn()
            if past.problem is not problem:
                problem = past.problem
                say(f"blkbox: {problem}")
        return command.exited if command is not None else None


class _Server:
    """Answers all clients from one disk, each request at once."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        disk: Past | Scratch,
        options: ServeOptions,
        say: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._disk = disk
        self._acceptor = Acceptor(
            loop, sock, replace(disk.export, name=options.export_name),
            tls=security(options), say=say, warn=at_most(MAX_WARNINGS, say),
        )  # fmt: skip

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

    def close(self) -> None:
        """Disconnect all clients, and take no more."""
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
