"""Asking on after a listing has ended is what a correct client never does."""

from typing import Any

import pytest

from sync.demo.simulator import Behaviour, Close, Operation, TruncatedBody
from tests.simulator.helpers import PORTFOLIO, Stage

BEYOND = "the listing had already ended before this cursor was sent"


async def cursor_of(stage: Stage, **properties: Any) -> str | None:
    cursor: str | None = (await stage.read(**properties)).json()["Cursor"]
    return cursor


async def test_a_cursor_of_a_short_page_is_not_sent_back(stage: Stage) -> None:
    stage.add("A", "B")
    cursor = await cursor_of(stage, count=3)
    assert (await stage.read(count=3, cursor=cursor)).json() == {"VoucherCodes": [], "Cursor": None}
    assert stage.simulator.violations == [f"request 2 (voucherCodes/getAll): {BEYOND}"]


async def test_a_short_page_need_not_be_the_end(stage: Stage) -> None:
    stage.simulator = stage.new_simulator(behaviour=Behaviour(short_page_ends=False))
    stage.add("A", "B")
    async with stage.simulator.serve() as stage.address:
        cursor = await cursor_of(stage, count=3)
        assert await cursor_of(stage, count=3, cursor=cursor) is None
        assert stage.simulator.violations == []
        await stage.read(count=3, cursor=cursor)
        assert len(stage.simulator.violations) == 1


async def test_an_empty_page_is_the_end_of_its_cursor(stage: Stage) -> None:
    stage.add("A", "B")
    cursor = await cursor_of(stage, count=2)
    assert await cursor_of(stage, count=2, cursor=cursor) is None
    assert stage.simulator.violations == []
    await stage.read(count=2, cursor=cursor)
    assert len(stage.simulator.violations) == 1


async def test_another_listing_may_use_the_same_id(stage: Stage) -> None:
    stage.add("A", "B")
    cursor = await cursor_of(stage, count=3)
    window = {"StartUtc": "2026-01-01T00:00:00Z", "EndUtc": "2026-02-01T00:00:00Z"}
    await stage.read(count=3, cursor=cursor, UpdatedUtc=window)
    await stage.read(count=3, cursor=cursor, token=PORTFOLIO)
    assert stage.simulator.violations == []


async def test_an_end_may_become_a_middle_later(stage: Stage) -> None:
    stage.add("A", minutes_ago=5)
    first = await cursor_of(stage, count=2)
    stage.add("older", minutes_ago=9)
    stage.add("newer", minutes_ago=1)
    assert await cursor_of(stage, count=2) == first
    assert await stage.values(count=2, cursor=first) == ["older"]
    assert stage.simulator.violations == []


@pytest.mark.parametrize("fault", [Close(processed=True), TruncatedBody()])
async def test_an_end_that_never_arrived_may_be_asked_for_again(stage: Stage, fault: Close | TruncatedBody) -> None:
    stage.add("A", "B")
    cursor = await cursor_of(stage, count=2)
    stage.simulator.faults.script(Operation.GET_CODES, fault)
    with pytest.raises(Exception, match=r"disconnected|complete"):
        await stage.read(count=2, cursor=cursor)
    assert await cursor_of(stage, count=2, cursor=cursor) is None
    assert stage.simulator.violations == []
