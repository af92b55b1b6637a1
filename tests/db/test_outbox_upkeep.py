"""Claims of the dead are rescued, strays find their connection or fail, the brake holds, and old rows go."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.db import outbox as product
from sync.db import outbox_upkeep as upkeep
from sync.db.engine import transaction
from sync.db.outbox import Lane, Settlement, as_daemon
from sync.db.outbox_upkeep import BrakeRule, Uncertain, Waiting
from sync.model.outbox import Operation, Status
from tests.db.outbox_rig import (
    FINISHED,
    HOTEL,
    OTHER_VOUCHER,
    SENT_UTC,
    UNKNOWN_VOUCHER,
    VOUCHER,
    Outbox,
    change,
    emptied,
)
from tests.db.rig import CONNECTION, PATIENCE_S, blocked, code, execute, rows, store, uuid
from tests.support.instants import utc
from tests.support.postgres import new_database

LEASE = timedelta(seconds=30)
WAIT = timedelta(seconds=15)
ONE, OTHER = uuid(1), uuid(2)
LANE = Lane(CONNECTION, Operation.ADD, HOTEL)
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def database_url(server_url: str, template: str) -> Iterator[str]:
    """One database for all these tests: a copy for each would take longer than the tests themselves."""
    with new_database(server_url, template=template) as url:
        yield url


@pytest.fixture
async def outbox(engine: AsyncEngine) -> Outbox:
    """An empty outbox; one voucher is known."""
    return await emptied(engine)


# Claims of the dead.


async def claim(outbox: Outbox, *row_ids: int, attempt_id: UUID = ONE, connection: str = CONNECTION) -> None:
    async with as_daemon(outbox.engine) as tx:
        lane = Lane(connection, Operation.ADD, HOTEL)
        await product.begin_attempt(tx, lane, attempt_id, lease=LEASE, server_utc=SENT_UTC)
        await product.claim(tx, attempt_id, dict.fromkeys(row_ids), SENT_UTC)


async def expire(outbox: Outbox, attempt_id: UUID = ONE) -> None:
    """The time of an attempt is over."""
    await execute(
        outbox.engine, "UPDATE sync.attempts SET until = now() - interval '1 ms' WHERE id = :id", id=attempt_id
    )


async def rescue(outbox: Outbox, connection: str = CONNECTION) -> int:
    async with as_daemon(outbox.engine) as tx:
        return await upkeep.rescue(tx, connection, WAIT)


async def load_uncertain(outbox: Outbox, connection: str = CONNECTION) -> list[Uncertain]:
    async with as_daemon(outbox.engine) as tx:
        return await upkeep.load_uncertain(tx, connection)


async def test_a_claim_is_rescued_once_its_time_is_over_and_looked_up_after_a_pause(outbox: Outbox) -> None:
    row_ids = [await outbox.add(), await outbox.add()]
    await claim(outbox, *row_ids)
    assert await rescue(outbox) == 0
    await expire(outbox)
    assert await rescue(outbox) == 2
    for row_id in row_ids:
        row, now = await outbox.row(row_id), await outbox.now()
        assert (row["status"], row["attempt_id"], row["attempts"]) == ("uncertain", ONE, 1)
        assert "ended before it had noted an answer" in row["last_error"]
        assert now < row["next_attempt_at"] <= now + WAIT
    assert await rescue(outbox) == 0
    assert await load_uncertain(outbox) == []
    assert set(await outbox.open_attempts()) == {ONE}


async def test_a_row_that_is_moved_to_a_living_attempt_meanwhile_is_not_rescued(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await expire(outbox)
    async with asyncio.timeout(PATIENCE_S):
        async with as_daemon(outbox.engine) as tx:
            await product.begin_attempt(tx, LANE, OTHER, lease=LEASE, server_utc=SENT_UTC)
            assert await product.move(tx, ONE, OTHER, [row_id], lease=LEASE) == {row_id}
            rescuer = asyncio.create_task(rescue(outbox))
            await blocked(outbox.engine, rescuer)
        assert await rescuer == 0
    assert await outbox.statuses() == ["sending"]


async def test_a_row_that_a_user_holds_is_rescued_later_and_its_neighbours_at_once(outbox: Outbox) -> None:
    held, beside = await outbox.add(), await outbox.add()
    await claim(outbox, held, beside)
    await expire(outbox)
    async with asyncio.timeout(PATIENCE_S), transaction(outbox.engine) as tx:
        await change(tx, held, note="not committed yet")
        assert await rescue(outbox) == 1
        assert await outbox.statuses() == ["sending", "uncertain"]
    assert await rescue(outbox) == 1


async def test_only_the_dead_of_this_connection_are_rescued(outbox: Outbox) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="other")
    dead, alive, theirs = await outbox.add(), await outbox.add(), await outbox.add(voucher_id=OTHER_VOUCHER)
    for row_id, attempt_id, connection in [
        (dead, ONE, CONNECTION),
        (alive, OTHER, CONNECTION),
        (theirs, uuid(3), "other"),
    ]:
        await claim(outbox, row_id, attempt_id=attempt_id, connection=connection)
    await expire(outbox, ONE)
    await expire(outbox, uuid(3))
    assert await rescue(outbox) == 1
    assert await outbox.statuses() == ["uncertain", "sending", "sending"]


async def test_what_was_settled_in_time_is_not_rescued(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(5)]
    await claim(outbox, *row_ids)
    settled = (Status.DONE, Status.FAILED, Status.PENDING, Status.UNCERTAIN)
    async with as_daemon(outbox.engine) as tx:
        for row_id, status in zip(row_ids, settled, strict=False):
            await product.settle(tx, ONE, [row_id], Settlement(status, "so"), {row_id: uuid(7)})
    before = [await outbox.row(row_id) for row_id in row_ids[:4]]
    await expire(outbox)
    assert await rescue(outbox) == 1
    assert [await outbox.row(row_id) for row_id in row_ids[:4]] == before


async def test_who_was_taken_for_dead_may_still_settle_what_it_claimed(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await expire(outbox)
    await rescue(outbox)
    async with as_daemon(outbox.engine) as tx:
        assert await product.settle(tx, OTHER, [row_id], Settlement(Status.PENDING, "so")) == 0
        assert await product.settle(tx, ONE, [row_id], Settlement(Status.DONE, "done"), {row_id: uuid(7)}) == 1
    assert await outbox.status(row_id) is Status.DONE


async def test_uncertain_rows_are_looked_up_when_due_the_longest_due_first(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(4)]
    await claim(outbox, *row_ids)
    await expire(outbox)
    await rescue(outbox)
    for row_id, day in zip(row_ids[:3], (2, 1, 2), strict=True):
        await outbox.set(row_id, next_attempt_at=utc(2026, 1, day))
    found = await load_uncertain(outbox)
    assert [one.id for one in found] == [row_ids[1], row_ids[0], row_ids[2]]
    assert found[0] == Uncertain(row_ids[1], Operation.ADD, ONE, 1, VOUCHER, None, SENT_UTC, None, found[0].last_error)
    assert isinstance(found[0].operation, Operation)
    assert await load_uncertain(outbox, "other") == []


async def test_a_look_knows_what_the_answer_seemed_to_prove(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    async with as_daemon(outbox.engine) as tx:
        await product.settle(tx, ONE, [row_id], Settlement(Status.UNCERTAIN, "refused", "a double"))
    (found,) = await load_uncertain(outbox)
    assert (found.outcome, found.last_error, found.unknown_since_utc) == ("refused", "a double", SENT_UTC)


async def test_a_claim_whose_attempt_is_gone_is_rescued(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await execute(outbox.engine, "DELETE FROM sync.attempts")
    assert await rescue(outbox) == 1
    await outbox.set(row_id, next_attempt_at=utc(2026, 1, 1))
    (found,) = await load_uncertain(outbox)
    assert (found.id, found.unknown_since_utc) == (row_id, SENT_UTC)


async def test_an_attempt_of_the_dead_without_any_row_is_forgotten(outbox: Outbox) -> None:
    row_ids = [await outbox.add(), await outbox.add()]
    await claim(outbox, *row_ids)
    async with as_daemon(outbox.engine) as tx:
        await product.begin_attempt(tx, Lane(CONNECTION, Operation.ADD, HOTEL), OTHER, lease=LEASE, server_utc=SENT_UTC)
        await product.move(tx, ONE, OTHER, row_ids, lease=LEASE)
    await rescue(outbox)
    assert set(await outbox.open_attempts()) == {ONE, OTHER}
    await expire(outbox, ONE)
    await expire(outbox, OTHER)
    assert await rescue(outbox) == 2
    assert set(await outbox.open_attempts()) == {OTHER}


async def test_it_stays_known_since_when_an_outcome_is_unknown(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await expire(outbox)
    await rescue(outbox)
    later = SENT_UTC + timedelta(hours=1)
    async with as_daemon(outbox.engine) as tx:
        await product.settle(tx, ONE, [row_id], Settlement(Status.PENDING, "looked up"))
        await product.begin_attempt(tx, Lane(CONNECTION, Operation.ADD, HOTEL), OTHER, lease=LEASE, server_utc=later)
        await product.claim(tx, OTHER, {row_id: None}, later)
        await product.settle(tx, OTHER, [row_id], Settlement(Status.UNCERTAIN, "unknown"))
    assert (await outbox.row(row_id))["unknown_since_utc"] == SENT_UTC


# Rows whose voucher or code is not known yet.


async def adopt(outbox: Outbox, connection: str = CONNECTION) -> None:
    async with as_daemon(outbox.engine) as tx:
        await upkeep.adopt(tx, connection)


async def belongs_to(outbox: Outbox, row_id: int) -> tuple[Any, ...]:
    row = await outbox.row(row_id)
    return tuple(row[name] for name in ("connection", "enterprise_id", "voucher_id", "value"))


async def test_a_row_belongs_to_the_connection_that_comes_to_know_its_voucher(outbox: Outbox) -> None:
    add, held = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER), await outbox.add("B", voucher_id=UNKNOWN_VOUCHER)
    await outbox.bring(held, Status.HELD)
    cancelled = await outbox.add("C", voucher_id=UNKNOWN_VOUCHER)
    await outbox.bring(cancelled, Status.CANCELLED)
    await adopt(outbox)
    assert await belongs_to(outbox, add) == (None, None, UNKNOWN_VOUCHER, "A")
    await outbox.know(UNKNOWN_VOUCHER.int, connection="other", enterprise_id=uuid(3001))
    await adopt(outbox)
    assert await belongs_to(outbox, add) == (None, None, UNKNOWN_VOUCHER, "A")
    await adopt(outbox, "other")
    assert await belongs_to(outbox, add) == ("other", uuid(3001), UNKNOWN_VOUCHER, "A")
    assert await belongs_to(outbox, held) == ("other", uuid(3001), UNKNOWN_VOUCHER, "B")
    assert await belongs_to(outbox, cancelled) == (None, None, UNKNOWN_VOUCHER, "C")


async def test_a_row_that_belongs_to_somebody_stays_there(outbox: Outbox) -> None:
    row_id = await outbox.add("A")
    await execute(outbox.engine, "UPDATE mews.vouchers SET connection = 'other'")
    await adopt(outbox, "other")
    assert await belongs_to(outbox, row_id) == (CONNECTION, HOTEL, VOUCHER, "A")


async def test_a_delete_by_id_is_adopted_once_its_code_is_mirrored(outbox: Outbox) -> None:
    delete, unknown = [await outbox.queue("delete", voucher_code_id=uuid(number)) for number in (1, 2)]
    await adopt(outbox)
    assert await belongs_to(outbox, delete) == (None, None, None, None)
    await store(outbox.engine, code(1, "SUMMER"))
    await adopt(outbox)
    assert await belongs_to(outbox, delete) == (CONNECTION, HOTEL, VOUCHER, "SUMMER")
    assert await belongs_to(outbox, unknown) == (None, None, None, None)


async def fail_unknown(outbox: Outbox, discovered: datetime | None, caught_up: datetime | None) -> Waiting:
    async with as_daemon(outbox.engine) as tx:
        return await upkeep.fail_unknown(tx, CONNECTION, discovered_as_of=discovered, caught_up_as_of=caught_up)


async def test_a_row_of_an_unknown_voucher_fails_after_a_discovery_that_began_later(outbox: Outbox) -> None:
    row_id = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER)
    delete = await outbox.delete("B", voucher_id=UNKNOWN_VOUCHER)
    created_at = (await outbox.row(row_id))["created_at"]
    later = await outbox.now()
    for discovered in (None, created_at - timedelta(microseconds=1)):
        assert await fail_unknown(outbox, discovered, later) == Waiting(discovery=True, pull=False)
        assert await outbox.statuses() == ["pending", "pending"]
    assert await fail_unknown(outbox, later, None) == Waiting(discovery=False, pull=False, failed=2)
    for one in (row_id, delete):
        row = await outbox.row(one)
        assert (row["status"], row["attempts"], row["sent_at"]) == ("failed", 0, None)
        assert row["last_error"] == "the API lists no voucher with this voucher_id to any connection"
        assert row["finished_at"] is not None
        assert await outbox.attempts(one) == []
    assert await outbox.open_attempts() == {}


LATER, EARLIER = timedelta(hours=1), timedelta(hours=-1)


@pytest.mark.parametrize(
    ("discovered", "caught_up", "is_failed"),
    [
        (None, None, False),
        (LATER, None, False),
        (None, LATER, False),
        (LATER, EARLIER, False),
        (EARLIER, LATER, False),
        (LATER, LATER, True),
        (timedelta(), timedelta(), True),
    ],
)
async def test_a_delete_of_an_unknown_id_fails_after_a_discovery_and_a_pull_that_began_later(
    outbox: Outbox, discovered: timedelta | None, caught_up: timedelta | None, is_failed: bool
) -> None:
    row_id = await outbox.queue("delete", voucher_code_id=uuid(1))
    created_at = (await outbox.row(row_id))["created_at"]
    instants = [None if shift is None else created_at + shift for shift in (discovered, caught_up)]
    assert await fail_unknown(outbox, *instants) == Waiting(discovery=False, pull=not is_failed, failed=int(is_failed))
    row = await outbox.row(row_id)
    if is_failed:
        assert row["last_error"] == "the API lists no code with this voucher_code_id to any connection"
    assert row["status"] == ("failed" if is_failed else "pending")


async def test_what_is_known_finished_or_held_does_not_fail_as_unknown(outbox: Outbox) -> None:
    await outbox.add("KNOWN")
    for status in (Status.CANCELLED, Status.HELD):
        await outbox.bring(await outbox.add(status.value, voucher_id=UNKNOWN_VOUCHER), status)
    now = await outbox.now()
    assert await fail_unknown(outbox, now, now) == Waiting(discovery=False, pull=False)
    assert await outbox.statuses() == ["pending", "cancelled", "held"]


async def test_what_comes_to_be_known_after_an_adoption_does_not_fail_as_unknown(outbox: Outbox) -> None:
    row_id = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER)
    named = await outbox.queue("delete", voucher_code_id=uuid(1))
    await adopt(outbox)
    await outbox.know(UNKNOWN_VOUCHER.int)
    await store(outbox.engine, code(1))
    now = await outbox.now()
    await fail_unknown(outbox, now, now)
    assert await outbox.statuses() == ["pending", "pending"]
    await adopt(outbox)
    assert [(await outbox.row(one))["connection"] for one in (row_id, named)] == [CONNECTION, CONNECTION]


async def test_an_unknown_row_that_failed_can_be_retried_and_adopted(outbox: Outbox) -> None:
    row_id = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER)
    now = await outbox.now()
    await fail_unknown(outbox, now, now)
    await outbox.know(UNKNOWN_VOUCHER.int)
    await outbox.change(row_id, status="pending")
    await adopt(outbox)
    async with as_daemon(outbox.engine) as tx:
        assert [row.id for row in await product.lock_due(tx, Lane(CONNECTION, Operation.ADD, HOTEL), 9)] == [row_id]


async def test_a_user_s_open_transaction_keeps_nobody_else_s_row_waiting(outbox: Outbox) -> None:
    changing, beside = [await outbox.add(value, voucher_id=UNKNOWN_VOUCHER) for value in "AB"]
    _, theirs = [await outbox.add(value, voucher_id=OTHER_VOUCHER) for value in "AB"]
    named = await outbox.queue("delete", voucher_code_id=uuid(1))
    await outbox.know(UNKNOWN_VOUCHER.int)
    await store(outbox.engine, code(1))
    now = await outbox.now()
    async with asyncio.timeout(PATIENCE_S), transaction(outbox.engine) as tx:
        for row_id in (changing, theirs, named):
            await change(tx, row_id, note="not committed yet")
        await adopt(outbox)
        await fail_unknown(outbox, now, now)
    assert await outbox.statuses() == ["pending", "pending", "failed", "pending", "pending"]
    assert [(await outbox.row(row_id))["connection"] for row_id in (changing, beside)] == [None, CONNECTION]
    await adopt(outbox)
    await fail_unknown(outbox, now, now)
    assert await outbox.statuses() == ["pending", "pending", "failed", "failed", "pending"]
    assert await belongs_to(outbox, changing) == (CONNECTION, HOTEL, UNKNOWN_VOUCHER, "A")
    assert await belongs_to(outbox, named) == (CONNECTION, HOTEL, VOUCHER, "SUMMER")


# The brake.

RULE = BrakeRule(share=0.2, at_least=100, window=10 * MINUTE)


async def queue_deletes(outbox: Outbox, first: int, last: int, *, voucher: UUID = VOUCHER) -> None:
    """Queues deletes of the values first to last, in one statement."""
    await execute(
        outbox.engine,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        "SELECT 'delete', :voucher, generate_series(CAST(:first AS int), :last)",
        voucher=voucher, first=first, last=last,
    )  # fmt: skip


async def mirror_codes(outbox: Outbox, count: int, *, connection: str = CONNECTION, **fields: Any) -> None:
    first = {CONNECTION: 1, "other": 100_000}[connection]
    codes = [code(number, f"{number}", **fields) for number in range(first, first + count)]
    await store(outbox.engine, *codes, connection=connection)


async def hold(outbox: Outbox, rule: BrakeRule = RULE, connection: str = CONNECTION) -> int:
    async with as_daemon(outbox.engine) as tx:
        return await upkeep.hold_suspicious(tx, connection, rule)


async def count(outbox: Outbox, status: Status) -> int:
    return (await outbox.statuses()).count(status.value)


@pytest.mark.parametrize(("deletes", "held"), [(99, 0), (100, 100), (101, 101)])
async def test_less_than_a_hundred_deletes_are_never_held(outbox: Outbox, deletes: int, held: int) -> None:
    await mirror_codes(outbox, deletes)
    await queue_deletes(outbox, 1, deletes)
    assert await hold(outbox) == held
    assert await count(outbox, Status.HELD) == held
    assert await count(outbox, Status.PENDING) == deletes - held


@pytest.mark.parametrize(("deletes", "held"), [(200, 0), (201, 201)])
async def test_more_than_a_fifth_of_a_connection_s_active_codes_are_held(
    outbox: Outbox, deletes: int, held: int
) -> None:
    await mirror_codes(outbox, 1000)
    await queue_deletes(outbox, 1, deletes)
    assert await hold(outbox) == held


async def test_the_share_is_of_what_there_was_before_the_first_was_deleted(outbox: Outbox) -> None:
    await mirror_codes(outbox, 1000)
    await queue_deletes(outbox, 1, 200)
    await execute(outbox.engine, "UPDATE mews.voucher_codes SET is_active = false WHERE value::int <= 200")
    async with as_daemon(outbox.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET status = 'sending', attempt_id = gen_random_uuid()"))
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET status = 'done', finished_at = now()"))
    assert await hold(outbox) == 0
    await queue_deletes(outbox, 201, 201)
    assert await hold(outbox) == 1
    assert (await count(outbox, Status.DONE), await count(outbox, Status.HELD)) == (200, 1)


async def test_a_held_row_says_why_and_what_to_do(outbox: Outbox) -> None:
    await mirror_codes(outbox, 100)
    await queue_deletes(outbox, 1, 100)
    await hold(outbox)
    (reason,) = await rows(outbox.engine, "SELECT DISTINCT last_error AS words FROM mews.voucher_code_outbox")
    for words in ("100 deletes", "600 s", "100 active", "20%", "`voucher-sync outbox release`"):
        assert words in reason["words"]


async def test_only_what_is_pending_is_held(outbox: Outbox) -> None:
    row_ids = {status: await outbox.delete(f"DELETE {status}") for status in Status}
    for status, row_id in row_ids.items():
        await outbox.bring(row_id, status)
    add = await outbox.add()
    await queue_deletes(outbox, 1, 100)
    assert await hold(outbox) == 101
    for status, row_id in row_ids.items():
        assert await outbox.status(row_id) is (Status.HELD if status is Status.PENDING else status)
    assert await outbox.status(add) is Status.PENDING


async def test_the_hundredth_counts_unless_it_deletes_nothing(outbox: Outbox) -> None:
    for status in Status:
        await outbox.bring(await outbox.delete("X"), status)
        await queue_deletes(outbox, 1, 99)
        assert (await hold(outbox) > 0) == (status not in {Status.CANCELLED, Status.FAILED})
        await execute(outbox.engine, "TRUNCATE mews.voucher_code_outbox CASCADE")


@pytest.mark.parametrize("table", ["adds", "another connection's deletes", "another connection's codes", "gone codes"])
async def test_what_is_none_of_its_deletes_or_active_codes_does_not_count(outbox: Outbox, table: str) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="other")
    await mirror_codes(outbox, 300)
    match table:
        case "adds":
            await queue_deletes(outbox, 1, 99)
            await outbox.add("X")
            assert await hold(outbox) == 0
        case "another connection's deletes":
            await queue_deletes(outbox, 1, 99)
            await queue_deletes(outbox, 1, 99, voucher=OTHER_VOUCHER)
            assert (await hold(outbox), await hold(outbox, connection="other")) == (0, 0)
        case "another connection's codes":
            await mirror_codes(outbox, 700, connection="other")
            await queue_deletes(outbox, 1, 200)
            assert await hold(outbox) == 200
        case _:
            await mirror_codes(outbox, 150, is_active=False)
            await execute(
                outbox.engine,
                "UPDATE mews.voucher_codes SET missing_since = now() WHERE value::int BETWEEN 151 AND 290",
            )
            await queue_deletes(outbox, 1, 100)
            assert await hold(outbox) == 100


async def test_the_brake_waits_for_no_user_s_open_transaction(outbox: Outbox) -> None:
    await queue_deletes(outbox, 1, 100)
    async with asyncio.timeout(PATIENCE_S), transaction(outbox.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET note = 'not committed yet' WHERE value = '5'"))
        assert await hold(outbox) == 99
    assert await hold(outbox) == 1


async def test_the_brake_of_one_connection_holds_no_other_s_deletes(outbox: Outbox) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="other")
    await queue_deletes(outbox, 1, 100)
    await queue_deletes(outbox, 1, 100, voucher=OTHER_VOUCHER)
    assert await hold(outbox) == 100
    found = await rows(outbox.engine, "SELECT DISTINCT connection, status FROM mews.voucher_code_outbox ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [(CONNECTION, "held"), ("other", "pending")]


async def test_what_was_released_is_neither_counted_nor_held_again(outbox: Outbox) -> None:
    await queue_deletes(outbox, 1, 150)
    assert await hold(outbox) == 150
    await execute(outbox.engine, "UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE value::int <= 149")
    assert await hold(outbox) == 0
    assert (await count(outbox, Status.PENDING), await count(outbox, Status.HELD)) == (149, 1)
    await queue_deletes(outbox, 151, 248)
    assert await hold(outbox) == 0
    await queue_deletes(outbox, 249, 249)
    assert await hold(outbox) == 99
    assert (await count(outbox, Status.PENDING), await count(outbox, Status.HELD)) == (149, 100)


async def shift_creation(outbox: Outbox, age: timedelta, last: int) -> None:
    async with as_daemon(outbox.engine) as tx:
        await tx.execute(
            text(
                "UPDATE mews.voucher_code_outbox SET created_at = now() - CAST(:age AS interval) "
                "WHERE value::int <= :last"
            ),
            {"age": age, "last": last},
        )


async def finish(outbox: Outbox, last: int) -> None:
    async with as_daemon(outbox.engine) as tx:
        for change in ("'sending', attempt_id = gen_random_uuid()", "'done', finished_at = now()"):
            await tx.execute(
                text(f"UPDATE mews.voucher_code_outbox SET status = {change} WHERE value::int <= :last"), {"last": last}
            )


@pytest.mark.parametrize(("age", "held"), [(9 * MINUTE, 1), (11 * MINUTE, 0)])
async def test_what_was_done_before_the_window_does_not_count(outbox: Outbox, age: timedelta, held: int) -> None:
    await queue_deletes(outbox, 1, 100)
    await finish(outbox, 99)
    await shift_creation(outbox, age, 99)
    assert await hold(outbox) == held


async def test_deletes_that_waited_longer_than_the_window_are_held_all_the_same(outbox: Outbox) -> None:
    """The daemon stood still, the token was refused, or `not_before` delayed them: a wrong WHERE is wrong still."""
    await queue_deletes(outbox, 1, 100)
    await shift_creation(outbox, 11 * MINUTE, 100)
    assert await hold(outbox) == 100


# Old rows.


async def prune(outbox: Outbox, keep: timedelta) -> int:
    async with as_daemon(outbox.engine) as tx:
        return await upkeep.prune(tx, keep)


async def test_finished_rows_go_with_their_attempts_once_they_are_old(outbox: Outbox) -> None:
    day = timedelta(days=1)
    left: Sequence[int] = []
    for status in Status:
        for age in (89 * day, 91 * day):
            row_id = await outbox.add()
            await claim_for(outbox, row_id, status)
            finished_at = await outbox.now() - age if status in FINISHED else None
            await outbox.set(row_id, created_at=await outbox.now() - 300 * day, finished_at=finished_at)
            if age < 90 * day or status not in FINISHED:
                left = [*left, row_id]
    assert await prune(outbox, 90 * day) == 3
    found = await rows(outbox.engine, "SELECT id FROM mews.voucher_code_outbox ORDER BY id")
    assert [row["id"] for row in found] == left
    noted = await rows(outbox.engine, "SELECT outbox_id FROM mews.voucher_code_outbox_attempts")
    assert {row["outbox_id"] for row in noted} <= set(left)
    assert len(noted) == 2
    assert await prune(outbox, 90 * day) == 0


async def claim_for(outbox: Outbox, row_id: int, status: Status) -> None:
    """Brings a row to a status; what fails was sent and noted."""
    if status is not Status.FAILED and status is not Status.DONE:
        await outbox.bring(row_id, status)
        return
    async with as_daemon(outbox.engine) as tx:
        attempt_id = UUID(int=row_id)
        await product.begin_attempt(
            tx, Lane(CONNECTION, Operation.ADD, HOTEL), attempt_id, lease=LEASE, server_utc=SENT_UTC
        )
        await product.claim(tx, attempt_id, {row_id: None}, SENT_UTC)
        await product.settle(tx, attempt_id, [row_id], Settlement(status, "so"), {row_id: uuid(7)})
        await product.end_attempt(tx, attempt_id)


async def test_some_are_pruned_at_a_time_the_oldest_first(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "MAX_PRUNED", 2)
    row_ids = [await outbox.add() for _ in range(5)]
    for row_id, day in zip(row_ids, (3, 1, 2, 5, 4), strict=True):
        await outbox.bring(row_id, Status.CANCELLED)
        await outbox.set(row_id, finished_at=utc(2020, 1, day))
    assert await prune(outbox, timedelta(days=1)) == 2
    found = await rows(outbox.engine, "SELECT id FROM mews.voucher_code_outbox ORDER BY id")
    assert [row["id"] for row in found] == [row_ids[0], row_ids[3], row_ids[4]]
    assert [await prune(outbox, timedelta(days=1)) for _ in range(3)] == [2, 1, 0]


async def test_a_key_can_be_used_again_once_its_row_is_pruned(outbox: Outbox) -> None:
    row_id = await outbox.add("A", idempotency_key="key")
    await outbox.bring(row_id, Status.CANCELLED)
    await outbox.set(row_id, finished_at=utc(2020, 1, 1))
    await prune(outbox, timedelta(days=1))
    await outbox.add("B", idempotency_key="key")
    assert await outbox.statuses() == ["pending"]


async def test_strays_are_sorted_out_some_at_a_time(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "MAX_STRAYS", 2)
    for _ in range(3):
        await outbox.add(voucher_id=OTHER_VOUCHER)
        await outbox.add(voucher_id=UNKNOWN_VOUCHER)
    await outbox.know(OTHER_VOUCHER.int)
    async with as_daemon(outbox.engine) as tx:
        assert [await upkeep.adopt(tx, CONNECTION) for _ in range(2)] == [True, False]
    now = await outbox.now()
    async with as_daemon(outbox.engine) as tx:
        found = [await upkeep.fail_unknown(tx, CONNECTION, discovered_as_of=now, caught_up_as_of=now) for _ in range(2)]
    assert found == [Waiting(True, False, more=True, failed=2), Waiting(False, False, failed=1)]
    assert await outbox.statuses() == ["pending", "failed"] * 3


async def test_what_is_retried_or_delayed_waits_for_a_discovery_of_its_own(outbox: Outbox) -> None:
    retried, delayed = await outbox.add(voucher_id=UNKNOWN_VOUCHER), await outbox.add(voucher_id=UNKNOWN_VOUCHER)
    await outbox.change(delayed, not_before=utc(2099, 1, 1))
    now = await outbox.now()
    async with as_daemon(outbox.engine) as tx:
        waiting = await upkeep.fail_unknown(tx, CONNECTION, discovered_as_of=now, caught_up_as_of=now)
    assert (waiting, await outbox.statuses()) == (Waiting(False, False, failed=1), ["failed", "pending"])
    await outbox.change(retried, status="pending")
    async with as_daemon(outbox.engine) as tx:
        waiting = await upkeep.fail_unknown(tx, CONNECTION, discovered_as_of=now, caught_up_as_of=now)
    assert (waiting, await outbox.statuses()) == (Waiting(True, False), ["pending", "pending"])
