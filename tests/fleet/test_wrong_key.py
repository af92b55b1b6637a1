"""A replica that has not the key to a connection leaves it to who has, and what nobody can open is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.fleet import liveness
from sync.fleet.tokens import TokenBox, TokenOf, new_key
from tests.fleet.calls import Calls, now_s
from tests.fleet.members import HOTELS, Time, joining, owners, share
from tests.fleet.replicas import Fleet, served
from tests.support.daemon import PATIENCE_S

OLD, NEW = new_key(), new_key()
REPLACE = "UPDATE sync.connections SET access_token = %s WHERE name = %s"
STATES = "SELECT name, state, error FROM sync.connections WHERE origin = 'command' ORDER BY name"
REFUSE_OUTAGES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON sync.outages FOR EACH ROW EXECUTE FUNCTION refuse();
"""
OUTAGES = "SELECT count(*) FROM sync.outages WHERE ended_at IS NULL"
EPOCHS = "SELECT name, epoch FROM sync.connections ORDER BY name"


async def encrypt(url: str, numbers: range, key: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as session:
        for name in (f"hotel {number}" for number in numbers):
            token = TokenBox([key]).encrypt("token", TokenOf(name, "https://api.mews.com", "access"))
            await session.execute(REPLACE, [token, name])


async def query(url: str, statement: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
        return await (await session.execute(statement.encode())).fetchall()


async def test_what_another_key_opens_is_not_taken_and_nothing_moves_for_it(
    engines: list[AsyncEngine], database_url: str, time: Time
) -> None:
    await encrypt(database_url, range(HOTELS), OLD)
    right, wrong = joining(engines[0], keys=[OLD]), joining(engines[1], keys=[NEW])
    await share(right)
    before = await query(database_url, EPOCHS)
    await share(wrong, right, wrong, right)
    assert await owners(engines[0]) == {right.replica.process: HOTELS}
    assert await query(database_url, EPOCHS) == before


async def test_while_a_key_is_replaced_each_has_what_it_can_open_and_shares_stay_fair(
    engines: list[AsyncEngine], database_url: str, time: Time
) -> None:
    await encrypt(database_url, range(HOTELS), OLD)
    both, old = joining(engines[0], keys=[NEW, OLD]), joining(engines[1], keys=[OLD])
    await share(both, old)
    assert set((await owners(engines[0])).values()) == {HOTELS // 2}
    await encrypt(database_url, range(4), NEW)
    await share(old, both, old, both)
    assert set((await owners(engines[0])).values()) == {HOTELS // 2}
    assert (await both.beat()).owned.keys() >= {f"hotel {number}" for number in range(4)}
    await encrypt(database_url, range(HOTELS), NEW)
    await share(old, both, old, both)
    assert await owners(engines[0]) == {both.replica.process: HOTELS}


async def test_one_of_a_release_before_names_no_key_and_has_its_share(
    engines: list[AsyncEngine], database_url: str, time: Time
) -> None:
    await encrypt(database_url, range(HOTELS), OLD)
    new, before = joining(engines[0], keys=[OLD]), joining(engines[1])
    await share(new)
    await share(before, new)
    half = HOTELS // 2
    assert await owners(engines[0]) == {new.replica.process: half, before.replica.process: half}


async def test_that_nobody_opens_it_is_told_once_after_a_while_and_not_of_what_somebody_works_for(
    engines: list[AsyncEngine], database_url: str, time: Time
) -> None:
    await encrypt(database_url, range(2), NEW)
    await encrypt(database_url, range(2, HOTELS), OLD)
    one = joining(engines[0], keys=[OLD])
    assert (await one.beat()).unopened == []
    time.now_s += liveness.DEAD_AFTER_S
    found = await one.beat()
    assert sorted(found.unopened) == ["hotel 0", "hotel 1"]
    for name in found.unopened:
        one.unopened.told(name)
    assert (await one.beat()).unopened == []
    other = joining(engines[1], keys=[NEW, OLD])
    await other.beat()
    time.now_s += liveness.DEAD_AFTER_S / 2
    assert (await other.beat()).owned.keys() >= {"hotel 0", "hotel 1"}
    assert (await one.beat()).unopened == []


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Some hotels, served."""
    async with served(database_url, tmp_path, 4) as fleet:
        yield fleet


async def until_states(fleet: Fleet, *states: str) -> list[Any]:
    """Waits until connections are in these states and no others; each with its name and its error."""
    rows: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        while {state for _, state, _ in rows} != set(states):
            rows = await query(fleet.mirror.database_url, STATES)
    return rows


@pytest.mark.long
async def test_a_replica_with_a_wrong_key_stands_by_until_it_has_the_right_one(fleet: Fleet) -> None:
    calls, wrong = Calls(fleet.mirror.simulator), new_key()
    async with fleet.replica():
        await fleet.until_shared(4)
        before = await fleet.owned_by()
        async with fleet.replica(SYNC_SECRET_KEY=wrong) as other:
            assert (await other.event("left_to_others"))["connections"] == 4
            await other.event("standing_by")
            for _ in range(3):
                await calls.until_pulled(fleet.vouchers, now_s())
            assert await fleet.owned_by() == before
            await until_states(fleet, "ok")
        async with fleet.replica():
            await fleet.until_shared(2, 2)


@pytest.mark.long
async def test_what_no_replica_can_open_fails_with_its_reason_until_one_can(fleet: Fleet) -> None:
    calls = Calls(fleet.mirror.simulator)
    async with fleet.replica(SYNC_SECRET_KEY=new_key()), fleet.replica(SYNC_SECRET_KEY=new_key()):
        failing = await until_states(fleet, "failing")
        assert all(f"connection {name}: no key of SYNC_SECRET_KEY reads" in error for name, _, error in failing)
        assert await fleet.owned_by() == {None: 4}
        async with fleet.replica():
            await calls.until_pulled(fleet.vouchers, now_s())
            await until_states(fleet, "ok")


@pytest.mark.long
async def test_an_outage_that_found_no_place_at_first_is_noted_of_what_nobody_opens(fleet: Fleet) -> None:
    url = fleet.mirror.database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
        await session.execute(REFUSE_OUTAGES)
        async with fleet.replica(SYNC_SECRET_KEY=new_key()):
            await until_states(fleet, "failing")
            await session.execute("DROP TRIGGER refuse ON sync.outages")
            async with asyncio.timeout(PATIENCE_S):
                while await (await session.execute(OUTAGES)).fetchone() != (4,):
                    await session.execute("SELECT pg_sleep(0.1)")
