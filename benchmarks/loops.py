"""Compare event loops for the data path: bare epoll, and asyncio's BufferedProtocol on uvloop.

    pip install uvloop; python -m benchmarks.loops [--rounds N]

A relay of each kind stands between a client and an echo server. The three are processes, as in real
use. Messages are 4 KiB. Prints round trips per second at depth 1 and 16.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from tracer.disk.loop import Loop

MESSAGE = 4096
BUFFER = 256 * 1024


def echo(path: str) -> None:
    """Send every message back."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    connection = listener.accept()[0]
    buffer = memoryview(bytearray(BUFFER))
    while count := connection.recv_into(buffer):
        connection.sendall(buffer[:count])


def relay_epoll(path: str, backend: str) -> None:
    """Pass bytes in both directions, on the loop that blkbox uses."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    server = socket.socket(socket.AF_UNIX)
    server.connect(backend)
    client = listener.accept()[0]
    loop = Loop()
    for source, sink in ((client, server), (server, client)):
        buffer = memoryview(bytearray(BUFFER))

        def ready(
            _: int,
            source: socket.socket = source,
            sink: socket.socket = sink,
            buffer: memoryview = buffer,
        ) -> None:
            count = source.recv_into(buffer)
            if not count:
                os._exit(0)
            sink.sendmsg([buffer[:count]])

        loop.add(source.fileno(), ready)
    while True:
        loop.poll()


class _Relay(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(BUFFER))
        self.peer: _Relay | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self.peer is not None
        assert self.peer.transport is not None
        self.peer.transport.write(self.buffer[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:
        os._exit(0)


def relay_uvloop(path: str, backend: str) -> None:
    """Pass bytes in both directions, on uvloop."""
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        _, back = await loop.create_unix_connection(_Relay, backend)

        def front() -> _Relay:
            relay = _Relay()
            relay.peer, back.peer = back, relay
            return relay

        server = await loop.create_unix_server(front, path)
        await server.serve_forever()

    uvloop.run(main())


RELAYS: dict[str, Callable[[str, str], None]] = {"epoll": relay_epoll, "uvloop": relay_uvloop}


def measure(kind: str, depth: int, seconds: float) -> float:
    """Return the round trips per second through a relay."""
    with tempfile.TemporaryDirectory() as folder:
        front, back = f"{folder}/front", f"{folder}/back"
        processes = [
            multiprocessing.Process(target=echo, args=(back,), daemon=True),
            multiprocessing.Process(target=RELAYS[kind], args=(front, back), daemon=True),
        ]
        for process, path in zip(processes, (back, front), strict=True):
            process.start()
            while not Path(path).exists():
                time.sleep(0.01)
        time.sleep(0.2)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(front)
            message, buffer = bytes(MESSAGE), memoryview(bytearray(BUFFER))
            client.sendall(message * depth)
            got, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                before = got // MESSAGE
                got += client.recv_into(buffer)
                client.sendall(message * (got // MESSAGE - before))
            rate = got / MESSAGE / (time.perf_counter() - started)
        for process in processes:
            process.kill()
            process.join()
    return rate


def main() -> None:
    """Measure both in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    options = parser.parse_args()
    print("| depth | epoll, 1/s | uvloop, 1/s | epoll / uvloop |\n|---:|---:|---:|---:|")
    for depth in (1, 16):
        rates: dict[str, list[float]] = {kind: [] for kind in RELAYS}
        for _ in range(options.rounds):
            for kind in RELAYS:
                rates[kind].append(measure(kind, depth, options.seconds))
        bare, uv = (statistics.median(rates[kind]) for kind in ("epoll", "uvloop"))
        print(f"| {depth} | {bare:,.0f} | {uv:,.0f} | {bare / uv:.2f} |")


if __name__ == "__main__":
    main()
