"""Hotels of a simulated API, a real PostgreSQL, and replicas as processes, each on a host of its own for root."""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

from tests.fleet.calls import Calls
from tests.fleet.replicas import Fleet
from tests.support.mirror import CLIENT_TOKEN, Mirror
from tests.support.physical import PhysicalServer
from tests.support.process import environment
from tests.support.proxy import Proxy

PATIENCE_S = 120.0
OWN_HOST = [path, "--uts"] if os.geteuid() == 0 and (path := shutil.which("unshare")) else []
"""Else a survivor sees at once that a process of its own machine is gone, which it cannot of another's."""
CALLS_PER_S = "15000"
"""Thirty times the default, as hotels are pulled so much more often: of the default, a newcomer has 25 at first."""
OWNERS = (
    "SELECT connection.name, daemon.process::text, daemon.pid FROM sync.connections AS connection "
    "LEFT JOIN sync.daemons AS daemon ON daemon.process = connection.owner WHERE connection.origin = 'command'"
)


@dataclass(eq=False)
class Replica:
    """A process; `proxy` stands between it and the database where it is to be cut off."""

    name: str
    process: Process
    proxy: Proxy | None = None

    def signal(self, which: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(which)


@dataclass(eq=False)
class Bench:
    """What scenes are played on."""

    fleet: Fleet
    server: PhysicalServer | None
    interval_s: float
    directory: Path
    stack: AsyncExitStack
    replicas: list[Replica] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.calls = Calls(self.fleet.mirror.simulator)

    @property
    def hotels(self) -> list[str]:
        """Their names, which are their connections' too."""
        return list(self.fleet.vouchers)

    async def begin(self, *, is_cut_off: bool = False, **settings: str) -> Replica:
        """Another replica; `is_cut_off`: it can be."""
        name = f"replica-{next(self.numbers)}"
        proxy = None
        if is_cut_off:
            proxy = await self.stack.enter_async_context(Proxy(self.fleet.mirror.database_url).served())
        mirror = self.fleet.mirror
        own = {
            **mirror.environment, "DATABASE_URL": proxy.url if proxy else mirror.database_url,
            "SYNC_SECRET_KEY": self.fleet.key, "MEWS_CLIENT_TOKEN": CLIENT_TOKEN, "MEWS_CLIENT": name,
            "SYNC_PULL_INTERVAL_S": f"{self.interval_s:g}", "SYNC_PLATFORM_CALLS_PER_S": CALLS_PER_S,
            "SYNC_LEASE_S": "30", "SYNC_LOG_LEVEL": "info", **settings,
        }  # fmt: skip
        del own["MEWS_ACCESS_TOKEN"]  # the hotels' lie in the database
        command = [*OWN_HOST, *(["sh", "-c", 'hostname "$0"; exec "$@"', name] if OWN_HOST else []), sys.executable]
        with (self.directory / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, "-m", "sync", "run", env=environment(own), cwd=self.directory,
                stdin=DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.replicas.append(Replica(name, process, proxy))
        return self.replicas[-1]

    async def end(self, replica: Replica, which: signal.Signals) -> int:
        """Sends a signal that ends it, and waits for that."""
        replica.signal(which)
        code = await replica.process.wait()
        self.replicas.remove(replica)
        return code

    async def owned(self) -> dict[int | None, list[str]]:
        """The hotels by the process that works for them."""
        rows = await asyncio.to_thread(_query, self.fleet.mirror.database_url)
        found: dict[int | None, list[str]] = {}
        for name, _, pid in rows:
            found.setdefault(pid, []).append(name)
        return found

    async def shared(self) -> dict[int | None, list[str]]:
        """Waits until all replicas have about the same number of hotels and have pulled them; who owns which."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._is_even(owned := await self.owned()):
                await asyncio.sleep(0.2)
        await self.calls.until_pulled(self.hotels, asyncio.get_running_loop().time(), patience_s=PATIENCE_S)
        return owned

    def _is_even(self, owned: dict[int | None, list[str]]) -> bool:
        pids = {one.process.pid for one in self.replicas}
        sizes = [len(names) for names in owned.values()]
        return owned.keys() == pids and max(sizes) - min(sizes) <= len(pids)

    def told(self, event: str) -> int:
        """How often replicas have told of an event."""
        mark = f'"event": "{event}"'
        return sum(path.read_text(errors="replace").count(mark) for path in self.directory.glob("replica-*.log"))


def _query(url: str) -> list[tuple[str, str, int]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(OWNERS).fetchall()


@asynccontextmanager
async def bench(
    server: PhysicalServer | None,
    database_url: str,
    directory: Path,
    *,
    hotels: int,
    interval_s: float,
    **simulator: object,
) -> AsyncIterator[Bench]:
    """Hotels in a migrated database, served, and nothing that works for them yet. Kills what still runs at the end."""
    mirror = Mirror(database_url, max_records=1000, **simulator)
    mirror.simulator.behaviour.allow_duplicates = True  # whatever is sent twice is added twice, and shows
    async with mirror.served(), AsyncExitStack() as stack:
        fleet = Fleet(mirror, directory)
        fleet.add_hotels(hotels)
        made = Bench(fleet, server, interval_s, directory, stack)
        try:
            yield made
        finally:
            for replica in made.replicas:
                replica.signal(signal.SIGKILL)
                await replica.process.wait()
