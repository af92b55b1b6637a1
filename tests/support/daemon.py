"""The daemon as a process, and the events that its log tells."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.loaded import Loaded, start
from tests.support.mirror import Mirror

PATIENCE_S = 60
"""How long a test waits for an event that should come at once, or after a backoff."""
STOP_S = PATIENCE_S
"""How long a test waits for a stopped daemon's end: if that takes over 10 s, it ends itself, with another code."""

UNSET = "(unset)"
"""For a setting that a daemon is to have no value of."""


class Daemon:
    """A running `voucher-sync run`; `logs` are the lines read so far, each parsed from its JSON."""

    def __init__(self, process: Process | Loaded) -> None:
        self.process = process
        self.logs: list[dict[str, Any]] = []

    async def event(self, name: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next line of this event; every line before it is read too."""
        async with asyncio.timeout(patience_s):
            async for line in self._lines():
                if line["event"] == name:
                    return line
        raise AssertionError(f"the daemon ended without {name!r}: {self.logs}")

    def count(self, name: str) -> int:
        """How many lines of this event were read."""
        return sum(line["event"] == name for line in self.logs)

    async def stopped(self, *signals: signal.Signals) -> int:
        """Sends signals, each after the first once the one before was noted, and returns the exit code."""
        for number in signals:
            if number is not signals[0]:
                await self.event("stopping")
            self.process.send_signal(number)
        async with asyncio.timeout(STOP_S):
            async for _ in self._lines():
                pass
            return await self.process.wait()

    async def _lines(self) -> AsyncIterator[dict[str, Any]]:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            self.logs.append(json.loads(raw))
            yield self.logs[-1]


@asynccontextmanager
async def running(mirror: Mirror, directory: Path, **settings: str) -> AsyncIterator[Daemon]:
    """The daemon over a mirror, pulling several times a second."""
    quick = {
        "SYNC_PULL_INTERVAL_S": "0.2",
        "SYNC_DISCOVERY_INTERVAL_S": "0.5",
        "SYNC_LEASE_S": "3",
        "SYNC_LOG_LEVEL": "debug",
    }
    given = {name: value for name, value in {**mirror.environment, **quick, **settings}.items() if value != UNSET}
    process = await start("run", settings=given, directory=directory)
    try:
        yield Daemon(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
