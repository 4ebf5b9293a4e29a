"""The control socket of a running recording, through which ``trace mark`` sets a mark: both ends.

Each recording listens at ``ID.control`` (ID is its trace's id) in a folder that only its user can
enter. A request is a JSON object in one message (SOCK_SEQPACKET keeps messages apart), and so is
the answer::

    {"mark": "boot done"}  ->  {"trace": "/x/install.trace", "seq": 1234, "time": 5678}
    {}                     ->  {"trace": "/x/install.trace"}
    anything else          ->  {"error": "what is wrong with it", "code": 200}

``code`` is the exit code that ``trace mark`` must end with (tracer/errors.py).

Each end asks the kernel which user is at the other end (SO_PEERCRED, unix(7)), and refuses other
users.
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
"""The environment variable that has the path of the recording's socket, for the guest's command."""

MAX_MESSAGE = 16 << 10
"""Bytes in a message: a path has at most 4096 bytes (PATH_MAX), and JSON may triple that."""

MAX_PEERS = 16
"""Simultaneous connections. Further connections are closed."""

PATIENCE = 10.0
"""Seconds in which a recorder must answer. It answers between two turns of its loop, so it is late
only if its disk or its driver hangs."""


# ---------------------------------------------------------------- the folder


def folders() -> list[Path]:
    """Return the folders in which control sockets may be, best first: ``blkbox`` in
    $XDG_RUNTIME_DIR (XDG Base Directory Specification; used only if absolute and ours), then
    ``blkbox-UID`` in $TMPDIR and in /tmp."""
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError):
        # after sudo it may be another user's: our files there would be in that user's way
        if os.path.isabs(runtime) and os.stat(runtime).st_uid == os.geteuid():
            found.append(Path(runtime) / "blkbox")
    places = os.environ.get("TMPDIR") or "/tmp", "/tmp"
    found += [Path(place).absolute() / f"blkbox-{os.geteuid()}" for place in places]
    return list(dict.fromkeys(found))


def _enter(folder: Path) -> int:
    """Open a folder. Raises OSError unless it belongs to our user and no other user may enter
    it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or info.st_mode & 0o077:
        os.close(fd)
        raise PermissionError(f"{folder} is not private")
    return fd


def _inside(fd: int, name: str) -> str:
    """Return a path to a socket in an open folder: short enough for the 108 bytes of sun_path,
    wherever the folder is."""
    return f"/proc/self/fd/{fd}/{name}"


def _is_ours(peer: socket.socket) -> bool:
    """Whether our user is at the other end."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    _pid, uid, _gid = struct.unpack("iII", credentials)
    return bool(uid == os.geteuid())


# ---------------------------------------------------------------- the recorder's end


class Control:
    """The recorder's end: answers requests from within the loop.

    ``mark`` puts a mark into the recording, or raises BlkboxError. Raises OSError if there is no
    private folder for the socket.
    """

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
        """Stop listening and remove the socket."""
        for peer in list(self._peers.values()):
            self._drop(peer)
        self._loop.remove(self._socket.fileno())
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _bind(self, name: str) -> Path:
        """Listen in the first usable folder. Return the socket's path. Raises OSError."""
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
                # rename it once it listens: a named socket that refuses connections is then always
                # the socket of a dead recorder
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
            return  # the peer left before we accepted it
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
            return  # the event was for a closed descriptor that had the same number
        except OSError:
            message = b""
        with suppress(OSError):
            if message:
                peer.send(json.dumps(self._answer(message)).encode())
                return
        self._drop(peer)  # it has left, or it does not fetch its answers

    def _drop(self, peer: socket.socket) -> None:
        del self._peers[peer.fileno()]
        self._loop.remove(peer.fileno())
        peer.close()

    def _answer(self, message: bytes) -> dict[str, object]:
        """Do what a request asks; return the answer."""
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
    """Put a mark into the running recording of ``trace``. Return ``trace``, ``seq`` and ``time``
    (ns).

    Without ``trace``, use the recording that $BLKBOX_CONTROL names; if that is not set, use the
    only recording that runs. Raises UsageError if the recording is not running or several are,
    StorageError if it does not answer or cannot write the mark.
    """
    check_name(name)
    with _reach(trace) as peer:
        answer = _ask(peer, {"mark": name})
    if "error" in answer:
        kind = StorageError if answer["code"] == Exit.STORAGE else UsageError
        raise kind(printable(answer["error"]))
    return answer


def _reach(trace: Path | None) -> socket.socket:
    """Return a connection to a recording, chosen as ``put_mark`` says. Raises UsageError."""
    named = os.environ.get(VARIABLE)
    if trace is None and named:
        peer = _connect(Path(named))
        if peer is None:
            raise UsageError(f"no recording answers at {printable(named)}, which {VARIABLE} names")
        return peer
    name = ""
    if trace is not None:
        with Trace(trace) as opened:
            name = f"{opened.header.id}{SUFFIX}"
    found = dict(_running(named))
    chosen = [path for path in found if trace is None or path.name == name]
    if len(chosen) == 1:
        peer = found.pop(chosen[0])
        for other in found.values():
            other.close()
        return peer
    names = ", ".join(_trace_of(peer) for peer in found.values())
    if trace is not None:
        others = f"; these are: {names}" if names else ": no recording is running"
        raise UsageError(f"{trace} is not being recorded{others}")
    if names:
        raise UsageError(f"several recordings are running: say which with --trace: {names}")
    raise UsageError("no recording is running")


def _running(named: str | None) -> Iterator[tuple[Path, socket.socket]]:
    """Yield the socket's path and a connection for each running recording of our user, ``named``
    among them if it is not in the usual folders. Remove the sockets of dead recorders."""
    found: dict[Path, None] = {}
    for folder in folders():
        with suppress(OSError):
            os.close(_enter(folder))
            found |= dict.fromkeys(path for path in sorted(folder.glob(f"[!.]*{SUFFIX}")))
    for path in found:
        peer = _connect(path, tidy=True)
        if peer is not None:
            yield path, peer
    if named and Path(named) not in found and (peer := _connect(Path(named))) is not None:
        yield Path(named), peer


def _connect(path: Path, *, tidy: bool = False) -> socket.socket | None:
    """Return a connection to a recorder, or None if it does not run. With ``tidy``, remove the
    socket of a dead recorder."""
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
        pass  # it has just ended, or the path is not a control socket
    peer.close()
    return None


def _ask(peer: socket.socket, request: dict[str, str]) -> dict[str, Any]:
    """Send a request; return the answer. Raises UsageError if the recording ends meanwhile,
    StorageError if it does not answer within PATIENCE seconds."""
    try:
        peer.send(json.dumps(request).encode())
        message = peer.recv(MAX_MESSAGE)
    except TimeoutError as error:
        raise StorageError(
            f"the recording did not answer within {PATIENCE:g} s: its disk or its driver hangs"
        ) from error
    except OSError:
        message = b""
    if not message:
        raise UsageError("the recording ended before it answered")
    answer: dict[str, Any] = json.loads(message)
    return answer


def _trace_of(peer: socket.socket) -> str:
    """Return the path of the trace that a recording writes, for messages. Closes the connection."""
    with peer:
        try:
            return printable(str(_ask(peer, {})["trace"]))
        except BlkboxError as error:
            return f"a recording that does not answer ({error})"
