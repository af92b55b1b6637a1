"""A delete of an add that was not sent yet cancels it, and deletes what stands all the same."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.gaps import Gap, Known
from sync.outbox.claims import as_daemon, claim
from sync.outbox.due import Wanted, lock_due
from sync.outbox.gap import hold_before_gap
from sync.outbox.rules import Status
from tests.support.claims import attempt_of
from tests.support.database import PATIENCE_S, code, rows, store, uuid
from tests.support.instants import utc
from tests.support.queue import (
    ADDS,
    OTHER_VOUCHER,
    UNKNOWN_VOUCHER,
    VOUCHER,
    Outbox,
    as_user,
    assert_both_are_cancelled,
    execute,
    queue,
    second,
)


@pytest.mark.parametrize("status", [Status.PENDING, Status.HELD])
@pytest.mark.parametrize("not_before", [None, utc(2099, 1, 1)])
async def test_a_delete_takes_back_an_add_that_was_never_sent(outbox: Outbox, status: Status, not_before: Any) -> None:
    add = await outbox.add("SUMMER", not_before=not_before)
    await outbox.bring(add, status)
    beside = [await outbox.add("WINTER"), await outbox.add("SUMMER", voucher_id=OTHER_VOUCHER)]
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))
    assert [await outbox.status(one) for one in beside] == [Status.PENDING] * 2
    assert await outbox.status(await outbox.delete("SUMMER")) is Status.PENDING


async def test_an_add_of_an_unknown_voucher_is_taken_back_too(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER", voucher_id=UNKNOWN_VOUCHER)
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER", voucher_id=UNKNOWN_VOUCHER))


async def test_one_statement_may_add_and_take_back(outbox: Outbox) -> None:
    await execute(
        outbox.engine,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES "
        "('add', :v, 'A'), ('add', :v, 'B'), ('delete', :v, 'A'), "
        "('delete', :v, 'C'), ('add', :v, 'A'), ('delete', :v, 'B')",
        v=VOUCHER,
    )
    found = await rows(outbox.engine, "SELECT id, value, status FROM mews.voucher_code_outbox ORDER BY id")
    assert [(row["value"], row["status"]) for row in found] == [
        ("A", "cancelled"),
        ("B", "cancelled"),
        ("A", "cancelled"),
        ("C", "pending"),
        ("A", "pending"),
        ("B", "cancelled"),
    ]
    await assert_both_are_cancelled(outbox, found[0]["id"], found[2]["id"])


@pytest.mark.parametrize("status", Status)
async def test_an_add_that_was_sent_is_not_taken_back(outbox: Outbox, status: Status) -> None:
    add = await outbox.add("SUMMER")
    await outbox.set(add, attempts=1)
    await outbox.bring(add, status)
    assert await outbox.status(await outbox.delete("SUMMER")) is Status.PENDING
    assert await outbox.status(add) is status


async def test_a_delete_of_another_code_by_id_takes_nothing_back(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    add = await outbox.add("SUMMER")
    delete = await outbox.queue("delete", voucher_code_id=uuid(1))
    assert [await outbox.status(one) for one in (add, delete)] == [Status.PENDING] * 2


async def test_a_delete_that_takes_back_an_add_still_deletes_the_code_that_stands(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    add = await outbox.add("SUMMER")
    delete = await outbox.row(await outbox.delete("SUMMER"))
    assert (delete["status"], delete["last_error"], delete["finished_at"]) == ("pending", None, None)
    assert await outbox.status(add) is Status.CANCELLED


async def test_a_delete_behind_one_of_the_code_that_stands_only_takes_back_an_add(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    first = await outbox.delete("SUMMER")
    add = await outbox.add("SUMMER")
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))
    assert await outbox.status(first) is Status.PENDING


async def test_a_code_that_stands_no_longer_needs_no_delete(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER", is_active=False))
    add = await outbox.add("SUMMER")
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))


async def claim_all(tx: AsyncConnection) -> list[int]:
    """Claims every add that is due."""
    due = [row.id for row in await lock_due(tx, Wanted(ADDS, 100))]
    await claim(tx, attempt_of(uuid4()), dict.fromkeys(due))
    return due


async def test_a_delete_waits_for_a_claim_and_stays_pending_once_it_is_committed(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        assert await claim_all(tx) == [add]
        async with second(outbox, lambda other: queue(other, "delete", value="SUMMER")) as task:
            await tx.commit()
    delete = await outbox.row(await task)
    assert (delete["status"], delete["last_error"], delete["finished_at"]) == ("pending", None, None)
    assert await outbox.status(add) is Status.SENDING


async def test_a_delete_takes_back_an_add_whose_claim_was_rolled_back(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        assert await claim_all(tx) == [add]
        async with second(outbox, lambda other: queue(other, "delete", value="SUMMER")) as task:
            await tx.rollback()
    await assert_both_are_cancelled(outbox, add, await task)


async def test_nothing_is_claimed_that_is_being_taken_back(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with as_user(outbox.engine) as tx:
        delete = await queue(tx, "delete", value="SUMMER")
        async with asyncio.timeout(PATIENCE_S), as_daemon(outbox.engine) as daemon:
            assert await claim_all(daemon) == []
    assert delete is not None
    await assert_both_are_cancelled(outbox, add, delete)
    async with as_daemon(outbox.engine) as daemon:
        assert await claim_all(daemon) == []


async def test_a_delete_that_is_rolled_back_takes_nothing_back(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with as_user(outbox.engine) as tx:
        await queue(tx, "delete", value="SUMMER")
        await tx.rollback()
    assert (await outbox.status(add), (await outbox.row(add))["last_error"]) == (Status.PENDING, None)
    async with as_daemon(outbox.engine) as daemon:
        assert await claim_all(daemon) == [add]


def found(gap: Gap, at: datetime, through: int) -> Known:
    return Known(None, 0, None, None, None, None, None, gap, at, through)


async def assert_it_deletes_what_was_made(outbox: Outbox, add: int, delete: int) -> None:
    added, deleted = await outbox.row(add), await outbox.row(delete)
    assert (added["status"], deleted["status"], deleted["took_back_id"]) == ("cancelled", "pending", None)
    assert added["last_error"] == f"taken back by the delete in row {delete}, which deletes what it may have made"


async def test_a_delete_that_meets_a_hold_before_a_gap_deletes_what_the_add_may_have_made(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        held = await hold_before_gap(tx, found(Gap.BEHIND, await outbox.now(), add))
        assert held.ids == {add}
        async with second(outbox, lambda other: queue(other, "delete", value="SUMMER")) as task:
            await tx.commit()
    await assert_it_deletes_what_was_made(outbox, add, await task)


@pytest.mark.parametrize(("gap", "through"), [(Gap.BEHIND, 0), (Gap.COPY, -1)])
async def test_so_does_one_of_an_add_that_a_gap_is_still_to_hold(outbox: Outbox, gap: Gap, through: int) -> None:
    add = await outbox.add("SUMMER")
    noticed = "UPDATE sync.incarnation SET gap = :gap, gap_at = clock_timestamp(), gap_through = :through"
    await execute(outbox.engine, noticed, gap=gap, through=add + through)
    await assert_it_deletes_what_was_made(outbox, add, await outbox.delete("SUMMER"))


@pytest.mark.parametrize(
    "values", [{"note": "queued since"}, {"released_at": utc(2999, 1, 1)}, {"held_by_gap": utc(2027, 1, 1)}]
)
async def test_what_was_queued_or_released_since_a_gap_was_noticed_is_taken_back(
    outbox: Outbox, values: dict[str, datetime]
) -> None:
    add = await outbox.add("SUMMER")
    await outbox.set(add, **values)
    noticed = "UPDATE sync.incarnation SET gap = 'behind', gap_at = :at, gap_through = :through"
    await execute(outbox.engine, noticed, at=utc(2027, 1, 1), through=add - ("note" in values))
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))
