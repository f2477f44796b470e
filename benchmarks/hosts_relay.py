"""A TCP relay that makes a line slow and unreliable, where the kernel has no netem.

    python benchmarks/hosts_relay.py --listen :: --port 9443 --to 192.0.2.1:9443 --delay-ms 100

It passes bytes on: TLS goes from end to end. Each piece arrives ``delay`` later; with the chance
``stall`` (a lost segment, which TCP sends again) it and what is behind it wait ``stall_s`` more;
with the chance ``cut`` the connection is reset (a router that restarts).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import struct
import sys
from dataclasses import dataclass

__all__ = ["Line", "serve"]

_PIECE = 1400  # bytes of a segment on an Ethernet
_PENDING = 256  # segments on their way, as a window bounds them
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


@dataclass(frozen=True, kw_only=True)
class Line:
    """The one-way delay, and the chances of a segment."""

    delay_s: float = 0.0
    stall: float = 0.0
    stall_s: float = 0.2
    cut: float = 0.0

    def __post_init__(self) -> None:
        for name in ("stall", "cut"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"expected 0 <= {name} < 1, got {getattr(self, name)}")
        if self.delay_s < 0 or self.stall_s < 0:
            raise ValueError("expected delay_s >= 0 and stall_s >= 0")


async def serve(
    listener: socket.socket, *, to: tuple[str, int], line: Line, rng: random.Random
) -> None:
    """Relay whoever connects to ``listener``, until cancelled."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*to)
        except OSError:
            _reset(writer)
            return
        try:
            async with asyncio.TaskGroup() as ways:
                for source, sink in ((reader, far_writer), (far_reader, writer)):
                    pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PENDING)
                    ways.create_task(_depart(source, pending, line=line, rng=rng))
                    ways.create_task(_arrive(pending, sink))
        except* OSError:
            for end in (writer, far_writer):
                _reset(end)
        finally:
            for end in (writer, far_writer):
                end.close()

    server = await asyncio.start_server(relay, sock=listener)
    async with server:
        await server.serve_forever()


async def _depart(
    source: asyncio.StreamReader,
    pending: asyncio.Queue[tuple[float, bytes]],
    *,
    line: Line,
    rng: random.Random,
) -> None:
    """Put segments on their way, each with its time of arrival.

    Raises:     ConnectionResetError where the line is cut.
    """
    due = 0.0
    while True:
        piece = await source.read(_PIECE)
        if piece and rng.random() < line.cut:
            raise ConnectionResetError("the line was cut")
        late_s = line.stall_s if rng.random() < line.stall else 0.0
        # In order: what is behind a late segment waits for it.
        due = max(due, asyncio.get_running_loop().time() + line.delay_s + late_s)
        await pending.put((due, piece))
        if not piece:
            return


async def _arrive(pending: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
    while True:
        due, piece = await pending.get()
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        if not piece:
            with contextlib.suppress(OSError):
                sink.write_eof()
            return
        sink.write(piece)
        await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def main() -> None:
    """Relay until stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", default="0.0.0.0")  # noqa: S104 - in a namespace of its own
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="one way")
    parser.add_argument("--stall", type=float, default=0.0, help="chance of a segment to be late")
    parser.add_argument("--stall-ms", type=float, default=200.0)
    parser.add_argument("--cut", type=float, default=0.0, help="chance of a segment to be the last")
    given = parser.parse_args()
    host, _, port = given.to.rpartition(":")
    line = Line(
        delay_s=given.delay_ms / 1000,
        stall=given.stall,
        stall_s=given.stall_ms / 1000,
        cut=given.cut,
    )
    family = socket.AF_INET6 if ":" in given.listen else socket.AF_INET
    with socket.create_server((given.listen, given.port), family=family) as listener:
        print("ready", flush=True)
        to, rng = (host.strip("[]"), int(port)), random.Random(0)  # noqa: S311 - repeatable faults
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(listener, to=to, line=line, rng=rng))
    sys.exit(0)


if __name__ == "__main__":
    main()
