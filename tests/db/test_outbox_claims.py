"""What is due is claimed in order and by one claimer, and settled once, by the attempt that claimed it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.db import known_codes, outbox_refusals
from sync.db import outbox as product
from sync.db.engine import transaction
from sync.db.outbox import Lane, Settlement, as_daemon, due_lanes, lock_due
from sync.db.outbox_upkeep import BrakeRule
from sync.flows.claim import LOOK_AGAIN, Batch, Knowledge, claim_due
from sync.model.outbox import Operation, Row, Status
from tests.db.outbox_rig import (
    FINISHED,
    HOTEL,
    OTHER_VOUCHER,
    SENT_UTC,
    UNFINISHED,
    UNKNOWN_VOUCHER,
    VOUCHER,
    Outbox,
    emptied,
)
from tests.db.rig import CONNECTION, PATIENCE_S, code, execute, rows, store, uuid
from tests.support.instants import utc
from tests.support.postgres import new_database

ADDS = Lane(CONNECTION, Operation.ADD, HOTEL)
DELETES = Lane(CONNECTION, Operation.DELETE, HOTEL)
LEASE = timedelta(seconds=30)
SECOND = timedelta(seconds=1)
NO_BRAKE = BrakeRule(share=1.0, at_least=10**9, window=timedelta(minutes=10))
ONE, OTHER = uuid(1), uuid(2)
DONE = Settlement(Status.DONE, "done", None, 200, "request 2")
LOST = Settlement(Status.UNCERTAIN, "unknown", "the line broke", None, None, timedelta(seconds=15))
BUSY = Settlement(Status.PENDING, "not processed", "too many requests", 429, "request 1", timedelta(seconds=30))
BAD = Settlement(Status.FAILED, "refused", "Invalid Value", 400, "request 3")


@pytest.fixture(scope="module")
def database_url(server_url: str, template: str) -> Iterator[str]:
    """One database for all these tests: a copy for each would take longer than the tests themselves."""
    with new_database(server_url, template=template) as url:
        yield url


@pytest.fixture
async def outbox(engine: AsyncEngine) -> Outbox:
    """An empty outbox; one voucher is known."""
    return await emptied(engine)


async def due(outbox: Outbox, lane: Lane = ADDS, limit: int = 100) -> list[int]:
    """What could be claimed now."""
    async with as_daemon(outbox.engine) as tx:
        return [row.id for row in await lock_due(tx, lane, limit)]


async def claim(
    outbox: Outbox, *row_ids: int, attempt_id: UUID = ONE, lane: Lane = ADDS, codes: Mapping[int, UUID] | None = None
) -> None:
    """Claims rows for an attempt, which is committed."""
    async with as_daemon(outbox.engine) as tx:
        await product.begin_attempt(tx, lane, attempt_id, lease=LEASE, server_utc=SENT_UTC)
        code_ids = {row_id: (codes or {}).get(row_id) for row_id in row_ids}
        await product.claim(tx, attempt_id, code_ids, SENT_UTC)


async def settle(
    outbox: Outbox,
    settlement: Settlement,
    *row_ids: int,
    attempt_id: UUID = ONE,
    codes: Mapping[int, UUID] | None = None,
) -> int:
    """Settles rows of an attempt."""
    async with as_daemon(outbox.engine) as tx:
        return await product.settle(tx, attempt_id, row_ids, settlement, codes)


# What is due.


async def test_rows_are_claimed_the_longest_due_first(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(5)]
    for row_id, day in zip(row_ids, (3, 1, 2, 1, 3), strict=True):
        await outbox.set(row_id, next_attempt_at=utc(2026, 1, day))
    expected = [row_ids[number] for number in (1, 3, 2, 0, 4)]
    assert await due(outbox) == expected
    for limit in range(1, 6):
        assert await due(outbox, limit=limit) == expected[:limit]


async def test_a_row_holds_what_was_queued(outbox: Outbox) -> None:
    row_id = await outbox.add("SUMMER", validity_start_utc=SENT_UTC, validity_end_utc=utc(2026, 2, 1))
    await outbox.set(row_id, attempts=2)
    async with as_daemon(outbox.engine) as tx:
        (row,) = await lock_due(tx, ADDS, 1)
    created_at = (await outbox.row(row_id))["created_at"]
    expected = Row(row_id, Operation.ADD, VOUCHER, "SUMMER", SENT_UTC, utc(2026, 2, 1), None, None, 2, created_at, None)
    assert row == expected
    assert isinstance(row.operation, Operation)


async def test_only_pending_rows_are_due_and_none_before_its_time(outbox: Outbox) -> None:
    for status in Status:
        await outbox.bring(await outbox.add(), status)
    waiting = await outbox.add()
    await outbox.set(waiting, next_attempt_at=utc(2099, 1, 1))
    delayed = await outbox.add(not_before=utc(2099, 1, 1))
    (pending,) = await due(outbox)
    assert await outbox.status(pending) is Status.PENDING
    await outbox.change(delayed, not_before=utc(2020, 1, 1))
    assert await due(outbox) == [pending, delayed]
    await outbox.set(waiting, next_attempt_at=utc(2020, 1, 1))
    assert await due(outbox) == [waiting, pending, delayed]


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
        assert await due(outbox, lane) == [row_id]
    assert await due(outbox, Lane("other", Operation.ADD, None)) == []


async def test_a_row_waits_for_every_unfinished_one_before_it_for_the_same_code(outbox: Outbox) -> None:
    for status in Status:
        add = await outbox.add(f"ADD {status}")
        await outbox.set(add, attempts=1)  # else the delete would take it back
        await outbox.bring(add, status)
        after_add = await outbox.delete(f"ADD {status}")
        assert (after_add in await due(outbox, DELETES)) == (status in FINISHED)

        delete = await outbox.delete(f"DELETE {status}")
        await outbox.bring(delete, status)
        after_delete = await outbox.add(f"DELETE {status}")
        assert (after_delete in await due(outbox)) == (status in FINISHED)

        second_delete = await outbox.delete(f"TWICE {status}")
        await outbox.bring(second_delete, status)
        after_second = await outbox.delete(f"TWICE {status}")
        assert (after_second in await due(outbox, DELETES)) == (status in FINISHED)


async def test_a_row_waits_for_one_that_is_not_due_yet(outbox: Outbox) -> None:
    await outbox.delete("SUMMER", not_before=utc(2099, 1, 1))
    add = await outbox.add("SUMMER")
    assert await due(outbox) == []
    await execute(outbox.engine, "UPDATE mews.voucher_code_outbox SET not_before = NULL WHERE operation = 'delete'")
    assert await due(outbox) == []
    await execute(outbox.engine, "UPDATE mews.voucher_code_outbox SET status = 'cancelled' WHERE operation = 'delete'")
    assert await due(outbox) == [add]


async def test_a_delete_by_id_waits_for_the_add_of_its_value(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    add = await outbox.add("SUMMER")
    delete = await outbox.queue("delete", voucher_code_id=uuid(1))
    assert await due(outbox, DELETES) == []
    await outbox.bring(add, Status.DONE)
    assert await due(outbox, DELETES) == [delete]


async def test_nobody_waits_for_a_later_row_another_value_or_another_voucher(outbox: Outbox) -> None:
    await outbox.know(OTHER_VOUCHER.int)
    first = await outbox.delete("SUMMER")
    others = [await outbox.add("WINTER"), await outbox.add("SUMMER", voucher_id=OTHER_VOUCHER)]
    await outbox.add("SUMMER")
    assert await due(outbox, DELETES) == [first]
    assert await due(outbox) == others


# Two claimers.


async def test_two_claimers_share_what_is_due_and_wait_for_nobody(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(6)]
    async with asyncio.timeout(PATIENCE_S), as_daemon(outbox.engine) as one, as_daemon(outbox.engine) as other:
        first = [row.id for row in await lock_due(one, ADDS, 2)]
        second = [row.id for row in await lock_due(other, ADDS, 3)]
        async with as_daemon(outbox.engine) as third:
            rest = [row.id for row in await lock_due(third, ADDS, 100)]
            await product.claim(other, OTHER, dict.fromkeys(second), SENT_UTC)
            await product.claim(one, ONE, dict.fromkeys(first), SENT_UTC)
    assert [first, second, rest] == [row_ids[:2], row_ids[2:5], row_ids[5:]]
    assert await due(outbox) == rest


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
                found = [row.id for row in await lock_due(tx, ADDS, 7)]
                await product.claim(tx, uuid4(), dict.fromkeys(found), SENT_UTC)
            if not found and not await due(outbox):
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
        assert [row.id for row in await lock_due(tx, DELETES, 1)] == [first]
        assert await due(outbox) == []
        await product.claim(tx, ONE, {first: ONE}, SENT_UTC)
        assert await due(outbox) == []
    assert await due(outbox) == []


# Claiming and settling.


async def test_a_claim_says_who_sends_what_and_since_when(outbox: Outbox) -> None:
    add, delete = await outbox.add(), await outbox.delete("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        await product.begin_attempt(tx, ADDS, ONE, lease=LEASE, server_utc=SENT_UTC)
        await product.claim(tx, ONE, {add: None, delete: uuid(7)}, SENT_UTC)
    for row_id, code_id in ((add, None), (delete, uuid(7))):
        row = await outbox.row(row_id)
        assert (row["status"], row["attempt_id"], row["attempts"]) == ("sending", ONE, 1)
        assert (row["first_sent_utc"], row["target_code_id"]) == (SENT_UTC, code_id)
        assert (row["voucher_code_id"], row["unknown_since_utc"]) == (None, None)
        assert row["sent_at"] is not None
    (attempt,) = (await outbox.open_attempts()).values()
    assert (attempt["id"], attempt["connection"], attempt["server_utc"]) == (ONE, CONNECTION, SENT_UTC)
    assert attempt["until"] - attempt["started_at"] == LEASE


async def test_a_second_claim_keeps_when_it_was_first_sent(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    await settle(outbox, BUSY, add)
    async with as_daemon(outbox.engine) as tx:
        await product.claim(tx, OTHER, {add: None}, SENT_UTC + SECOND)
    row = await outbox.row(add)
    assert (row["first_sent_utc"], row["attempts"], row["attempt_id"]) == (SENT_UTC, 2, OTHER)


@pytest.mark.parametrize("settlement", [DONE, LOST, BUSY, BAD])
async def test_only_the_attempt_that_claimed_a_row_settles_it(outbox: Outbox, settlement: Settlement) -> None:
    add, beside = await outbox.add(), await outbox.add()
    await claim(outbox, add)
    before = await outbox.row(add)
    assert await settle(outbox, settlement, add, attempt_id=OTHER, codes={add: uuid(7)}) == 0
    assert await outbox.row(add) == before
    assert await settle(outbox, settlement, add, beside, codes={add: uuid(7), beside: uuid(8)}) == 1
    row = await outbox.row(add)
    assert (row["status"], row["last_error"]) == (settlement.status, settlement.error)
    assert (row["request_id"], row["voucher_code_id"]) == (settlement.request_id, uuid(7))
    assert (row["finished_at"] is not None) == (settlement.status in FINISHED)
    assert await outbox.status(beside) is Status.PENDING
    now = await outbox.now()
    assert now - SECOND * PATIENCE_S < row["next_attempt_at"] - settlement.wait <= now


@pytest.mark.parametrize("first", [DONE, BUSY, BAD])
async def test_an_attempt_settles_a_row_once(outbox: Outbox, first: Settlement) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    await settle(outbox, first, add, codes={add: uuid(7)})
    before, noted = await outbox.row(add), await outbox.attempts(add)
    for again in (DONE, LOST, BUSY, BAD):
        assert await settle(outbox, again, add, codes={add: uuid(8)}) == 0
    assert await outbox.row(add) == before
    assert await outbox.attempts(add) == noted


async def test_an_attempt_whose_row_was_claimed_again_settles_nothing(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    await settle(outbox, BUSY, add)
    await claim(outbox, add, attempt_id=OTHER)
    assert await settle(outbox, DONE, add, codes={add: uuid(7)}) == 0
    assert await outbox.status(add) is Status.SENDING
    assert await settle(outbox, DONE, add, attempt_id=OTHER, codes={add: uuid(8)}) == 1
    assert (await outbox.row(add))["voucher_code_id"] == uuid(8)


async def test_no_rows_are_settled_without_a_word(outbox: Outbox) -> None:
    assert await settle(outbox, DONE) == 0


async def test_every_attempt_is_noted(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    sent_at = (await outbox.row(add))["sent_at"]
    await settle(outbox, BUSY, add)
    await claim(outbox, add, attempt_id=OTHER)
    await settle(outbox, DONE, add, attempt_id=OTHER, codes={add: uuid(7)})
    first, second = await outbox.attempts(add)
    assert (first["attempt_id"], first["sent_at"], first["outcome"]) == (ONE, sent_at, "not processed")
    assert (first["http_status"], first["message"], first["request_id"]) == (429, "too many requests", "request 1")
    assert (second["attempt_id"], second["outcome"], second["http_status"]) == (OTHER, "done", 200)
    assert (await outbox.row(add))["last_error"] is None


async def test_what_a_look_finds_is_noted_with_the_attempt_itself(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    await settle(outbox, Settlement(Status.UNCERTAIN, "unknown", "failed", 500, "request 1"), add)
    (before,) = await outbox.attempts(add)
    assert await settle(outbox, Settlement(Status.DONE, "done"), add, codes={add: uuid(7)}) == 1
    (after,) = await outbox.attempts(add)
    assert (before["outcome"], after["outcome"]) == ("unknown", "done")
    assert after["settled_at"] > before["settled_at"]
    assert (after["http_status"], after["message"], after["request_id"]) == (500, "failed", "request 1")
    assert (await outbox.row(add))["request_id"] == "request 1"


async def test_what_was_not_sent_leaves_no_attempt(outbox: Outbox) -> None:
    add = await outbox.add()
    async with as_daemon(outbox.engine) as tx:
        await product.claim_unsent(tx, ONE, [add])
        settlement = Settlement(Status.DONE, "done", was_sent=False)
        await product.settle(tx, ONE, [add], settlement, {add: uuid(7)})
    row = await outbox.row(add)
    assert (row["status"], row["attempts"], row["sent_at"], row["first_sent_utc"]) == ("done", 0, None, None)
    assert await outbox.attempts(add) == []


async def test_what_was_not_sent_is_counted_as_settled(outbox: Outbox) -> None:
    add = await outbox.add()
    async with as_daemon(outbox.engine) as tx:
        await product.claim_unsent(tx, ONE, [add])
        assert await product.settle(tx, ONE, [add], Settlement(Status.FAILED, "failed", was_sent=False)) == 1


async def test_a_refused_attempt_is_noted_for_its_rows_which_stay_claimed(outbox: Outbox) -> None:
    mine, settled, other = [await outbox.add() for _ in range(3)]
    await claim(outbox, mine, settled)
    await claim(outbox, other, attempt_id=OTHER)
    await settle(outbox, BUSY, settled)
    for _ in range(2):
        async with as_daemon(outbox.engine) as tx:
            await outbox_refusals.note_refused(tx, ONE, BAD)
    (noted,) = await outbox.attempts(mine)
    assert (noted["attempt_id"], noted["outcome"], noted["http_status"]) == (ONE, "refused", 400)
    assert (noted["message"], noted["request_id"]) == ("Invalid Value", "request 3")
    assert noted["sent_at"] == (await outbox.row(mine))["sent_at"]
    assert [one["outcome"] for one in await outbox.attempts(settled)] == ["not processed"]
    assert await outbox.attempts(other) == []
    assert await outbox.status(mine) is Status.SENDING


async def test_an_attempt_ends_with_its_last_open_row(outbox: Outbox) -> None:
    first, last = await outbox.add(), await outbox.add()
    await claim(outbox, first, last)
    await claim(outbox, await outbox.add(), attempt_id=OTHER)
    for settlement, row_id, is_open in [(BUSY, first, True), (LOST, last, True), (BAD, last, False)]:
        await settle(outbox, settlement, row_id)
        async with as_daemon(outbox.engine) as tx:
            await product.end_attempt(tx, ONE)
        assert set(await outbox.open_attempts()) == ({ONE, OTHER} if is_open else {OTHER})


async def test_rows_move_between_attempts_that_both_get_time(outbox: Outbox) -> None:
    moving, staying, settled, theirs = [await outbox.add() for _ in range(4)]
    await claim(outbox, moving, staying, settled)
    await claim(outbox, theirs, attempt_id=OTHER)
    await settle(outbox, LOST, settled)
    await execute(outbox.engine, "UPDATE sync.attempts SET until = now() - interval '1 hour'")
    async with as_daemon(outbox.engine) as tx:
        assert await product.move(tx, ONE, OTHER, [moving, settled, theirs], lease=LEASE) == {moving}
        await product.count_attempt(tx, [moving])
    attempts = [(await outbox.row(row_id))["attempt_id"] for row_id in (moving, staying, settled, theirs)]
    assert attempts == [OTHER, ONE, ONE, OTHER]
    assert (await outbox.row(moving))["attempts"] == 2
    now = await outbox.now()
    assert all(now < attempt["until"] <= now + LEASE for attempt in (await outbox.open_attempts()).values())
    assert await settle(outbox, DONE, moving, codes={moving: uuid(7)}) == 0
    assert await settle(outbox, DONE, moving, attempt_id=OTHER, codes={moving: uuid(7)}) == 1


# Lanes.


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


# What a claim decides without a call.


async def claim_due_now(
    outbox: Outbox, lane: Lane, knowledge: Knowledge | None = None, *, limit: int = 100, rule: BrakeRule = NO_BRAKE
) -> Batch:
    async with as_daemon(outbox.engine) as tx:
        return await claim_due(
            tx, lane, limit=limit, lease=LEASE, server_utc=SENT_UTC, knowledge=knowledge or Knowledge(), rule=rule
        )


async def fresh(outbox: Outbox) -> Knowledge:
    """After a discovery and a pull that have seen everything."""
    return Knowledge(await outbox.now(), await outbox.now())


def sent(batch: Batch) -> list[int]:
    return [row.id for row in batch.rows]


async def test_a_batch_is_claimed_and_committed_with_its_attempt(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(3)]
    batch = await claim_due_now(outbox, ADDS, limit=2)
    assert sent(batch) == row_ids[:2]
    assert [row.attempts for row in batch.rows] == [1, 1]
    assert (batch.done, batch.waiting, batch.held, batch.server_utc) == (0, 0, 0, SENT_UTC)
    assert set(await outbox.open_attempts()) == {batch.attempt_id}
    assert [(await outbox.row(one))["attempt_id"] for one in row_ids] == [batch.attempt_id, batch.attempt_id, None]
    assert await outbox.statuses() == ["sending", "sending", "pending"]


@pytest.mark.parametrize(
    ("usual", "here"), [("off", "local"), ("local", "local"), ("on", "on"), ("remote_apply", "remote_apply")]
)
async def test_a_claim_is_on_disk_before_anything_is_sent(outbox: Outbox, usual: str, here: str) -> None:
    async with outbox.engine.connect() as session:
        database = (await session.execute(text("SELECT current_database()"))).scalar_one()
        await session.execute(text(f'ALTER DATABASE "{database}" SET synchronous_commit = {usual}'))
        await session.commit()
    await outbox.engine.dispose()
    async with as_daemon(outbox.engine) as tx:
        assert (await tx.execute(text("SHOW synchronous_commit"))).scalar_one() == here
    await execute(outbox.engine, f'ALTER DATABASE "{database}" RESET synchronous_commit')


@pytest.mark.parametrize("lane", [ADDS, DELETES])
async def test_nothing_due_opens_no_attempt(outbox: Outbox, lane: Lane) -> None:
    batch = await claim_due_now(outbox, lane)
    assert (sent(batch), batch.done, batch.waiting, batch.held) == ([], 0, 0, 0)
    assert await outbox.open_attempts() == {}


@pytest.mark.parametrize("is_fresh", [False, True])
async def test_a_delete_by_value_is_sent_for_its_one_active_code(outbox: Outbox, is_fresh: bool) -> None:
    deleted: dict[str, Any] = {"is_active": False, "updated_utc": utc(2026, 3, 1)}
    others = [code(2, **deleted), code(3, "WINTER"), code(4, voucher_id=OTHER_VOUCHER), code(5, "summer")]
    await store(outbox.engine, code(1, updated_utc=utc(2026, 1, 1)), *others)
    delete = await outbox.delete("SUMMER")
    batch = await claim_due_now(outbox, DELETES, await fresh(outbox) if is_fresh else None)
    assert [(row.id, row.target_code_id) for row in batch.rows] == [(delete, uuid(1))]
    row = await outbox.row(delete)
    assert (row["target_code_id"], row["voucher_code_id"]) == (uuid(1), None)


async def test_a_delete_by_value_that_had_no_effect_is_decided_anew(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, updated_utc=utc(2026, 1, 1)))
    delete = await outbox.delete("SUMMER")
    batch = await claim_due_now(outbox, DELETES)
    await settle(outbox, BUSY, delete, attempt_id=batch.attempt_id)
    await store(outbox.engine, code(1, is_active=False, updated_utc=utc(2026, 2, 1)), code(2))
    await outbox.set(delete, next_attempt_at=utc(2026, 1, 1))
    batch = await claim_due_now(outbox, DELETES)
    assert [(row.id, row.target_code_id) for row in batch.rows] == [(delete, uuid(2))]


async def test_a_delete_by_id_is_sent_for_that_code_whatever_else_has_its_value(outbox: Outbox) -> None:
    await store(outbox.engine, code(1), code(2), code(3))
    delete = await outbox.queue("delete", voucher_code_id=uuid(2))
    batch = await claim_due_now(outbox, DELETES)
    assert [(row.id, row.target_code_id) for row in batch.rows] == [(delete, uuid(2))]


@pytest.mark.parametrize("is_fresh", [False, True])
async def test_a_delete_of_several_active_codes_fails(outbox: Outbox, is_fresh: bool) -> None:
    await store(outbox.engine, code(1), code(2))
    delete = await outbox.delete("SUMMER")
    batch = await claim_due_now(outbox, DELETES, await fresh(outbox) if is_fresh else None)
    row = await outbox.row(delete)
    assert (row["status"], row["attempts"], row["voucher_code_id"]) == ("failed", 0, None)
    assert row["last_error"] == "2 active codes have this value: name one by voucher_code_id"
    assert (sent(batch), batch.failed, await outbox.open_attempts(), await outbox.attempts(delete)) == ([], 1, {}, [])


async def test_a_delete_of_what_the_mirror_may_not_have_seen_waits(outbox: Outbox) -> None:
    stale = await fresh(outbox)
    by_value, by_deleted = await outbox.delete("SUMMER"), await outbox.delete("WINTER")
    await store(outbox.engine, code(1, "WINTER", is_active=False), code(2, "SUMMER", voucher_id=OTHER_VOUCHER))
    for knowledge in (None, Knowledge(discovered_as_of=await outbox.now()), stale):
        batch = await claim_due_now(outbox, DELETES, knowledge)
        assert (sent(batch), batch.done, batch.waiting) == ([], 0, 2)
        for row_id in (by_value, by_deleted):
            row, now = await outbox.row(row_id), await outbox.now()
            assert (row["status"], row["attempts"], row["attempt_id"]) == ("pending", 0, None)
            assert now < row["next_attempt_at"] <= now + LOOK_AGAIN
            await outbox.set(row_id, next_attempt_at=utc(2026, 1, 1))
        assert await outbox.open_attempts() == {}


async def test_a_delete_of_a_code_that_a_fresh_mirror_has_not_fails(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER", voucher_id=OTHER_VOUCHER))
    delete = await outbox.delete("SUMMER")
    await claim_due_now(outbox, DELETES, await fresh(outbox))
    row = await outbox.row(delete)
    assert (row["status"], row["last_error"]) == ("failed", "the API lists no such code for this connection")


async def test_a_mirror_is_fresh_from_the_very_instant_on(outbox: Outbox) -> None:
    delete = await outbox.delete("SUMMER")
    created_at = (await outbox.row(delete))["created_at"]
    await claim_due_now(outbox, DELETES, Knowledge(None, created_at - timedelta(microseconds=1)))
    assert await outbox.status(delete) is Status.PENDING
    await outbox.set(delete, next_attempt_at=utc(2026, 1, 1))
    await claim_due_now(outbox, DELETES, Knowledge(None, created_at))
    assert await outbox.status(delete) is Status.FAILED


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("is_missing", [False, True])
async def test_a_delete_of_what_is_deleted_already_is_done(outbox: Outbox, by_id: bool, is_missing: bool) -> None:
    old = code(1, is_active=False, updated_utc=utc(2026, 1, 1))
    await store(outbox.engine, old, code(2, is_active=is_missing, updated_utc=utc(2026, 2, 1)))
    if is_missing:
        await execute(outbox.engine, "UPDATE mews.voucher_codes SET missing_since = now() WHERE id = :id", id=uuid(2))
    named: dict[str, Any] = {"voucher_code_id": uuid(2)} if by_id else {"value": "SUMMER"}
    delete = await outbox.queue("delete", **named)
    batch = await claim_due_now(outbox, DELETES, await fresh(outbox))
    row = await outbox.row(delete)
    assert (row["status"], row["voucher_code_id"], row["last_error"]) == ("done", uuid(2), None)
    assert (sent(batch), batch.done, await outbox.attempts(delete)) == ([], 1, [])


async def test_one_claim_decides_each_delete_by_itself(outbox: Outbox) -> None:
    await store(
        outbox.engine, code(1, "ONE"), code(2, "TWO"), code(3, "TWO"), code(4, "GONE", is_active=False), code(5, "ALSO")
    )
    early = [await outbox.delete(value) for value in ("ONE", "TWO", "GONE", "NONE", "ALSO")]
    knowledge = await fresh(outbox)
    late = await outbox.delete("LATER")
    batch = await claim_due_now(outbox, DELETES, knowledge)
    assert [(row.id, row.target_code_id) for row in batch.rows] == [(early[0], uuid(1)), (early[4], uuid(5))]
    assert (batch.done, batch.failed, batch.waiting) == (1, 2, 1)
    assert await outbox.statuses() == ["sending", "failed", "done", "failed", "sending", "pending"]
    assert (await outbox.row(late))["attempts"] == 0


async def test_the_brake_holds_what_would_have_been_claimed(outbox: Outbox) -> None:
    await store(outbox.engine, *(code(number, f"{number}") for number in range(1, 4)))
    for number in range(1, 4):
        await outbox.delete(f"{number}")
    rule = BrakeRule(share=0.2, at_least=3, window=timedelta(minutes=10))
    batch = await claim_due_now(outbox, ADDS, rule=rule)
    assert (batch.held, await outbox.statuses()) == (0, ["pending"] * 3)
    batch = await claim_due_now(outbox, DELETES, rule=rule)
    assert (sent(batch), batch.held, await outbox.statuses()) == ([], 3, ["held"] * 3)


# Adds whose earlier attempt has made the code.


async def sent_before(outbox: Outbox, value: str = "SUMMER") -> int:
    """An add that was sent at noon and half a second, without an answer, and without effect as it seemed."""
    add = await outbox.add(value)
    sent_utc = SENT_UTC + SECOND / 2
    await outbox.set(add, attempts=1, first_sent_utc=sent_utc, unknown_since_utc=sent_utc)
    return add


@pytest.mark.parametrize(
    ("created_utc", "is_made"),
    [
        (SENT_UTC - SECOND * 10, False),
        (SENT_UTC - SECOND * 4, False),
        (SENT_UTC - SECOND * 3, True),
        (SENT_UTC - SECOND, True),
        (SENT_UTC, True),
        (SENT_UTC + SECOND, True),
        (SENT_UTC + timedelta(days=7), True),
    ],
)
async def test_a_code_that_was_created_since_the_first_attempt_is_what_it_made(
    outbox: Outbox, created_utc: Any, is_made: bool
) -> None:
    await store(outbox.engine, code(1, created_utc=created_utc))
    add = await sent_before(outbox)
    batch = await claim_due_now(outbox, ADDS)
    row = await outbox.row(add)
    if is_made:
        assert (row["status"], row["voucher_code_id"], sent(batch), batch.done) == ("done", uuid(1), [], 1)
    else:
        assert (row["status"], row["voucher_code_id"], sent(batch), batch.done) == ("sending", None, [add], 0)


@pytest.mark.parametrize("is_seen_since", [False, True])
async def test_a_code_without_a_creation_counts_from_when_it_was_first_seen(
    outbox: Outbox, is_seen_since: bool
) -> None:
    if not is_seen_since:
        await store(outbox.engine, code(1, created_utc=None))
    add = await sent_before(outbox)
    if is_seen_since:
        await store(outbox.engine, code(1, created_utc=None))
    await claim_due_now(outbox, ADDS)
    assert await outbox.status(add) is (Status.DONE if is_seen_since else Status.SENDING)


async def test_the_code_of_another_row_is_not_this_one_s(outbox: Outbox) -> None:
    first = await outbox.add("SUMMER")
    await outbox.bring(first, Status.DONE)
    await outbox.set(first, voucher_code_id=uuid(1))
    await store(outbox.engine, code(1, created_utc=SENT_UTC + SECOND))
    add = await sent_before(outbox)
    assert sent(await claim_due_now(outbox, ADDS)) == [add]


async def test_of_two_codes_the_one_that_is_nobody_s_is_this_one_s(outbox: Outbox) -> None:
    first = await outbox.add("SUMMER")
    await outbox.bring(first, Status.DONE)
    await outbox.set(first, voucher_code_id=uuid(1))
    await store(outbox.engine, code(1, created_utc=SENT_UTC), code(2, created_utc=SENT_UTC + SECOND))
    add = await sent_before(outbox)
    await claim_due_now(outbox, ADDS)
    assert (await outbox.row(add))["voucher_code_id"] == uuid(2)


@pytest.mark.parametrize("is_missing", [False, True])
async def test_an_add_is_not_done_by_a_code_that_nobody_can_use(outbox: Outbox, is_missing: bool) -> None:
    add = await sent_before(outbox)
    await store(outbox.engine, code(1, created_utc=SENT_UTC, is_active=is_missing))
    if is_missing:
        await execute(outbox.engine, "UPDATE mews.voucher_codes SET missing_since = now()")
    assert sent(await claim_due_now(outbox, ADDS)) == [add]


async def test_a_look_counts_what_was_made_and_then_deleted_by_somebody_else(outbox: Outbox) -> None:
    add = await sent_before(outbox)
    await store(outbox.engine, code(1, created_utc=SENT_UTC, is_active=False))
    async with transaction(outbox.engine) as tx:
        assert await known_codes.made_for(tx, [add], usable_only=False) == {add: uuid(1)}
        assert await known_codes.made_for(tx, [add], usable_only=True) == {}


async def test_an_add_whose_attempts_were_all_refused_has_made_nothing(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    await outbox.set(add, attempts=1, first_sent_utc=SENT_UTC)
    await store(outbox.engine, code(1, created_utc=SENT_UTC + SECOND))
    assert sent(await claim_due_now(outbox, ADDS)) == [add]


@pytest.mark.parametrize(("updated_utc", "is_stamped"), [(SENT_UTC, True), (None, False)])
async def test_the_last_code_that_was_added_tells_whether_the_api_stamps_what_it_adds(
    outbox: Outbox, updated_utc: Any, is_stamped: bool
) -> None:
    async with transaction(outbox.engine) as tx:
        assert not await known_codes.stamps_what_it_adds(tx, CONNECTION)
    add = await outbox.add("SUMMER")
    await outbox.bring(add, Status.DONE)
    await outbox.set(add, voucher_code_id=uuid(1), connection=CONNECTION)
    await store(outbox.engine, code(1, updated_utc=updated_utc))
    async with transaction(outbox.engine) as tx:
        assert await known_codes.stamps_what_it_adds(tx, CONNECTION) is is_stamped


async def test_an_add_that_was_never_sent_has_made_nothing(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    await store(outbox.engine, code(1, created_utc=utc(2099, 1, 1)), code(2, created_utc=None))
    assert sent(await claim_due_now(outbox, ADDS)) == [add]


async def test_another_voucher_s_or_value_s_code_is_nothing_it_made(outbox: Outbox) -> None:
    others: Sequence[Any] = (
        code(1, created_utc=SENT_UTC, voucher_id=OTHER_VOUCHER),
        code(2, "summer", created_utc=SENT_UTC),
        code(3, None, created_utc=SENT_UTC),
    )
    await store(outbox.engine, *others)
    add = await sent_before(outbox)
    assert sent(await claim_due_now(outbox, ADDS)) == [add]


async def test_an_add_that_is_claimed_again_counts_on(outbox: Outbox) -> None:
    add = await sent_before(outbox)
    batch = await claim_due_now(outbox, ADDS)
    assert [row.attempts for row in batch.rows] == [2]
    assert (await outbox.row(add))["attempts"] == 2


def test_what_is_unfinished_is_one_list() -> None:
    assert set(product.UNFINISHED) == UNFINISHED
