"""A running recording's control socket, at which ``trace mark`` asks for a mark. Both ends of it.

Each recording listens at ``ID.control`` (ID is its trace's) in a folder that only its user can enter.
A request is one message (SOCK_SEQPACKET keeps them apart), a JSON object, and so is the answer::

    {"mark": "boot done"}  ->  {"trace": "/x/install.trace", "seq": 1234, "time": 5678}
    {}                     ->  {"trace": "/x/install.trace"}
    anything else          ->  {"error": "what is wrong with it", "code": 200}

``code`` is the exit code that ``trace mark`` is to end with (tracer/errors.py).

Both ends ask the kernel who is at the other (SO_PEERCRED, unix(7)) and talk to their own user alone.
"""

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tracer.disk.loop import Loop
from tracer.errors import BlkboxError, Exit, StorageError, UsageError
from tracer.text import printable
from tracer.trace.file import Trace
from tracer.trace.marks import check_name
from tracer.trace.records import Mark

SUFFIX = ".control"

VARIABLE = "BLKBOX_CONTROL"
"""The environment variable that tells a guest's command where its recording's socket is."""

MAX_MESSAGE = 16 << 10
"""Bytes in a message: a path has at most 4096 (PATH_MAX), of which JSON may make three times as many."""

MAX_PEERS = 16
"""Connections at a time; more are turned away."""

PATIENCE = 10.0
"""Seconds that a recorder has to answer. It does so between two requests of its guest, so only one
whose disk stands still takes longer."""


# ---------------------------------------------------------------- the folder


def folders() -> list[Path]:
    """Where control sockets may be, best first: ``blkbox`` in $XDG_RUNTIME_DIR (XDG Base Directory
    Specification: ours alone, and ignored unless absolute), else ``blkbox-UID`` in $TMPDIR or /tmp."""
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError):
        # not another user's, as it is after sudo: what we made there would be in that user's way
        if os.path.isabs(runtime) and os.stat(runtime).st_uid == os.geteuid():
            found.append(Path(runtime) / "blkbox")
    places = os.environ.get("TMPDIR") or "/tmp", "/tmp"
    found += [Path(place).absolute() / f"blkbox-{os.geteuid()}" for place in places]
    return list(dict.fromkeys(found))


def _enter(folder: Path) -> int:
    """Open a folder; OSError unless it is ours and nobody else may enter it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or info.st_mode & 0o077:
        os.close(fd)
        raise PermissionError(f"{folder} is not private")
    return fd


def _inside(fd: int, name: str) -> str:
    """A path to a socket in an open folder: short enough for sun_path's 108 bytes, wherever it is."""
    return f"/proc/self/fd/{fd}/{name}"


def _is_ours(peer: socket.socket) -> bool:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    _pid, uid, _gid = struct.unpack("iII", credentials)
    return bool(uid == os.geteuid())


# ---------------------------------------------------------------- the recorder's end


class Control:
    """Listens for requests, as a handler of the loop. ``mark`` puts a mark into the recording, or
    raises BlkboxError. Raises OSError where no private folder can be had."""

    def __init__(self, loop: Loop, trace: Path, trace_id: str, mark: Callable[[str], Mark]) -> None:
        self._loop = loop
        self._trace = os.path.abspath(trace)
        self._mark = mark
        self._peers: dict[int, socket.socket] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.path = self._bind(f"{trace_id}{SUFFIX}")
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        loop.add(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._loop.remove(self._socket.fileno())
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _bind(self, name: str) -> Path:
        problem = OSError("no folder for it")
        for folder in folders():
            try:
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                fd = _enter(folder)
            except OSError as error:
                problem = error
                continue
            try:
                # it gets its name once it listens: one that refuses connections is a dead recorder's
                self._socket.bind(_inside(fd, f".{name}"))
                os.chmod(f".{name}", 0o600, dir_fd=fd)
                self._socket.listen(MAX_PEERS)
                os.rename(f".{name}", name, src_dir_fd=fd, dst_dir_fd=fd)
            finally:
                os.close(fd)
            return folder / name
        raise problem

    def _accept(self, _: int) -> None:
        try:
            peer, _address = self._socket.accept()
        except OSError:
            return  # it was gone before we came to it
        if not _is_ours(peer) or len(self._peers) >= MAX_PEERS:
            peer.close()
            return
        peer.setblocking(False)
        self._peers[peer.fileno()] = peer
        self._loop.add(peer.fileno(), partial(self._heard, peer))

    def _heard(self, peer: socket.socket, _: int) -> None:
        try:
            message = peer.recv(MAX_MESSAGE)
        except BlockingIOError:
            return  # woken for a descriptor that had this number before
        except OSError:
            message = b""
        with suppress(OSError):
            if message:
                peer.send(json.dumps(self._answer(message)).encode())
                return
        self._drop(peer)  # gone, or it does not fetch its answers

    def _drop(self, peer: socket.socket) -> None:
        del self._peers[peer.fileno()]
        self._loop.remove(peer.fileno())
        peer.close()

    def _answer(self, message: bytes) -> dict[str, object]:
        try:
            request = json.loads(message)
        except (ValueError, RecursionError):
            return {"error": "a request is a JSON object", "code": int(Exit.USAGE)}
        if request == {}:
            return {"trace": self._trace}
        if not isinstance(request, dict) or not isinstance(name := request.get("mark"), str):
            return {"error": "a request has a mark, or nothing", "code": int(Exit.USAGE)}
        try:
            check_name(name)
            mark = self._mark(name)
        except BlkboxError as error:
            return {"error": str(error), "code": int(error.exit_code)}
        return {"trace": self._trace, "seq": mark.seq, "time": mark.time}


# ---------------------------------------------------------------- the other end


def put_mark(name: str, trace: Path | None = None) -> dict[str, Any]:
    """Put a mark into the recording of ``trace``; without one, into that which $BLKBOX_CONTROL names,
    or else into the only one that runs. Returns ``trace``, ``seq`` and ``time`` (ns).

    Raises UsageError where it is not clear which recording is meant, or where that is over; StorageError
    where it does not answer.
    """
    check_name(name)
    with _reach(trace) as peer:
        answer = _ask(peer, {"mark": name})
    if "error" in answer:
        kind = StorageError if answer["code"] == Exit.STORAGE else UsageError
        raise kind(printable(answer["error"]))
    return answer


def _reach(trace: Path | None) -> socket.socket:
    """A connection to the recording that is meant."""
    told = os.environ.get(VARIABLE)
    if trace is None and told:
        peer = _connect(Path(told))
        if peer is None:
            raise UsageError(f"no recording answers at {printable(told)}, which {VARIABLE} names")
        return peer
    name = ""
    if trace is not None:
        with Trace(trace) as opened:
            name = f"{opened.header.id}{SUFFIX}"
    found = dict(_running(told))
    chosen = [path for path in found if trace is None or path.name == name]
    if len(chosen) == 1:
        peer = found.pop(chosen[0])
        for other in found.values():
            other.close()
        return peer
    names = ", ".join(_trace_of(peer) for peer in found.values())
    if trace is not None:
        others = f"; these are: {names}" if names else ", and nothing else is"
        raise UsageError(f"{trace} is not being recorded{others}")
    if names:
        raise UsageError(f"several recordings are running: say which with --trace: {names}")
    raise UsageError("no recording is running")


def _running(told: str | None) -> Iterator[tuple[Path, socket.socket]]:
    """Every recording of this user's that runs, and a connection to it. What those leave behind that
    were killed is removed."""
    found: dict[Path, None] = {}
    for folder in folders():
        with suppress(OSError):
            os.close(_enter(folder))
            found |= dict.fromkeys(path for path in sorted(folder.glob(f"[!.]*{SUFFIX}")))
    for path in found:
        peer = _connect(path, tidy=True)
        if peer is not None:
            yield path, peer
    if told and Path(told) not in found and (peer := _connect(Path(told))) is not None:
        yield Path(told), peer


def _connect(path: Path, *, tidy: bool = False) -> socket.socket | None:
    """A connection to a recorder, or None where there is none; then its socket is removed, to be
    ``tidy``."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            peer.settimeout(PATIENCE)
            peer.connect(_inside(folder, path.name))
        finally:
            os.close(folder)
        if _is_ours(peer):
            return peer
    except ConnectionRefusedError:  # its recorder was killed
        if tidy:
            with suppress(OSError):
                path.unlink()
    except OSError:
        pass  # it ended just now, or is no socket of ours
    peer.close()
    return None


def _ask(peer: socket.socket, request: dict[str, str]) -> dict[str, Any]:
    """Send a request; return the answer. Raises UsageError where the recording ends instead,
    StorageError where it says nothing."""
    try:
        peer.send(json.dumps(request).encode())
        message = peer.recv(MAX_MESSAGE)
    except TimeoutError as error:
        raise StorageError(
            f"the recording did not answer within {PATIENCE:g} s: its disk or its driver stands still"
        ) from error
    except OSError:
        message = b""
    if not message:
        raise UsageError("the recording came to its end meanwhile")
    answer: dict[str, Any] = json.loads(message)
    return answer


def _trace_of(peer: socket.socket) -> str:
    """The trace that a recording writes, for people. Closes the connection."""
    with peer:
        try:
            return printable(str(_ask(peer, {})["trace"]))
        except BlkboxError as error:
            return f"one that says nothing ({error})"
