"""Adds whose earlier attempt has made the code are told by what the mirror has seen since."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from sync.outbox import lookups
from sync.outbox.rules import Status
from tests.support.claims import SECOND, claim_due_now, sent
from tests.support.database import CONNECTION, code, store, uuid
from tests.support.queue import ADDS, OTHER_VOUCHER, SENT_UTC, Outbox, as_user, execute


async def sent_before(outbox: Outbox) -> int:
    """An add that was sent at noon and half a second, without an answer, and without effect as it seemed."""
    add = await outbox.add("SUMMER")
    sent_utc = SENT_UTC + SECOND / 2
    await outbox.set(add, attempts=1, first_sent_utc=sent_utc, unknown_since_utc=sent_utc)
    return add


@pytest.mark.parametrize(
    ("created_utc", "is_made"),
    [
        (SENT_UTC - SECOND * 10, False),
        (SENT_UTC - SECOND * 5, False),
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
    claimed = await claim_due_now(outbox, ADDS)
    row = await outbox.row(add)
    if is_made:
        assert (row["status"], row["voucher_code_id"], sent(claimed), claimed.done) == ("done", uuid(1), [], 1)
    else:
        assert (row["status"], row["voucher_code_id"], sent(claimed), claimed.done) == ("sending", None, [add], 0)


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
    async with as_user(outbox.engine) as tx:
        assert await lookups.made_for(tx, [add], usable_only=False) == {add: uuid(1)}
        assert await lookups.made_for(tx, [add], usable_only=True) == {}


@pytest.mark.parametrize("attempts", [0, 1])
async def test_a_code_that_the_api_made_since_an_add_was_queued_is_what_the_add_asks_for(
    outbox: Outbox, attempts: int
) -> None:
    add = await outbox.add("SUMMER")
    await outbox.set(add, attempts=attempts, first_sent_utc=SENT_UTC)
    await store(outbox.engine, code(1, created_utc=SENT_UTC + SECOND))
    claimed = await claim_due_now(outbox, ADDS)
    assert (sent(claimed), claimed.done, (await outbox.row(add))["voucher_code_id"]) == ([], 1, uuid(1))


@pytest.mark.parametrize(("updated_utc", "is_stamped"), [(SENT_UTC, True), (None, False)])
async def test_the_last_code_that_was_added_tells_whether_the_api_stamps_what_it_adds(
    outbox: Outbox, updated_utc: Any, is_stamped: bool
) -> None:
    async with as_user(outbox.engine) as tx:
        assert not await lookups.stamps_what_it_adds(tx, CONNECTION)
    add = await outbox.add("SUMMER")
    await outbox.bring(add, Status.DONE)
    await outbox.set(add, voucher_code_id=uuid(1), connection=CONNECTION)
    await store(outbox.engine, code(1, updated_utc=updated_utc))
    async with as_user(outbox.engine) as tx:
        assert await lookups.stamps_what_it_adds(tx, CONNECTION) is is_stamped


async def test_codes_from_before_an_add_was_queued_are_nothing_it_made(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, created_utc=SENT_UTC - SECOND * 60), code(2, created_utc=None))
    add = await outbox.add("SUMMER")
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
    claimed = await claim_due_now(outbox, ADDS)
    assert [row.attempts for row in claimed.batch.rows] == [2]
    assert (await outbox.row(add))["attempts"] == 2
