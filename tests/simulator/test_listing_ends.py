"""Asking on after a listing has ended is what a correct client never does."""

from typing import Any

import pytest

from sync.demo.simulator import Behaviour, Close, Operation, TruncatedBody
from tests.simulator.helpers import PORTFOLIO, Rig

BEYOND = "the listing had already ended before this cursor was sent"


async def cursor_of(rig: Rig, **properties: Any) -> str | None:
    cursor: str | None = (await rig.read(**properties)).json()["Cursor"]
    return cursor


async def test_a_cursor_of_a_short_page_is_not_sent_back(rig: Rig) -> None:
    rig.add("A", "B")
    cursor = await cursor_of(rig, count=3)
    assert (await rig.read(count=3, cursor=cursor)).json() == {"VoucherCodes": [], "Cursor": None}
    assert rig.simulator.violations == [f"request 2 (voucherCodes/getAll): {BEYOND}"]


async def test_a_short_page_need_not_be_the_end(rig: Rig) -> None:
    rig.simulator = rig.new_simulator(behaviour=Behaviour(short_page_ends=False))
    rig.add("A", "B")
    async with rig.simulator.serve() as rig.address:
        cursor = await cursor_of(rig, count=3)
        assert await cursor_of(rig, count=3, cursor=cursor) is None
        assert rig.simulator.violations == []
        await rig.read(count=3, cursor=cursor)
        assert len(rig.simulator.violations) == 1


async def test_an_empty_page_is_the_end_of_its_cursor(rig: Rig) -> None:
    rig.add("A", "B")
    cursor = await cursor_of(rig, count=2)
    assert await cursor_of(rig, count=2, cursor=cursor) is None
    assert rig.simulator.violations == []
    await rig.read(count=2, cursor=cursor)
    assert len(rig.simulator.violations) == 1


async def test_another_listing_may_use_the_same_id(rig: Rig) -> None:
    rig.add("A", "B")
    cursor = await cursor_of(rig, count=3)
    window = {"StartUtc": "2026-01-01T00:00:00Z", "EndUtc": "2026-02-01T00:00:00Z"}
    await rig.read(count=3, cursor=cursor, UpdatedUtc=window)
    await rig.read(count=3, cursor=cursor, token=PORTFOLIO)
    assert rig.simulator.violations == []


async def test_an_end_may_become_a_middle_later(rig: Rig) -> None:
    rig.add("A", minutes_ago=5)
    first = await cursor_of(rig, count=2)
    rig.add("older", minutes_ago=9)
    rig.add("newer", minutes_ago=1)
    assert await cursor_of(rig, count=2) == first
    assert await rig.values(count=2, cursor=first) == ["older"]
    assert rig.simulator.violations == []


@pytest.mark.parametrize("fault", [Close(processed=True), TruncatedBody()])
async def test_an_end_that_never_arrived_may_be_asked_for_again(rig: Rig, fault: Close | TruncatedBody) -> None:
    rig.add("A", "B")
    cursor = await cursor_of(rig, count=2)
    rig.simulator.faults.script(Operation.GET_CODES, fault)
    with pytest.raises(Exception, match=r"disconnected|complete"):
        await rig.read(count=2, cursor=cursor)
    assert await cursor_of(rig, count=2, cursor=cursor) is None
    assert rig.simulator.violations == []
