"""Deletes of a connection that queues too many of them are held."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from sync.outbox import delete_guard
from sync.outbox.claims import as_daemon, by_index
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.rules import Status
from sync.service.app import delete_guard_rules
from sync.settings import Settings
from tests.support.database import CONNECTION, PATIENCE_S, code, rows, store
from tests.support.queue import OTHER_VOUCHER, VOUCHER, Outbox, as_user, execute

MINUTE = timedelta(minutes=1)
RULE = DeleteGuardRule(share=0.2, at_least=100, window=10 * MINUTE)


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


async def hold(outbox: Outbox, *rules: DeleteGuardRule, connection: str = CONNECTION) -> int:
    async with by_index(outbox.engine) as tx:
        return len((await delete_guard.hold_suspicious(tx, connection, rules or [RULE])).held.ids)


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
    (reason,) = await rows(
        outbox.engine, "SELECT DISTINCT last_error AS words, held_because FROM mews.voucher_code_outbox"
    )
    assert reason["held_because"] == "too_many_deletes"
    for words in ("100 deletes", "600 s", "100 active", "20%", "`voucher-sync outbox release`"):
        assert words in reason["words"]


async def test_it_tells_a_window_of_weeks_digit_by_digit(outbox: Outbox) -> None:
    await mirror_codes(outbox, 100)
    await queue_deletes(outbox, 1, 100)
    await hold(outbox, DeleteGuardRule(share=0.5, at_least=100, window=timedelta(days=30)))
    (reason,) = await rows(outbox.engine, "SELECT DISTINCT last_error AS words FROM mews.voucher_code_outbox")
    assert "100 deletes within 2592000 s" in reason["words"]


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


@pytest.mark.long
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


async def test_the_guard_waits_for_no_user_s_open_transaction(outbox: Outbox) -> None:
    await queue_deletes(outbox, 1, 100)
    async with asyncio.timeout(PATIENCE_S), as_user(outbox.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET note = 'not committed yet' WHERE value = '5'"))
        assert await hold(outbox) == 99
    assert await hold(outbox) == 1


async def test_the_guard_of_one_connection_holds_no_other_s_deletes(outbox: Outbox) -> None:
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


async def finish(outbox: Outbox, last: int, *, first: int = 1) -> None:
    async with as_daemon(outbox.engine) as tx:
        for change in ("'sending', attempt_id = gen_random_uuid()", "'done', finished_at = now()"):
            await tx.execute(
                text(
                    f"UPDATE mews.voucher_code_outbox SET status = {change} WHERE value::int BETWEEN :first AND :last"
                ),
                {"first": first, "last": last},
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


@pytest.mark.long
async def test_deletes_just_under_the_guard_window_after_window_are_held_by_the_longer_one(outbox: Outbox) -> None:
    longer = DeleteGuardRule(share=0.5, at_least=100, window=timedelta(days=1))
    await mirror_codes(outbox, 1000)
    held = []
    last = 0
    for number in (200, 160, 128, 102):  # each a fifth of what is left
        first, last = last + 1, last + number
        await queue_deletes(outbox, first, last)
        held.append(await hold(outbox, RULE, longer))
        if not held[-1]:
            await finish(outbox, last, first=first)
            await shift_creation(outbox, 11 * MINUTE, last)
            await execute(outbox.engine, "UPDATE mews.voucher_codes SET is_active = value::int > :last", last=last)
    assert held == [0, 0, 0, 102]


def test_the_settings_make_two_rules() -> None:
    short, longer = delete_guard_rules(Settings(sync_delete_brake_min=7))
    assert short == DeleteGuardRule(share=0.2, at_least=7, window=10 * MINUTE)
    assert longer == DeleteGuardRule(share=0.5, at_least=7, window=timedelta(days=1))
