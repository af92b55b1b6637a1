"""Other tokens and other keys while replicas run: no hotel waits, and no token is used that was replaced."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from sync.demo.simulator import Operation
from sync.fleet.tokens import TokenBox, TokenOf, new_key
from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import Fleet, served, token_of

HOTELS = 4
NEWS_S = 5.0
"""What people change is noticed within this time."""
REPLACE = "UPDATE sync.connections SET access_token = %s WHERE name = %s"


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Some hotels, served."""
    async with served(database_url, tmp_path, HOTELS) as fleet:
        yield fleet


async def replace(fleet: Fleet, tokens: dict[str, str], *keys: str) -> None:
    """Has hotels' tokens encrypted with the first of these keys, in one transaction."""
    box, address = TokenBox(keys), fleet.mirror.address
    async with await psycopg.AsyncConnection.connect(fleet.mirror.database_url) as session:
        for name, token in tokens.items():
            await session.execute(REPLACE, [box.encrypt(token, TokenOf(name, address, "access")), name])


@pytest.mark.long
async def test_tokens_that_are_encrypted_anew_restart_nothing(fleet: Fleet) -> None:
    calls, key = Calls(fleet.mirror.simulator), new_key()
    keys = {"SYNC_SECRET_KEY": f"{key},{fleet.key}", "SYNC_DISCOVERY_INTERVAL_S": "600"}
    async with fleet.replica(**keys), fleet.replica(**keys):
        await fleet.until_shared(HOTELS // 2, HOTELS // 2)
        for _ in range(3):  # a hotel that has moved is pulled, then discovered, and pulled again
            await calls.until_pulled(fleet.vouchers, now_s())
        changed_s = now_s()
        await replace(fleet, {name: token_of(name) for name in fleet.vouchers}, key, fleet.key)
        while now_s() < changed_s + NEWS_S:
            await calls.until_pulled(fleet.vouchers, now_s())
    begun = [call for call in calls.seen if call.at_s > changed_s and call.operation is Operation.GET_ENTERPRISES]
    assert begun == []


@pytest.mark.long
async def test_a_rotated_token_is_used_no_more_and_no_hotel_waits_for_the_new_one(fleet: Fleet) -> None:
    calls, world, hotel = Calls(fleet.mirror.simulator), fleet.mirror.world, "hotel-0"
    async with fleet.replica(), fleet.replica():
        await fleet.until_shared(HOTELS // 2, HOTELS // 2)
        await calls.until_pulled(fleet.vouchers, now_s())
        enterprises = [fleet.hotel_ids[hotel]]
        world.add_token("the-new-one", name="new", enterprise_ids=enterprises)
        changed_s = now_s()
        await replace(fleet, {hotel: "the-new-one"}, fleet.key)
        first = await calls.until_pulled(["new"], changed_s)
        assert first["new"] < NEWS_S
        taken_s = changed_s + first["new"]
        for _ in range(3):
            await calls.until_pulled(["new"], now_s())
        await asyncio.wait_for(calls.until_pulled([name for name in fleet.vouchers if name != hotel], now_s()), NEWS_S)
    assert [call for call in calls.seen if call.hotel == hotel and call.at_s > taken_s] == []
    gaps = calls.longest_gaps([hotel, "new"], changed_s - NEWS_S, taken_s)
    assert gaps[hotel] < NEWS_S + 1
