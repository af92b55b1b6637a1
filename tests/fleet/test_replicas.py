"""Replicas as processes: they join, leave, are killed and paused, and every hotel goes on, each change made once."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest

from sync.demo.simulator import Operation
from sync.fleet.liveness import DEAD_AFTER_S
from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import Fleet, served, until_done
from tests.support.daemon import PATIENCE_S, running
from tests.support.mirror import Mirror

HOTELS = 6
TOLD_OF_ONE = "SELECT error FROM sync.connections WHERE name = 'hotel-0' AND state = 'failing'"


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Some hotels, served."""
    async with served(database_url, tmp_path, HOTELS) as fleet:
        yield fleet


@pytest.mark.long
async def test_who_joins_gets_half_and_who_leaves_gives_it_back_at_once(fleet: Fleet) -> None:
    calls = Calls(fleet.mirror.simulator)
    async with fleet.replica(MEWS_CLIENT="first") as first:
        await fleet.all_pulled()
        await fleet.until_shared(HOTELS)
        async with fleet.replica() as second:
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            await fleet.all_pulled()
            handed_over = await fleet.hotels_of(second)
            stopped_s = now_s()
            assert await second.stopped(signal.SIGTERM) == 0
        await fleet.until_shared(HOTELS)
        await fleet.all_pulled()
        made = [one for one in calls.seen if one.client == "first" and one.at_s > stopped_s]
        for name in handed_over:
            of_hotel = [one.operation for one in made if one.hotel == name]
            assert Operation.GET_VOUCHERS not in of_hotel[: of_hotel.index(Operation.GET_CODES)], "they are known"
        assert await first.stopped(signal.SIGTERM) == 0
    assert set((await fleet.owners()).values()) == {None}


@pytest.mark.long
async def test_it_gives_back_what_ended_while_it_could_not_yet_say_that_it_leaves(
    database_url: str, tmp_path: Path
) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened(), running(mirror, tmp_path, SYNC_PULL_INTERVAL_S="600") as daemon:
        await daemon.event("pulled")
        with psycopg.connect(database_url) as other:
            other.execute("SELECT FROM sync.daemons FOR UPDATE")
            assert await daemon.stopped(signal.SIGTERM) == 0
        assert await mirror.rows("SELECT owner FROM sync.connections") == [{"owner": None}]


@pytest.mark.long
async def test_a_killed_replica_s_hotels_go_on(fleet: Fleet) -> None:
    async with fleet.replica() as first, fleet.replica():
        await fleet.until_shared(HOTELS // 2, HOTELS // 2)
        first.process.kill()
        await first.process.wait()
        await fleet.until_shared(HOTELS)
        await fleet.all_pulled()


@pytest.mark.long
async def test_a_paused_replica_s_hotels_go_on_and_it_writes_nothing_when_it_wakes(fleet: Fleet) -> None:
    """SIGSTOP: it holds its lock and its sessions, and knows nothing of the time that has passed."""
    async with fleet.replica() as zombie:
        await fleet.all_pulled()
        async with fleet.replica():
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            zombie.process.send_signal(signal.SIGSTOP)
            try:
                for name in fleet.vouchers:
                    fleet.queue(name, *(f"{name}-{n}" for n in range(3)))
                await fleet.until_shared(HOTELS)
                await until_done(fleet.mirror.database_url)
            finally:
                zombie.process.send_signal(signal.SIGCONT)
            await zombie.event("owner_unknown")
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            for name in fleet.vouchers:
                fleet.queue(name, f"{name}-after")
            await until_done(fleet.mirror.database_url)
    assert fleet.made() == {f"{name}-{n}": 1 for name in fleet.vouchers for n in (0, 1, 2, "after")}


@pytest.mark.long
async def test_a_connection_that_is_added_is_picked_up_and_one_that_is_paused_is_left(fleet: Fleet) -> None:
    async with fleet.replica():
        await fleet.all_pulled()
        with psycopg.connect(fleet.mirror.database_url, autocommit=True) as connection:
            connection.execute("UPDATE sync.connections SET paused_at = now() WHERE name = 'hotel-0'")
            await fleet.all_pulled([f"hotel-{n}" for n in range(1, HOTELS)])
            await fleet.all_pulled([f"hotel-{n}" for n in range(1, HOTELS)])
            before = fleet.pulls()["hotel-0"]
            await fleet.all_pulled([f"hotel-{n}" for n in range(1, HOTELS)])
            assert fleet.pulls()["hotel-0"] == before
            connection.execute("UPDATE sync.connections SET paused_at = NULL WHERE name = 'hotel-0'")
            await fleet.all_pulled()


@pytest.mark.long
async def test_a_token_that_cannot_be_read_stops_nobody_else(fleet: Fleet) -> None:
    with psycopg.connect(fleet.mirror.database_url, autocommit=True) as connection:
        connection.execute("UPDATE sync.connections SET access_token = 'x' WHERE name = 'hotel-0'")
        async with fleet.replica() as replica:
            assert (await replica.event("left_to_others"))["connections"] == 1
            await fleet.all_pulled([f"hotel-{n}" for n in range(1, HOTELS)])
            async with asyncio.timeout(PATIENCE_S):
                while (told := connection.execute(TOLD_OF_ONE).fetchone()) is None:
                    await fleet.all_pulled(["hotel-1"])
    assert "connections rotate hotel-0" in told[0]


@pytest.mark.long
async def test_of_two_with_the_same_environment_one_works_and_the_other_stands_by(
    database_url: str, tmp_path: Path
) -> None:
    mirror = Mirror(database_url)
    voucher = mirror.add_voucher()
    async with mirror.opened(), AsyncExitStack() as replicas:
        first = await replicas.enter_async_context(running(mirror, tmp_path))
        await first.event("working")
        spare = await replicas.enter_async_context(running(mirror, tmp_path))
        await spare.event("standing_by")
        first.process.kill()
        await spare.event("working", patience_s=PATIENCE_S + DEAD_AFTER_S)
        mirror.add_codes(voucher, ["A"], days_old=0)
        while not (await mirror.compare()).is_equal:
            await spare.event("pulled")
