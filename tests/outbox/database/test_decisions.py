"""What a claim decides without a call: which code a delete is for, and whether there is anything to send."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from sync.mews.records import VoucherCode
from sync.mirror.freshness import MirrorFreshness
from sync.outbox.claims import Lane, as_daemon
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.dispatch import RECHECK_AFTER
from sync.outbox.rules import Status
from sync.postgres.engine import make_engine
from tests.support.claims import BUSY, claim_due_now, complete_some, sent
from tests.support.database import code, store, uuid
from tests.support.instants import utc
from tests.support.queue import ADDS, DELETES, OTHER_VOUCHER, Outbox, execute


async def fresh(outbox: Outbox) -> MirrorFreshness:
    """After a discovery and a pull that have seen everything."""
    return MirrorFreshness(await outbox.now(), await outbox.now())


async def test_a_batch_is_claimed_and_committed_with_its_attempt(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(3)]
    claimed = await claim_due_now(outbox, ADDS, limit=2)
    assert sent(claimed) == row_ids[:2]
    assert [row.attempts for row in claimed.batch.rows] == [1, 1]
    assert (claimed.done, claimed.waiting, claimed.held) == (0, 0, 0)
    assert set(await outbox.open_attempts()) == {claimed.batch.attempt.id}
    assert [(await outbox.row(one))["attempt_id"] for one in row_ids] == [
        claimed.batch.attempt.id,
        claimed.batch.attempt.id,
        None,
    ]
    assert await outbox.statuses() == ["sending", "sending", "pending"]


@pytest.mark.parametrize(
    ("usual", "here"), [("off", "local"), ("local", "local"), ("on", "on"), ("remote_apply", "remote_apply")]
)
async def test_a_claim_is_on_disk_before_anything_is_sent(
    outbox: Outbox, database_url: str, usual: str, here: str
) -> None:
    async with outbox.engine.connect() as session:
        database = (await session.execute(text("SELECT current_database()"))).scalar_one()
        await session.execute(text(f'ALTER DATABASE "{database}" SET synchronous_commit = {usual}'))
        await session.commit()
    engine = make_engine(database_url)  # whose session is new: a pooler's would be older than the setting
    async with as_daemon(engine) as tx:
        assert (await tx.execute(text("SHOW synchronous_commit"))).scalar_one() == here
    await engine.dispose()
    await execute(outbox.engine, f'ALTER DATABASE "{database}" RESET synchronous_commit')


@pytest.mark.parametrize("lane", [ADDS, DELETES])
async def test_nothing_due_opens_no_attempt(outbox: Outbox, lane: Lane) -> None:
    claimed = await claim_due_now(outbox, lane)
    assert (sent(claimed), claimed.done, claimed.waiting, claimed.held) == ([], 0, 0, 0)
    assert await outbox.open_attempts() == {}


@pytest.mark.parametrize("is_fresh", [False, True])
async def test_a_delete_by_value_is_sent_for_its_one_active_code(outbox: Outbox, is_fresh: bool) -> None:
    deleted: dict[str, Any] = {"is_active": False, "updated_utc": utc(2026, 3, 1)}
    others = [code(2, **deleted), code(3, "WINTER"), code(4, voucher_id=OTHER_VOUCHER), code(5, "summer")]
    await store(outbox.engine, code(1, updated_utc=utc(2026, 1, 1)), *others)
    delete = await outbox.delete("SUMMER")
    claimed = await claim_due_now(outbox, DELETES, await fresh(outbox) if is_fresh else None)
    assert [(row.id, row.target_code_id) for row in claimed.batch.rows] == [(delete, uuid(1))]
    row = await outbox.row(delete)
    assert (row["target_code_id"], row["voucher_code_id"]) == (uuid(1), None)


async def test_a_delete_by_value_that_had_no_effect_is_decided_anew(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, updated_utc=utc(2026, 1, 1)))
    delete = await outbox.delete("SUMMER")
    claimed = await claim_due_now(outbox, DELETES)
    await complete_some(outbox, BUSY, delete, attempt_id=claimed.batch.attempt.id)
    await store(outbox.engine, code(1, is_active=False, updated_utc=utc(2026, 2, 1)), code(2))
    await outbox.set(delete, next_attempt_at=utc(2026, 1, 1))
    claimed = await claim_due_now(outbox, DELETES)
    assert [(row.id, row.target_code_id) for row in claimed.batch.rows] == [(delete, uuid(2))]


async def test_a_delete_by_id_is_sent_for_that_code_whatever_else_has_its_value(outbox: Outbox) -> None:
    await store(outbox.engine, code(1), code(2), code(3))
    delete = await outbox.queue("delete", voucher_code_id=uuid(2))
    claimed = await claim_due_now(outbox, DELETES)
    assert [(row.id, row.target_code_id) for row in claimed.batch.rows] == [(delete, uuid(2))]


@pytest.mark.parametrize("is_fresh", [False, True])
async def test_a_delete_of_several_active_codes_fails(outbox: Outbox, is_fresh: bool) -> None:
    await store(outbox.engine, code(1), code(2))
    delete = await outbox.delete("SUMMER")
    claimed = await claim_due_now(outbox, DELETES, await fresh(outbox) if is_fresh else None)
    row = await outbox.row(delete)
    assert (row["status"], row["attempts"], row["voucher_code_id"]) == ("failed", 0, None)
    assert row["last_error"] == "2 active codes have this value: name one by voucher_code_id"
    assert (sent(claimed), claimed.failed, await outbox.open_attempts(), await outbox.attempts(delete)) == (
        [],
        1,
        {},
        [],
    )


@pytest.mark.long
async def test_a_delete_of_what_the_mirror_may_not_have_seen_waits(outbox: Outbox) -> None:
    stale = await fresh(outbox)
    by_value, by_deleted = await outbox.delete("SUMMER"), await outbox.delete("WINTER")
    await store(outbox.engine, code(1, "WINTER", is_active=False), code(2, "SUMMER", voucher_id=OTHER_VOUCHER))
    for freshness in (None, MirrorFreshness(discovered_as_of=await outbox.now()), stale):
        claimed = await claim_due_now(outbox, DELETES, freshness)
        assert (sent(claimed), claimed.done, claimed.waiting) == ([], 0, 2)
        for row_id in (by_value, by_deleted):
            row, now = await outbox.row(row_id), await outbox.now()
            assert (row["status"], row["attempts"], row["attempt_id"]) == ("pending", 0, None)
            assert now < row["next_attempt_at"] <= now + RECHECK_AFTER
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
    await claim_due_now(outbox, DELETES, MirrorFreshness(None, created_at - timedelta(microseconds=1)))
    assert await outbox.status(delete) is Status.PENDING
    await outbox.set(delete, next_attempt_at=utc(2026, 1, 1))
    await claim_due_now(outbox, DELETES, MirrorFreshness(None, created_at))
    assert await outbox.status(delete) is Status.FAILED


@pytest.mark.parametrize("codes", [[], [code(1, is_active=False)]], ids=["none", "deleted"])
async def test_a_delete_that_is_retried_waits_for_what_was_added_before_that(
    outbox: Outbox, codes: list[VoucherCode]
) -> None:
    delete = await outbox.delete("SUMMER")
    await outbox.bring(delete, Status.FAILED)
    await store(outbox.engine, *codes)
    stale = await fresh(outbox)
    await outbox.change(delete, status="pending")
    assert (await claim_due_now(outbox, DELETES, stale)).waiting == 1
    await store(outbox.engine, code(2, updated_utc=utc(2026, 2, 1)))
    await outbox.set(delete, next_attempt_at=utc(2026, 1, 1))
    claimed = await claim_due_now(outbox, DELETES, await fresh(outbox))
    assert [row.target_code_id for row in claimed.batch.rows] == [uuid(2)]


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("is_missing", [False, True])
async def test_a_delete_of_what_is_deleted_already_is_done(outbox: Outbox, by_id: bool, is_missing: bool) -> None:
    old = code(1, is_active=False, updated_utc=utc(2026, 1, 1))
    await store(outbox.engine, old, code(2, is_active=is_missing, updated_utc=utc(2026, 2, 1)))
    if is_missing:
        await execute(outbox.engine, "UPDATE mews.voucher_codes SET missing_since = now() WHERE id = :id", id=uuid(2))
    named: dict[str, Any] = {"voucher_code_id": uuid(2)} if by_id else {"value": "SUMMER"}
    delete = await outbox.queue("delete", **named)
    claimed = await claim_due_now(outbox, DELETES, await fresh(outbox))
    row = await outbox.row(delete)
    assert (row["status"], row["voucher_code_id"], row["last_error"]) == ("done", uuid(2), None)
    assert (sent(claimed), claimed.done, await outbox.attempts(delete)) == ([], 1, [])


async def test_one_claim_decides_each_delete_by_itself(outbox: Outbox) -> None:
    await store(
        outbox.engine, code(1, "ONE"), code(2, "TWO"), code(3, "TWO"), code(4, "GONE", is_active=False), code(5, "ALSO")
    )
    early = [await outbox.delete(value) for value in ("ONE", "TWO", "GONE", "NONE", "ALSO")]
    freshness = await fresh(outbox)
    late = await outbox.delete("LATER")
    claimed = await claim_due_now(outbox, DELETES, freshness)
    assert [(row.id, row.target_code_id) for row in claimed.batch.rows] == [(early[0], uuid(1)), (early[4], uuid(5))]
    assert (claimed.done, claimed.failed, claimed.waiting) == (1, 2, 1)
    assert await outbox.statuses() == ["sending", "failed", "done", "failed", "sending", "pending"]
    assert (await outbox.row(late))["attempts"] == 0


async def test_the_guard_holds_what_would_have_been_claimed(outbox: Outbox) -> None:
    await store(outbox.engine, *(code(number, f"{number}") for number in range(1, 4)))
    for number in range(1, 4):
        await outbox.delete(f"{number}")
    rule = DeleteGuardRule(share=0.2, at_least=3, window=timedelta(minutes=10))
    claimed = await claim_due_now(outbox, ADDS, rule=rule)
    assert (claimed.held, await outbox.statuses()) == (0, ["pending"] * 3)
    claimed = await claim_due_now(outbox, DELETES, rule=rule)
    assert (sent(claimed), claimed.held, await outbox.statuses()) == ([], 3, ["held"] * 3)
    assert claimed.refused == 0, "nothing more was to be done with what is held"
