"""A simulated API, a database, and the connection that mirrors the one into the other."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text

from sync.connection.connection import Connection
from sync.core.retry import Backoff
from sync.demo.comparison import Comparison, compare
from sync.demo.simulator import UNLIMITED, Code, Operation, RequestRecord, Simulator, Voucher, World
from sync.fleet.registry import CONNECTION_NAME
from sync.mews.client_settings import RetryPolicy
from sync.mirror.discover import DiscoverReport, discover
from sync.mirror.pull import PullSettings, pull
from sync.mirror.pull_report import PullReport
from sync.postgres.engine import transaction
from sync.service import app
from sync.service.jobs import Jobs
from sync.settings import Settings
from sync.signals import Signal
from tests.support.owner import Owner
from tests.support.pooler import QUICK_LOOKS, way_to

CLIENT_TOKEN, ACCESS_TOKEN = "the-client-token", "the-access-token"
OVERLAP = timedelta(seconds=120)
STATE_DIR = str(Path(tempfile.gettempdir()) / f"voucher-sync-tests-state-{os.getuid()}")
"""Of all tests: a witness is named after its database's incarnation, of which there is no second one."""
IMPATIENT = RetryPolicy(backoff=Backoff(base_s=0.001, cap_s=0.01), circuit_backoff=Backoff(base_s=0.001, cap_s=0.01))
"""The usual number of tries, with pauses too short to notice."""
ANY_CLOCK_S = 3_000_000_000
"""A tolerance within which the API's clock is believed however a test shifts it."""


class Clock:
    """The real time, shifted: the API's clock in the tests."""

    def __init__(self) -> None:
        self.shift = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def advance(self, shift: timedelta) -> None:
        """Lets the time jump."""
        self.shift += shift


class Mirror:
    """One hotel with a service; vouchers and codes are the tests' own. `retry_policy` is short, the budget endless."""

    def __init__(self, database_url: str, **simulator_options: Any) -> None:
        self.move_to(database_url)
        self.clock = Clock()
        self.world = World(self.clock, client_token=CLIENT_TOKEN)
        self.hotel = self.world.add_enterprise("Hotel A")
        self.service = self.world.add_service(self.hotel.id, "Stay")
        self.world.add_token(ACCESS_TOKEN, name="token", enterprise_ids=[self.hotel.id])
        self.simulator = Simulator(self.world, **({"rate_limit": UNLIMITED} | simulator_options))
        self.stop = Signal()
        self.state_dir = STATE_DIR
        self.address = ""
        self.connection: Connection
        self._owners: dict[UUID, Owner] = {}

    def move_to(self, database_url: str) -> None:
        """Another database has what this one had, or its server has another address."""
        self.database_url, self.way = database_url, way_to(database_url)

    @asynccontextmanager
    async def opened(self, *, retry_policy: RetryPolicy = IMPATIENT, **settings: Any) -> AsyncIterator["Mirror"]:
        """Serves the API and opens the connection to it."""
        async with self.served(), self.connected(retry_policy=retry_policy, **settings):
            yield self

    @asynccontextmanager
    async def served(self, *, port: int = 0) -> AsyncIterator[None]:
        """Serves the API; left and entered again with the same port, it is an outage."""
        async with self.simulator.serve(port=port) as self.address:
            yield

    @asynccontextmanager
    async def connected(self, *, retry_policy: RetryPolicy = IMPATIENT, **settings: Any) -> AsyncIterator[None]:
        """Opens a connection to the served API, as another process has it; after it the one before, if any, is back.

        A closed one must not stay: whatever asked by it would open sessions that nobody closes.
        """
        before = vars(self).pop("connection", None)
        try:
            async with self._opened_as(self.settings(**settings), retry_policy) as self.connection:
                yield
        finally:
            del self.connection
            if before:
                self.connection = before

    @asynccontextmanager
    async def _opened_as(self, settings: Settings, retry_policy: RetryPolicy) -> AsyncIterator[Connection]:
        given = app.credentials(settings)
        async with app.open_workplace(settings, self.way, self.stop, retry_policy) as place:
            connection = app.make_connection(place, CONNECTION_NAME, given)
            try:
                yield connection
            finally:
                await connection.client.aclose()

    @property
    def port(self) -> int:
        """The port of the served API."""
        return int(self.address.rpartition(":")[2])

    def settings(self, **settings: Any) -> Settings:
        """The daemon's settings, with its tokens and without its budget."""
        return Settings(
            **{
                "database_url": self.way,
                "mews_platform_address": self.address,
                "mews_client_token": CLIENT_TOKEN,
                "mews_access_token": ACCESS_TOKEN,
                "sync_rate_limit_requests": 1_000_000,
                "sync_clock_tolerance_s": ANY_CLOCK_S,
                "sync_state_dir": self.state_dir,
                "sync_http_bind": "",
                **settings,
            }
        )

    @property
    def environment(self) -> dict[str, str]:
        """The same settings, for a process."""
        return {
            "DATABASE_URL": self.way,
            "MEWS_PLATFORM_ADDRESS": self.address,
            "MEWS_CLIENT_TOKEN": CLIENT_TOKEN,
            "MEWS_ACCESS_TOKEN": ACCESS_TOKEN,
            "SYNC_RATE_LIMIT_REQUESTS": "1000000",
            "SYNC_CLOCK_TOLERANCE_S": f"{ANY_CLOCK_S}",
            "SYNC_STATE_DIR": self.state_dir,
            "SYNC_HTTP_BIND": "",
            **QUICK_LOOKS,
        }

    def add_voucher(self, name: str = "Summer", *, days_old: float = 30) -> Voucher:
        """A voucher of the hotel, created so long ago."""
        return self.world.add_voucher(self.service.id, name, created_utc=self.clock() - timedelta(days=days_old))

    def add_codes(self, voucher: Voucher, values: Iterable[str], *, days_old: float = 1) -> list[Code]:
        """Codes, created so long ago and not changed since."""
        instant = self.clock() - timedelta(days=days_old)
        return self.world.add_codes(voucher.id, list(values), created_utc=instant, updated_utc=instant)

    async def discover(self) -> DiscoverReport:
        """One discovery."""
        return await discover(self.connection)

    async def pull(self, *, is_turn_over: Callable[[], bool] = lambda: False, **settings: Any) -> PullReport:
        """One pull."""
        settings = {"overlap": OVERLAP} | settings
        return await pull(self.connection, PullSettings(**settings), is_turn_over=is_turn_over)

    async def once(self) -> PullReport:
        """Discovery, then a pull, which must find no error."""
        await self.discover()
        report = await self.pull()
        assert not report.errors, [str(error) for error in report.errors]
        return report

    async def beat(self, *all_jobs: Jobs) -> None:
        """Has a replica own the connections of these jobs, and tell of them."""
        process = self.connection.process
        if process not in self._owners:
            self._owners[process] = Owner(self.connection, self.settings())
        await self._owners[process].beat(all_jobs)

    async def compare(self) -> Comparison:
        """The mirror against the truth."""
        return await compare(self.connection.engine, self.world.codes_visible_to(ACCESS_TOKEN))

    async def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """What a query finds."""
        async with transaction(self.connection.engine) as tx:
            return [dict(row) for row in (await tx.execute(text(statement), parameters)).mappings()]

    async def execute(self, statement: str, **parameters: Any) -> None:
        """Runs a statement that returns nothing."""
        async with transaction(self.connection.engine) as tx:
            await tx.execute(text(statement), parameters)

    def requests(self, operation: Operation = Operation.GET_CODES) -> list[RequestRecord]:
        """The requests of one operation so far."""
        return [record for record in self.simulator.requests if record.operation is operation]
