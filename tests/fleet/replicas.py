"""Many hotels served by one simulated API, and replicas as processes that share them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from sync.demo.simulator import Operation, Voucher
from sync.fleet.tokens import TokenBox, TokenOf, new_key
from tests.support.daemon import PATIENCE_S, UNSET, Daemon, running
from tests.support.mirror import CLIENT_TOKEN, Mirror

ADD = """
INSERT INTO sync.connections (name, state, origin, platform_address, access_token, added_at)
VALUES (%s, 'ok', 'command', %s, %s, now())
"""
OWNERS = "SELECT name, owner::text FROM sync.connections WHERE origin = 'command' ORDER BY name"
OPEN = "SELECT count(*) FROM mews.voucher_code_outbox WHERE status <> 'done'"


@dataclass
class Fleet:
    """Hotels with a token and a voucher each, and the mirror that serves them."""

    mirror: Mirror
    directory: Path
    key: str = field(default_factory=new_key)
    vouchers: dict[str, Voucher] = field(default_factory=dict)
    hotel_ids: dict[str, UUID] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def add_hotels(self, number: int) -> None:
        """Hotels whose tokens the database keeps."""
        names = [f"hotel-{n}" for n in range(number)]
        for name in names:
            self.vouchers[name] = self.open_hotel(name, self.mirror.clock())
        self.connect(names)
        self.mirror.simulator.on_request = self._tell

    def open_hotel(self, name: str, created_utc: datetime) -> Voucher:
        """A hotel of the API, with its voucher, that the database does not know of."""
        world = self.mirror.world
        hotel = world.add_enterprise(name)
        world.add_token(token_of(name), name=name, enterprise_ids=[hotel.id])
        service = world.add_service(hotel.id, "Stay")
        self.hotel_ids[name] = hotel.id
        return world.add_voucher(service.id, "Summer", created_utc=created_utc)

    def connect(self, names: Iterable[str]) -> None:
        """Has the database know these hotels' tokens."""
        box, address = TokenBox([self.key]), self.mirror.address
        with psycopg.connect(self.mirror.database_url, autocommit=True) as connection:
            for name in names:
                token = box.encrypt(token_of(name), TokenOf(name, address, "access"))
                connection.execute(ADD.encode(), [name, address, token])

    async def _tell(self, _operation: Operation, _body: Any) -> None:
        self.news.set()

    def pulls(self) -> Counter[str | None]:
        """How often each hotel was pulled."""
        return Counter(record.token for record in self.mirror.requests())

    async def all_pulled(self, names: Iterable[str] | None = None) -> None:
        """Waits until each of these hotels was pulled once more."""
        before, wanted = self.pulls(), set(names or self.vouchers)
        async with asyncio.timeout(PATIENCE_S):
            while any(self.pulls()[name] <= before[name] for name in wanted):
                self.news.clear()
                await self.news.wait()

    def made(self) -> Counter[str]:
        """How often each code exists."""
        return Counter(str(code.value) for code in self.mirror.world.codes.truth.values())

    @asynccontextmanager
    async def replica(self, **settings: str) -> AsyncIterator[Daemon]:
        """A replica without tokens of its own."""
        async with running(self.mirror, self.directory, **self.settings(**settings)) as daemon:
            yield daemon

    def settings(self, **settings: str) -> dict[str, str]:
        """Those of a replica, beside what its mirror gives it."""
        own = {"SYNC_SECRET_KEY": self.key, "MEWS_ACCESS_TOKEN": UNSET, "MEWS_CLIENT_TOKEN": CLIENT_TOKEN}
        own = {"SYNC_LEASE_S": "30", "SYNC_PULL_INTERVAL_S": "1", "SYNC_DISCOVERY_INTERVAL_S": "5"} | own
        # What nobody reads fills a pipe, and stops who writes it.
        return own | {"SYNC_LOG_LEVEL": "info", "SYNC_LISTEN_URL": self.mirror.database_url} | settings

    async def owned_by(self) -> Counter[str | None]:
        """How many connections each owner has."""
        return Counter((await self.owners()).values())

    async def owners(self) -> dict[str, str | None]:
        """The owner of each connection."""
        ask = partial(_query, self.mirror.database_url, OWNERS)
        return dict(await asyncio.to_thread(ask))

    async def hotels_of(self, replica: Daemon) -> list[str]:
        """The hotels that a replica works for, which was begun and not asked for its events before."""
        process = next((line["process"] for line in replica.logs if line["event"] == "started"), None)
        process = process or (await replica.event("started"))["process"]
        return [name for name, owner in (await self.owners()).items() if owner == process]

    async def until_shared(self, *shares: int) -> None:
        """Waits until owners have so many connections each."""
        async with asyncio.timeout(PATIENCE_S):
            while (found := await self.owned_by()) and (None in found or sorted(found.values()) != sorted(shares)):
                await asyncio.to_thread(_query, self.mirror.database_url, "SELECT pg_sleep(0.1)")

    def queue(self, name: str, *values: str) -> None:
        """Queues adds for a hotel."""
        statement = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, %s)"
        with psycopg.connect(self.mirror.database_url, autocommit=True) as connection:
            for value in values:
                connection.execute(statement.encode(), [self.vouchers[name].id, value])


@asynccontextmanager
async def served(
    database_url: str, directory: Path, hotels: int, *, takes_doubles: bool = False
) -> AsyncIterator[Fleet]:
    """So many hotels, served. `takes_doubles`: whatever is sent twice is added twice.

    Their replicas have broken no rule of the API in the end.
    """
    mirror = Mirror(database_url)
    mirror.simulator.behaviour.allow_duplicates = takes_doubles
    async with mirror.served():
        fleet = Fleet(mirror, directory)
        fleet.add_hotels(hotels)
        yield fleet
    assert mirror.simulator.violations == []


async def until_done(database_url: str, patience_s: float = 2 * PATIENCE_S) -> None:
    """Waits until no change is left to be made."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        async with asyncio.timeout(patience_s):
            while await (await connection.execute(OPEN)).fetchone() != (0,):
                await connection.execute("SELECT pg_sleep(0.1)")


def token_of(name: str) -> str:
    """The access token of a hotel."""
    return f"token-of-{name}"


def _query(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()
