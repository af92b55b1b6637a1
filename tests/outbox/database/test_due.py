"""What is due is claimed in order, by one claimer, and found in its lane."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import text

from sync.outbox import claims as product
from sync.outbox import tables
from sync.outbox.claims import Lane, as_daemon
from sync.outbox.due import Wanted, lock_due
from sync.outbox.look import due_lanes
from sync.outbox.rules import Operation, Row, Status
from tests.support.claims import ONE, OTHER, Lock, as_few, attempt_of, by_the_look, in_turn, may_go
from tests.support.database import CONNECTION, PATIENCE_S, code, rows, store, uuid
from tests.support.instants import utc
from tests.support.queue import (
    ADDS,
    DELETES,
    FINISHED,
    HOTEL,
    OTHER_VOUCHER,
    SENT_UTC,
    UNFINISHED,
    UNKNOWN_VOUCHER,
    VOUCHER,
    Outbox,
    execute,
)


async def test_rows_are_claimed_the_longest_due_first(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(5)]
    for row_id, day in zip(row_ids, (3, 1, 2, 1, 3), strict=True):
        await outbox.set(row_id, next_attempt_at=utc(2026, 1, day))
    expected = [row_ids[number] for number in (1, 3, 2, 0, 4)]
    assert await may_go(outbox) == expected
    for limit in range(1, 6):
        assert await may_go(outbox, limit=limit) == expected[:limit]


async def test_a_row_holds_what_was_queued(outbox: Outbox) -> None:
    row_id = await outbox.add("SUMMER", validity_start_utc=SENT_UTC, validity_end_utc=utc(2026, 2, 1))
    await outbox.set(row_id, attempts=2)
    async with as_daemon(outbox.engine) as tx:
        (row,) = await lock_due(tx, Wanted(ADDS, 1))
    created_at = (await outbox.row(row_id))["created_at"]
    expected = Row(
        row_id, Operation.ADD, VOUCHER, "SUMMER", SENT_UTC, utc(2026, 2, 1), None, None, 2, created_at, None, 0, 0
    )
    assert row == expected
    assert isinstance(row.operation, Operation)


async def test_only_pending_rows_are_due_and_none_before_its_time(outbox: Outbox) -> None:
    for status in Status:
        await outbox.bring(await outbox.add(), status)
    waiting = await outbox.add()
    await outbox.set(waiting, next_attempt_at=utc(2099, 1, 1))
    delayed = await outbox.add(not_before=utc(2099, 1, 1))
    (pending,) = await may_go(outbox)
    assert await outbox.status(pending) is Status.PENDING
    await outbox.change(delayed, not_before=utc(2020, 1, 1))
    assert await may_go(outbox) == [pending, delayed]
    await outbox.set(waiting, next_attempt_at=utc(2020, 1, 1))
    assert await may_go(outbox) == [waiting, pending, delayed]


async def test_each_lane_has_its_own_rows(outbox: Outbox) -> None:
    await outbox.know(1, enterprise_id=uuid(3001))
    await outbox.know(2, enterprise_id=None)
    await outbox.know(3, connection="other")
    lanes: dict[Lane, int] = {}
    for voucher, connection, hotel in [
        (VOUCHER, CONNECTION, HOTEL),
        (uuid(1), CONNECTION, uuid(3001)),
        (uuid(2), CONNECTION, None),
        (uuid(3), "other", HOTEL),
    ]:
        for operation, value in ((Operation.ADD, "A"), (Operation.DELETE, "B")):
            lanes[Lane(connection, operation, hotel)] = await outbox.queue(
                operation.value, voucher_id=voucher, value=value
            )
    await outbox.add(voucher_id=UNKNOWN_VOUCHER)
    for lane, row_id in lanes.items():
        assert await may_go(outbox, lane) == [row_id]
    assert await may_go(outbox, Lane("other", Operation.ADD, None)) == []


async def test_a_row_waits_for_every_unfinished_one_before_it_for_the_same_code(outbox: Outbox) -> None:
    for status in Status:
        add = await outbox.add(f"ADD {status}")
        await outbox.set(add, attempts=1)  # else the delete would take it back
        await outbox.bring(add, status)
        after_add = await outbox.delete(f"ADD {status}")
        assert (after_add in await may_go(outbox, DELETES)) == (status in FINISHED)

        delete = await outbox.delete(f"DELETE {status}")
        await outbox.bring(delete, status)
        after_delete = await outbox.add(f"DELETE {status}")
        assert (after_delete in await may_go(outbox)) == (status in FINISHED)

        second_delete = await outbox.delete(f"TWICE {status}")
        await outbox.bring(second_delete, status)
        after_second = await outbox.delete(f"TWICE {status}")
        assert (after_second in await may_go(outbox, DELETES)) == (status in FINISHED)


async def test_a_row_waits_for_one_that_is_not_due_yet(outbox: Outbox) -> None:
    await outbox.delete("SUMMER", not_before=utc(2099, 1, 1))
    add = await outbox.add("SUMMER")
    assert await may_go(outbox) == []
    await execute(outbox.engine, "UPDATE mews.voucher_code_outbox SET not_before = NULL WHERE operation = 'delete'")
    assert await may_go(outbox) == []
    await execute(outbox.engine, "UPDATE mews.voucher_code_outbox SET status = 'cancelled' WHERE operation = 'delete'")
    assert await may_go(outbox) == [add]


async def test_a_delete_that_another_user_has_put_off_keeps_nobody_waiting(outbox: Outbox, writer: Outbox) -> None:
    delete = await writer.delete("SUMMER", not_before=utc(2099, 1, 1))
    again = await outbox.delete("SUMMER")
    assert await may_go(outbox, DELETES) == [again]
    add = await outbox.add("SUMMER")
    assert await may_go(outbox) == []  # behind one's own, as ever
    await outbox.change(again, status="cancelled")
    assert await may_go(outbox) == [add]
    await outbox.change(add, status="cancelled")
    await outbox.change(delete, not_before=None)
    assert await may_go(outbox, DELETES) == [delete]


async def test_an_add_that_another_user_has_put_off_is_waited_for_by_its_delete(outbox: Outbox, writer: Outbox) -> None:
    await outbox.add("SUMMER", not_before=utc(2099, 1, 1))
    await writer.delete("SUMMER")
    assert await may_go(outbox, DELETES) == []


async def test_a_delete_by_id_waits_for_the_add_of_its_value(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    add = await outbox.add("SUMMER")
    delete = await outbox.queue("delete", voucher_code_id=uuid(1))
    assert await may_go(outbox, DELETES) == []
    await outbox.bring(add, Status.DONE)
    assert await may_go(outbox, DELETES) == [delete]


async def test_nobody_waits_for_a_later_row_another_value_or_another_voucher(outbox: Outbox) -> None:
    await outbox.know(OTHER_VOUCHER.int)
    first = await outbox.delete("SUMMER")
    others = [await outbox.add("WINTER"), await outbox.add("SUMMER", voucher_id=OTHER_VOUCHER)]
    await outbox.add("SUMMER")
    assert await may_go(outbox, DELETES) == [first]
    assert await may_go(outbox) == others


# Two claimers.
async def test_two_claimers_share_what_is_due_and_wait_for_nobody(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(6)]
    async with asyncio.timeout(PATIENCE_S), as_daemon(outbox.engine) as one, as_daemon(outbox.engine) as other:
        first = [row.id for row in await lock_due(one, Wanted(ADDS, 2))]
        second = [row.id for row in await lock_due(other, Wanted(ADDS, 3))]
        async with as_daemon(outbox.engine) as third:
            rest = [row.id for row in await lock_due(third, Wanted(ADDS, 100))]
            await product.claim(other, attempt_of(OTHER), dict.fromkeys(second))
            await product.claim(one, attempt_of(), dict.fromkeys(first))
    assert [first, second, rest] == [row_ids[:2], row_ids[2:5], row_ids[5:]]
    assert await may_go(outbox) == rest


@pytest.mark.parametrize("lock", [in_turn, as_few, by_the_look])
async def test_a_row_that_somebody_has_locked_keeps_no_other_waiting(outbox: Outbox, lock: Lock) -> None:
    row_ids = [await outbox.add() for _ in range(3)]
    async with asyncio.timeout(PATIENCE_S), as_daemon(outbox.engine) as theirs, as_daemon(outbox.engine) as ours:
        locked = {"id": row_ids[1]}
        await theirs.execute(text("SELECT FROM mews.voucher_code_outbox WHERE id = :id FOR UPDATE"), locked)
        found = [row.id for row in await lock(ours)]
    assert found == [row_ids[0], row_ids[2]]


async def test_many_claimers_at_once_never_get_the_same_row(outbox: Outbox) -> None:
    await execute(
        outbox.engine,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :v, generate_series(1, 400)",
        v=VOUCHER,
    )
    claimed: list[int] = []

    async def claim_on() -> None:
        while True:
            async with as_daemon(outbox.engine) as tx:
                found = [row.id for row in await lock_due(tx, Wanted(ADDS, 7))]
                await product.claim(tx, attempt_of(uuid4()), dict.fromkeys(found))
            if not found and not await may_go(outbox):
                return
            claimed.extend(found)

    await asyncio.gather(*(claim_on() for _ in range(6)))
    assert len(claimed) == len(set(claimed)) == 400
    found = await rows(outbox.engine, "SELECT DISTINCT status, attempts FROM mews.voucher_code_outbox")
    assert [(row["status"], row["attempts"]) for row in found] == [("sending", 1)]


async def test_a_row_waits_for_one_that_somebody_is_about_to_claim(outbox: Outbox) -> None:
    first = await outbox.delete("SUMMER")
    await outbox.add("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        assert [row.id for row in await lock_due(tx, Wanted(DELETES, 1))] == [first]
        assert await may_go(outbox) == []
        await product.claim(tx, attempt_of(lane=DELETES), {first: ONE})
        assert await may_go(outbox) == []
    assert await may_go(outbox) == []


async def lanes(outbox: Outbox, connection: str = CONNECTION) -> list[Lane]:
    async with as_daemon(outbox.engine) as tx:
        return sorted(await due_lanes(tx, connection), key=str)


async def test_nothing_due_is_no_lane(outbox: Outbox) -> None:
    assert await lanes(outbox) == []
    for status in set(Status) - {Status.PENDING}:
        await outbox.bring(await outbox.add(), status)
    await outbox.add(not_before=utc(2099, 1, 1))
    await outbox.add(voucher_id=UNKNOWN_VOUCHER)
    assert await lanes(outbox) == []
    await outbox.add()
    assert await lanes(outbox) == [ADDS]
    await outbox.delete("SUMMER")
    assert await lanes(outbox) == [ADDS, DELETES]
    assert await lanes(outbox, "other") == []


@pytest.mark.parametrize("with_null", [False, True])
@pytest.mark.parametrize("hotels", [0, 1, 2, 40])
async def test_every_hotel_with_something_due_is_found(outbox: Outbox, hotels: int, with_null: bool) -> None:
    expected = set()
    everyone = [uuid(number) for number in range(1, hotels + 1)] + [None] * with_null
    for number, hotel in enumerate(everyone):
        await outbox.know(number, enterprise_id=hotel)
        await outbox.know(number + 10_000, enterprise_id=hotel, connection="other")
        for operation in Operation:
            is_due = number % 3 != 1
            not_before = None if is_due else utc(2099, 1, 1)
            for value in ("A", "B"):
                await outbox.queue(
                    operation.value, voucher_id=uuid(number), value=f"{operation}{value}", not_before=not_before
                )
            if is_due:
                expected.add(Lane(CONNECTION, operation, hotel))
        await outbox.queue(voucher_id=uuid(number + 10_000), value="C")
    found = await lanes(outbox)
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert {lane.enterprise_id for lane in await lanes(outbox, "other")} == set(everyone)


async def test_a_lane_is_due_although_its_first_row_is_not(outbox: Outbox) -> None:
    for not_before in (utc(2099, 1, 1), None, utc(2098, 1, 1)):
        await outbox.add(not_before=not_before)
    assert await lanes(outbox) == [ADDS]


def test_what_is_unfinished_is_one_list() -> None:
    assert set(tables.UNFINISHED) == UNFINISHED
