"""The same add twice is refused, and an application that repeats itself with a key queues nothing."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from sync.core.errors import DatabaseError
from sync.outbox import enqueue
from sync.outbox.enqueue import Change
from sync.outbox.rules import Operation, Status
from tests.support.database import code, store, uuid
from tests.support.queue import (
    ADD,
    DELETE,
    KEY,
    ON_CONFLICT,
    OTHER_VOUCHER,
    SAME_ADD,
    SENT_UTC,
    UNFINISHED,
    VOUCHER,
    Outbox,
    as_user,
    execute,
    queue,
    second,
)


async def test_the_same_add_is_queued_once_at_a_time(outbox: Outbox) -> None:
    for status in Status:
        row_id = await outbox.add(status.name)
        await outbox.bring(row_id, status)
        if status in UNFINISHED:
            for again in ({}, {"note": "other"}, {"validity_end_utc": SENT_UTC}):
                with pytest.raises(DatabaseError, match=SAME_ADD):
                    await outbox.add(status.name, **again)
                await outbox.queue_nothing(value=status.name, **again, suffix="ON CONFLICT DO NOTHING")
        else:
            await outbox.add(status.name)


async def test_another_value_or_voucher_is_another_add(outbox: Outbox) -> None:
    for voucher_id, value in product([VOUCHER, OTHER_VOUCHER], ["SUMMER", "summer", "SUMMER ", "ＳUMMER"]):
        await outbox.add(value, voucher_id=voucher_id)
    assert await outbox.statuses() == ["pending"] * 8


async def test_one_statement_cannot_queue_the_same_add_twice(outbox: Outbox) -> None:
    with pytest.raises(DatabaseError, match=SAME_ADD):
        await execute(
            outbox.engine,
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "VALUES ('add', :v, 'A'), ('add', :v, 'A')",
            v=VOUCHER,
        )
    assert await outbox.statuses() == []


async def test_a_failed_add_is_not_retried_beside_the_same_one(outbox: Outbox) -> None:
    failed = await outbox.add("SUMMER")
    await outbox.bring(failed, Status.FAILED)
    await outbox.add("SUMMER")
    with pytest.raises(DatabaseError, match="23505"):
        await outbox.change(failed, status="pending")
    assert await outbox.statuses() == ["failed", "pending"]


async def test_of_two_transactions_with_the_same_add_one_is_refused(outbox: Outbox) -> None:
    async with as_user(outbox.engine) as tx:
        await queue(tx, value="SUMMER")
        async with second(outbox, lambda other: queue(other, value="SUMMER")) as task:
            await tx.commit()
    with pytest.raises(DatabaseError, match="23505"):
        await task
    assert await outbox.statuses() == ["pending"]


async def test_the_same_add_is_queued_once_its_first_is_rolled_back(outbox: Outbox) -> None:
    async with as_user(outbox.engine) as tx:
        await queue(tx, value="SUMMER")
        async with second(outbox, lambda other: queue(other, value="SUMMER")) as task:
            await tx.rollback()
    assert await task is not None
    assert await outbox.statuses() == ["pending"]


# Keys that make an application's retries harmless.


@pytest.mark.long
async def test_the_same_key_again_queues_nothing(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "MIRRORED"))
    for number, change_ in enumerate(
        (
            ADD,
            {**ADD, "value": "WINTER", "validity_start_utc": SENT_UTC},
            {**DELETE, "value": "AUTUMN"},
            {"operation": "delete", "voucher_code_id": uuid(1)},
            {"operation": "delete", "voucher_code_id": uuid(2)},
        )
    ):
        key: dict[str, Any] = {"idempotency_key": f"key {number}"}
        await outbox.queue(**change_, **key)
        for suffix in ON_CONFLICT:
            await outbox.queue_nothing(**change_, **key, suffix=suffix)
            await outbox.queue_nothing(**change_, **key, suffix=suffix, note="n", not_before=SENT_UTC)


async def test_a_key_stays_used_whatever_became_of_its_row(outbox: Outbox) -> None:
    for status in Status:
        key: dict[str, Any] = {"idempotency_key": status.value}
        row_id = await outbox.add(status.name, **key)
        await outbox.bring(row_id, status)
        if status is not Status.CANCELLED:
            await outbox.queue_nothing(value=status.name, **key)


@pytest.mark.parametrize("suffix", ON_CONFLICT)
@pytest.mark.parametrize("first", [ADD, DELETE])
async def test_a_cancelled_change_is_not_taken_for_one_that_is_queued(
    outbox: Outbox, first: dict[str, Any], suffix: str
) -> None:
    row_id = await outbox.queue(**first, **KEY)
    await outbox.bring(row_id, Status.CANCELLED)
    with pytest.raises(DatabaseError, match=f"23505.*row {row_id} had the same key and was cancelled.*another key"):
        await outbox.queue(**first, **KEY, suffix=suffix)


async def test_a_delete_that_took_back_an_add_has_done_what_it_was_asked(outbox: Outbox) -> None:
    await outbox.add("SUMMER")
    await outbox.queue(**DELETE, **KEY)
    await outbox.queue_nothing(**DELETE, **KEY)


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (ADD, {**ADD, "value": "WINTER"}),
        (ADD, {**ADD, "voucher_id": OTHER_VOUCHER}),
        (ADD, {**ADD, "validity_start_utc": SENT_UTC}),
        ({**ADD, "validity_end_utc": SENT_UTC}, ADD),
        ({**ADD, "validity_end_utc": SENT_UTC}, {**ADD, "validity_end_utc": SENT_UTC + timedelta(seconds=1)}),
        (ADD, DELETE),
        (DELETE, ADD),
        (DELETE, {**DELETE, "value": "WINTER"}),
        (DELETE, {"operation": "delete", "voucher_code_id": uuid(1)}),
        (
            {"operation": "delete", "voucher_code_id": uuid(1)},
            {"operation": "delete", "voucher_code_id": uuid(2)},
        ),
        ({"operation": "delete", "voucher_code_id": uuid(1)}, DELETE),
        (ADD, {**ADD, "value": None}),
        (ADD, {**ADD, "operation": None}),
    ],
)
async def test_a_key_belongs_to_one_change(outbox: Outbox, first: dict[str, Any], other: dict[str, Any]) -> None:
    row_id = await outbox.queue(**first, **KEY)
    for suffix in ON_CONFLICT:
        with pytest.raises(
            DatabaseError, match=f"idempotency_key: row {row_id} has the same key and asks for something"
        ):
            await outbox.queue(**other, **KEY, suffix=suffix)
    assert await outbox.statuses() == ["pending"]


async def test_a_delete_that_comes_again_takes_back_nothing_new(outbox: Outbox) -> None:
    await outbox.queue(**DELETE, **KEY)
    await outbox.add("SUMMER")
    await outbox.queue_nothing(**DELETE, **KEY)
    assert await outbox.statuses() == ["pending", "pending"]


@pytest.mark.parametrize("suffix", ON_CONFLICT)
async def test_a_retry_beside_its_first_queues_nothing(outbox: Outbox, suffix: str) -> None:
    async with as_user(outbox.engine) as tx:
        await queue(tx, **ADD, **KEY)
        async with second(outbox, lambda other: queue(other, **ADD, **KEY, suffix=suffix)) as task:
            await tx.commit()
    if suffix:
        assert await task is None
    else:  # only the index knows of both
        with pytest.raises(DatabaseError, match="23505"):
            await task
    assert await outbox.statuses() == ["pending"]


@pytest.mark.parametrize(("value", "words"), [("SUMMER", None), ("WINTER", "has the same key and asks for something")])
async def test_a_command_is_told_what_another_has_queued_under_its_key_beside_it(
    outbox: Outbox, value: str, words: str | None
) -> None:
    change = Change(operation=Operation.ADD, voucher_id=VOUCHER, value=value, **KEY)
    async with as_user(outbox.engine) as tx:
        row_id = await queue(tx, **ADD, **KEY)
        async with second(outbox, lambda other: enqueue.queue(other, change)) as task:
            await tx.commit()
    if words is None:
        queued = await task
        assert (queued.id, queued.is_new) == (row_id, False)
    else:
        with pytest.raises(DatabaseError, match=words):
            await task


@pytest.mark.parametrize("operation", Operation)
async def test_a_command_is_told_that_something_keeps_its_change_out_without_a_word(
    outbox: Outbox, operation: Operation
) -> None:
    await execute(
        outbox.engine,
        "CREATE FUNCTION public.keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep_out BEFORE INSERT ON mews.voucher_code_outbox "
        "FOR EACH ROW EXECUTE FUNCTION public.keep_out()",
    )
    try:
        with pytest.raises(DatabaseError, match="keeps this change out, without a word"):
            async with as_user(outbox.engine) as tx:
                await enqueue.queue(tx, Change(operation=operation, voucher_id=VOUCHER, value="SUMMER"))
    finally:
        await execute(outbox.engine, "DROP FUNCTION public.keep_out CASCADE")


async def test_rows_without_a_key_are_no_retries(outbox: Outbox) -> None:
    for _ in range(2):
        await outbox.queue("delete", value="SUMMER")
    assert await outbox.statuses() == ["pending", "pending"]


async def test_an_empty_key_is_refused(outbox: Outbox) -> None:
    with pytest.raises(DatabaseError, match=r"23514\): .*idempotency_key: is empty"):
        await outbox.add("SUMMER", idempotency_key="")
