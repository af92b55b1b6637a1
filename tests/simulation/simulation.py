"""The API, the daemon and the database between them, with everything that can go wrong with the three."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal

from sync.demo.simulator import Fault, Operation, RequestRecord
from tests.daemon.stress import QUICK
from tests.simulation.actors import MARK, Actors
from tests.simulation.daemon_process import DaemonProcess
from tests.support.fault_profiles import READS, WRITES
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.proxy import Proxy

SECRETS = (CLIENT_TOKEN, ACCESS_TOKEN, MARK)
SETTINGS = {
    **QUICK,
    "SYNC_PULL_INTERVAL_S": "0.1",
    "SYNC_DISCOVERY_INTERVAL_S": "0.5",
    "SYNC_REQUEST_TIMEOUT_S": "2",
    "SYNC_MAX_RESPONSE_MB": "1",
    "SYNC_LOG_LEVEL": "debug",
}
PATIENCE_S = 1.5
"""How long a daemon is given that may have nothing left to work with."""

Moment = Literal["arrival", "answer"]


class Simulation:
    """Each method is one thing that happens to the daemon; `actors` has what they do meanwhile.

    `skew`: how far the API's clock is ahead of every other one.
    """

    def __init__(self, database_url: str, directory: Path, seed: int, *, skew: timedelta = timedelta()) -> None:
        self.mirror = Mirror(database_url)
        self.mirror.clock.advance(skew)
        self.proxy = Proxy(database_url)
        self.daemons: list[DaemonProcess] = []
        self.audits: list[DaemonProcess] = []
        self.bustle = 2
        self._directory = directory
        self._rng = Random(seed)
        self.actors = Actors(self.mirror, self._rng)
        self._dies_at_write: Moment | None = None
        self._arrived = asyncio.Event()
        self.mirror.simulator.on_request, self.mirror.simulator.on_answer = self._on_request, self._on_answer

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Simulation"]:
        """Serves the API and the line to the database, and mirrors what is there at first."""
        async with self.mirror.opened(), self.proxy.served():
            await self.mirror.once()
            try:
                yield self
            finally:
                await self.kill()

    @property
    def happened(self) -> Counter[str]:
        """How much has happened so far."""
        return Counter(
            operations=self.actors.operations,
            faults=sum(record.fault is not None for record in self.mirror.simulator.requests),
            kills=sum(daemon.was_killed for daemon in (*self.daemons, *self.audits)),
            cuts=self.proxy.cuts,
            starts=len(self.daemons) + len(self.audits),
            requests=len(self.mirror.simulator.requests),
        )

    def profile(self, reads: Mapping[Fault, float], writes: Mapping[Fault, float]) -> None:
        """From now on calls fail with these probabilities, in place of those before."""
        faults = self.mirror.simulator.faults
        faults.stop()
        faults.by_chance(reads, seed=self._rng.getrandbits(32), operations=READS)
        faults.by_chance(writes, seed=self._rng.getrandbits(32), operations=WRITES)

    def doom_at_write(self, moment: Moment) -> None:
        """The daemon dies when its next write arrives, or when the answer to it is about to be sent."""
        self._dies_at_write = moment

    async def kill(self) -> None:
        """The daemon is killed with -9, and so is an audit beside it."""
        for daemon in (*self.daemons, *self.audits):
            daemon.kill()
            await daemon.ended()

    async def stop(self) -> None:
        """A supervisor stops the daemon."""
        for daemon in self.daemons[-1:]:
            if not daemon.is_over:
                await daemon.stopped()

    async def work(self, requests: int) -> None:
        """The daemon, a new one if there is none, goes on for so many requests, or for a while where it can't."""
        daemon = await self.living()
        goal = len(self.mirror.simulator.requests) + requests
        gives_up_at = asyncio.get_running_loop().time() + PATIENCE_S
        while len(self.mirror.simulator.requests) < goal and not daemon.is_over:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(gives_up_at):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def work_without_database(self) -> None:
        """The daemon goes on for a while, and can reach no database."""
        self.proxy.is_down = True
        await self._outlived(await self.living())
        self.proxy.is_down = False

    async def live_for(self, step: int) -> None:
        """A daemon of its own lives until that step of its event loop, or for a while."""
        await self._outlived(await self._living(dies_at_step=step))

    async def living(self) -> DaemonProcess:
        """The daemon, a new one if there is none."""
        return await self._living()

    async def audit(self, *options: str) -> DaemonProcess:
        """An audit begins beside the daemon."""
        self.audits.append(await self._begun("audit", "--repair", *options))
        return self.audits[-1]

    def calm(self) -> None:
        """Nothing goes wrong any more, and nobody does anything."""
        self.mirror.simulator.faults.stop()
        self.proxy.let_be()
        self.actors.revoke(is_revoked=False)
        self.actors.show_hotels(are_seen=True)
        self.bustle, self._dies_at_write = 0, None

    async def _living(self, *, dies_at_step: int | None = None) -> DaemonProcess:
        if not self.daemons or self.daemons[-1].is_over:
            self.daemons.append(await self._begun("run", dies_at_step=dies_at_step))
            self.daemons[-1].on_end(self._arrived.set)
        return self.daemons[-1]

    async def _begun(self, *arguments: str, dies_at_step: int | None = None) -> DaemonProcess:
        settings = {**self.mirror.environment, **SETTINGS, "DATABASE_URL": self.proxy.url}
        return await DaemonProcess.begun(
            *arguments, settings=settings, directory=self._directory, secrets=SECRETS, dies_at_step=dies_at_step
        )

    @staticmethod
    async def _outlived(daemon: DaemonProcess) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await daemon.ended()

    async def _on_request(self, operation: Operation, _body: Any) -> None:
        self._arrived.set()
        self._die_at("arrival", operation)

    async def _on_answer(self, record: RequestRecord) -> None:
        self._die_at("answer", record.operation)
        self.actors.change(self._rng.randint(0, self.bustle))

    def _die_at(self, moment: Moment, operation: Operation | None) -> None:
        if operation in WRITES and self._dies_at_write == moment:
            self._dies_at_write = None
            self.daemons[-1].kill()
