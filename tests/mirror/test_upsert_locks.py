"""Pages that are stored at once never deadlock, the fresher reading wins, and a page is stored as a whole."""

import asyncio
from datetime import datetime

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mirror.upsert import store_voucher_codes
from sync.postgres.engine import transaction
from tests.mirror.helpers import NEW, NEWEST, OLD
from tests.support.database import CONNECTION, PATIENCE_S, blocked, code, make_known, mirrored, rows, store, uuid


async def test_a_page_without_news_waits_for_nobodys_locks(engine: AsyncEngine) -> None:
    page = [code(number, "A", NEW) for number in range(10)]
    await store(engine, *page)
    async with transaction(engine) as other, asyncio.timeout(PATIENCE_S):
        await other.execute(text("SELECT FROM mews.voucher_codes FOR UPDATE"))
        assert await store(engine, *page, page[0]._replace(value="STALE", updated_utc=OLD)) == 0


async def test_rows_are_locked_in_the_order_of_their_ids(engine: AsyncEngine) -> None:
    # They lie on disk in another order than that of their ids and of the page.
    await store(engine, *(code(number) for number in (3, 1, 5)))
    await store(engine, *(code(number) for number in (4, 2)))
    is_free = "SELECT id FROM mews.voucher_codes ORDER BY id FOR UPDATE SKIP LOCKED"
    async with transaction(engine) as other:
        await other.execute(text("SELECT FROM mews.voucher_codes WHERE id = :id FOR UPDATE"), {"id": uuid(3)})
        storing = asyncio.create_task(store(engine, *(code(number, "NEW", NEW) for number in (5, 2, 3, 1, 4))))
        await blocked(engine, storing)
        free = [row["id"].int for row in await rows(engine, is_free)]
    assert await storing == 5
    assert free == [4, 5]


async def test_pages_in_opposite_orders_do_not_deadlock(engine: AsyncEngine) -> None:
    await store(engine, *(code(number) for number in (1, 2, 3)))
    first = [code(1, "FIRST", NEWEST), code(2, "FIRST", NEW), code(3, "FIRST", OLD)]
    second = [code(3, "SECOND", NEWEST), code(2, "SECOND", NEW), code(1, "SECOND", OLD)]
    async with transaction(engine) as other:
        await other.execute(text("SELECT FROM mews.voucher_codes WHERE id = :id FOR UPDATE"), {"id": uuid(2)})
        one = asyncio.create_task(store(engine, *first))
        await blocked(engine, one)
        two = asyncio.create_task(store(engine, *second))
        await blocked(engine, one, two, sessions=2)
    assert (await one, await two) == (3, 2)
    assert await mirrored(engine) == {1: first[0], 2: second[1], 3: second[0]}


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize(("earlier", "later", "is_replaced"), [(NEW, OLD, False), (OLD, NEW, True), (NEW, NEW, True)])
async def test_the_fresher_of_two_uncommitted_readings_wins(
    engine: AsyncEngine, earlier: datetime, later: datetime, is_replaced: bool, is_stored: bool
) -> None:
    if is_stored:
        await store(engine, code(1, "STORED"))
    first, second = code(1, "FIRST", earlier), code(1, "SECOND", later)
    async with transaction(engine) as tx:
        await make_known(tx)
    async with transaction(engine) as tx:
        await store_voucher_codes(tx, CONNECTION, [first])
        storing = asyncio.create_task(store(engine, second))
        await blocked(engine, storing)
    assert await storing == is_replaced
    assert await mirrored(engine) == {1: second if is_replaced else first}


async def test_a_page_rolls_back_as_a_whole(engine: AsyncEngine) -> None:
    await store(engine, code(1, "A", OLD))

    async def fail() -> None:
        async with transaction(engine) as tx:
            await store_voucher_codes(tx, CONNECTION, [code(1, "B", NEW), code(2, "B", NEW)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await mirrored(engine) == {1: code(1, "A", OLD)}
