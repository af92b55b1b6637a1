"""The world of `guard.py`, in a process of its own: the simulator, and a relay before the database that counts.

    guarded_world.py CODES VOUCHERS DIRECTORY DATABASE_SOCKET

Says its address first. For each line on stdin it says what was counted since the last one, as JSON: pages of codes that
were asked for, statements, and round trips. The relay listens in DIRECTORY as PostgreSQL does.
"""

import asyncio
import json
import sys
from asyncio import StreamReader, StreamWriter
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from worlds import make_world

from sync.demo.simulator import UNLIMITED, Operation, Simulator

CHUNK = 2**16
SPAN = timedelta(days=60)
"""Shorter than the longest window, so that pages are full."""
STATEMENTS, TRIPS = b"QE", b"QS"
"""Messages of PostgreSQL's protocol: Query and Execute; and Query and Sync, for whose answer the client waits."""


class Messages:
    """Counts what a client sends on one line: after the first message, each is a type, a length and so many bytes."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._rest = b""
        self._is_first = True

    def feed(self, sent: bytes) -> None:
        """Look at what was sent."""
        self._rest += sent
        while True:
            head = 0 if self._is_first else 1
            if len(self._rest) < head + 4:
                return
            length = head + int.from_bytes(self._rest[head : head + 4], "big")
            if len(self._rest) < length:
                return
            if not self._is_first:
                kind = self._rest[:1]
                self._counts["statements"] += kind in STATEMENTS
                self._counts["trips"] += kind in TRIPS
            self._rest, self._is_first = self._rest[length:], False


async def main(codes: int, vouchers: int, directory: Path, target: str) -> None:
    """Serve until stdin ends."""
    simulator = Simulator(make_world(codes, vouchers, span=SPAN), rate_limit=UNLIMITED)
    counts = Counter[str]()

    async def relay(reader: StreamReader, writer: StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(target)
        there = asyncio.create_task(_pass_on(reader, server_writer, Messages(counts)))
        await _pass_on(server_reader, writer, None)
        await there

    server = await asyncio.start_unix_server(relay, directory / ".s.PGSQL.5432")
    async with server, simulator.serve() as address:
        print(address, flush=True)  # noqa: T201 - what it has been started for
        while await asyncio.to_thread(sys.stdin.readline):
            counts["pages"] = sum(one.operation is Operation.GET_CODES for one in simulator.requests)
            print(json.dumps(counts), flush=True)  # noqa: T201 - the same
            counts.clear()
            simulator.requests.clear()


async def _pass_on(reader: StreamReader, writer: StreamWriter, messages: Messages | None) -> None:
    with suppress(ConnectionError):
        while sent := await reader.read(CHUNK):
            if messages is not None:
                messages.feed(sent)
            writer.write(sent)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
