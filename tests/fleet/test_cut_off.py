"""Replicas that lose the database, in the middle of a transaction too: others take over, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from sync.fleet.liveness import DEAD_AFTER_S
from sync.postgres.engine import STANDSTILL_S
from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import Fleet, served, until_done
from tests.support.daemon import PATIENCE_S
from tests.support.proxy import Proxy

HOTELS = 4
TAKEN_OVER_S = 15.0
SLOWER = 2.0
"""Beside other tests a machine takes so much longer."""
CODE = "SELECT FROM mews.voucher_codes WHERE value = 'NEW'"


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Some hotels, served, where whatever is sent twice is added twice."""
    async with served(database_url, tmp_path, HOTELS, takes_doubles=True) as fleet:
        yield fleet


@pytest.mark.long
@pytest.mark.direct
@pytest.mark.parametrize("is_held", [False, True], ids=["reset", "held"])
async def test_a_replica_that_is_cut_off_from_the_database_writes_nothing_and_its_hotels_go_on(
    fleet: Fleet, *, is_held: bool
) -> None:
    calls, database_url = Calls(fleet.mirror.simulator), fleet.mirror.database_url
    async with Proxy(database_url).served() as way:
        victims = {"DATABASE_URL": way.url, "SYNC_LISTEN_URL": way.url, "MEWS_CLIENT": "victim"}
        async with fleet.replica(**victims) as victim, fleet.replica(MEWS_CLIENT="heir"):
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            await calls.until_pulled(fleet.vouchers, now_s())
            hotels, cut_s = await fleet.hotels_of(victim), now_s()
            way.hold() if is_held else way.break_down()
            for name in fleet.vouchers:
                fleet.queue(name, *(f"{name}-{n}" for n in range(3)))
            pulled = await calls.until_pulled(hotels, cut_s, but="victim")
            assert max(pulled.values()) < TAKEN_OVER_S * SLOWER
            await until_done(database_url)
            healed_s = now_s()
            way.let_be()
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            for name in fleet.vouchers:
                fleet.queue(name, f"{name}-after")
            await until_done(database_url)
            assert calls.taken_twice("victim", healed_s) == []
    assert fleet.made() == {f"{name}-{n}": 1 for name in fleet.vouchers for n in (0, 1, 2, "after")}


@pytest.mark.long
@pytest.mark.direct
async def test_what_is_locked_by_a_transaction_that_stands_still_is_free_again_soon(fleet: Fleet) -> None:
    """The session of a process that is stopped, or cut off, stays: without an end to it nobody else could write."""
    database_url = fleet.mirror.database_url
    async with Proxy(database_url).served() as way:
        victims = {"DATABASE_URL": way.url, "SYNC_LISTEN_URL": way.url}
        async with fleet.replica(**victims) as victim, fleet.replica():
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            await fleet.all_pulled()
            hotel = (await fleet.hotels_of(victim))[0]
            way.hold_at_commit(b"INSERT INTO mews.voucher_codes", is_committed=False)
            instant = fleet.mirror.clock()
            fleet.mirror.world.add_codes(fleet.vouchers[hotel].id, ["NEW"], created_utc=instant, updated_utc=instant)
            async with asyncio.timeout(PATIENCE_S):
                await way.was_held.wait()
            async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as session:
                assert await (await session.execute(CODE)).fetchone() is None
                async with asyncio.timeout(SLOWER * (DEAD_AFTER_S + STANDSTILL_S)):
                    while await (await session.execute(CODE)).fetchone() is None:
                        await session.execute("SELECT pg_sleep(0.1)")
            way.let_be()
