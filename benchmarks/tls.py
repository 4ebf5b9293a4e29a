"""Attacks on the server's TLS: guests that send garbage, plain text behind STARTTLS, broken
handshakes, or floods, and guests that leave at any moment.

    python -m benchmarks.tls [--rounds N]

The recorder must stay alive and idle, serve the next guest, and use less than 300 MiB.
"""

import argparse
import random
import socket
import ssl
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.peers import blkbox, peak_memory
from tracer.nbd import protocol as p
from tracer.op import Kind

FLAGS = p.U32.pack(3)
"""A client's handshake flags: FIXED_NEWSTYLE and NO_ZEROES."""

KEPT = 50
"""Connections that attackers leave open."""

Attack = Callable[[socket.socket, random.Random], None]


def option(number: int, data: bytes = b"") -> bytes:
    """Return an option as a client sends it."""
    return p.OPTION.pack(p.IHAVEOPT, number, len(data)) + data


GO = option(p.Option.GO, bytes(6))


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return the data with a few bytes changed, added or removed."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(changed) + 1)
        what = chance.choice(("change", "change", "add", "remove", "append"))
        if what == "change":
            changed[at : at + 1] = chance.randbytes(1)
        elif what == "add":
            changed[at:at] = chance.randbytes(chance.choice((1, 5, 100)))
        elif what == "remove":
            del changed[at : at + chance.choice((1, 3, 50))]
        else:
            changed += chance.randbytes(20_000)
    return bytes(changed)


class Begun:
    """A client that has asked for TLS."""

    def __init__(self, sock: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        sock.sendall(FLAGS + option(p.Option.STARTTLS))
        sock.recv(p.OPTION_REPLY.size, socket.MSG_WAITALL)
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.first = self.outgoing.read()
        """What opens the handshake."""

    def finish(self) -> "Begun":
        """Do the handshake."""
        self.sock.sendall(self.first)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.incoming.write(self.sock.recv(1 << 16))
        self.sock.sendall(self.outgoing.read())
        return self

    def encrypted(self, data: bytes) -> bytes:
        """Return data as it is on the wire."""
        self.tls.write(data)
        return self.outgoing.read()


def garbage(sock: socket.socket, chance: random.Random) -> None:
    """No NBD."""
    sock.sendall(FLAGS + chance.randbytes(chance.randrange(300)))


def options(sock: socket.socket, chance: random.Random) -> None:
    """Options without TLS."""
    sock.sendall(FLAGS + b"".join(option(chance.randrange(12), bytes(6)) for _ in range(50)))


def injected(sock: socket.socket, chance: random.Random) -> None:
    """Plain text that shall count as sent inside of TLS."""
    behind = chance.choice((b"x", GO, chance.randbytes(99)))
    sock.sendall(FLAGS + option(p.Option.STARTTLS) + behind)


def broken_handshake(sock: socket.socket, chance: random.Random) -> None:
    """A handshake with a few bytes changed."""
    sock.sendall(mutated(Begun(sock).first, chance))


def half_handshake(sock: socket.socket, chance: random.Random) -> None:
    """A handshake that is not finished."""
    first = Begun(sock).first
    sock.sendall(first[: chance.randrange(len(first) + 1)])


def garbage_inside(sock: socket.socket, chance: random.Random) -> None:
    """No TLS after the handshake."""
    Begun(sock).finish()
    sock.sendall(chance.randbytes(chance.randrange(1, 5000)))


def flood(sock: socket.socket, _: random.Random) -> None:
    """Ten thousand options, and nobody reads the replies."""
    begun = Begun(sock).finish()
    sock.settimeout(0.2)
    sock.sendall(begun.encrypted(option(p.Option.LIST) * 10_000))


def request(sock: socket.socket, chance: random.Random) -> None:
    """A request, right or changed on its way."""
    read = p.REQUEST.pack(p.REQUEST_MAGIC, 0, Kind.READ, 1, 0, 4096)
    wire = Begun(sock).finish().encrypted(GO + read)
    sock.sendall(mutated(wire, chance) if chance.random() < 0.5 else wire)
    sock.recv(1 << 16)


ATTACKS: tuple[Attack, ...] = (garbage, options, injected, broken_handshake, half_handshake,
                               garbage_inside, flood, request)  # fmt: skip


def attack(path: Path, rounds: int, chance: random.Random) -> Counter[str]:
    """Attack a server ``rounds`` times. Return how often by which attack."""
    counts: Counter[str] = Counter()
    kept: list[socket.socket] = []
    for _ in range(rounds):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(2)  # a server that waits for more is right to do so
        sock.connect(str(path))
        chosen = chance.choice(ATTACKS)
        counts[chosen.__name__] += 1
        with suppress(OSError):  # the server's answer to most of these; ssl.SSLError is one too
            sock.recv(p.HELLO.size, socket.MSG_WAITALL)
            chosen(sock, chance)
        kept.append(sock)
        if chance.random() < 0.9 or len(kept) > KEPT:
            kept.pop(0 if len(kept) > KEPT else -1).close()
    for sock in kept:
        sock.close()
    return counts


def make_certificates(folder: Path) -> Path:
    """Make a certificate that certifies itself, and its key. Return the folder."""
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", "server-key.pem", "-out", "server-cert.pem", "-subj", "/CN=soak"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def served(path: Path) -> bytes:
    """Read the first bytes of the disk, as a guest that means well. Return what comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(path))
        sock.recv(p.HELLO.size, socket.MSG_WAITALL)
        begun = Begun(sock).finish()
        read = p.REQUEST.pack(p.REQUEST_MAGIC, 0, Kind.READ, 1, 0, 512)
        sock.sendall(begun.encrypted(GO + read))
        heard = b""
        while p.SIMPLE_REPLY.pack(p.SIMPLE_REPLY_MAGIC, 0, 1) not in heard:
            begun.incoming.write(sock.recv(1 << 16))
            with suppress(ssl.SSLWantReadError):
                while True:
                    heard += begun.tls.read(1 << 16)
        return heard


def cpu(pid: int) -> int:
    """Return the CPU time of a process, in clock ticks."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def main() -> None:
    """Attack a recorder, and check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as name:
        folder = Path(name)
        pki = make_certificates(folder / "pki")
        with blkbox(folder, "8M", "--driver", "raw", "--tls-certificates", str(pki)) as (path, pid):
            counts = attack(path, rounds, random.Random(rounds))
            time.sleep(0.5)
            before = cpu(pid)
            time.sleep(1)
            idle = cpu(pid) - before
            served(path)
            memory = peak_memory(pid)
    assert idle < 10, f"{idle} ticks of CPU time in an idle second"
    assert memory < 300 << 20, f"{memory >> 20} MiB"
    listed = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"tls: {rounds:,} attacks ({listed}); peak memory {memory >> 20} MiB")


if __name__ == "__main__":
    main()
