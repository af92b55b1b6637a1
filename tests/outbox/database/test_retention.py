"""Finished rows go once they are old."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from sync.outbox import claims as product
from sync.outbox import retention
from sync.outbox.claims import as_daemon
from sync.outbox.outcomes import Completion
from sync.outbox.rules import Status
from tests.support.claims import attempt_of, complete_rows
from tests.support.database import execute, rows, uuid
from tests.support.instants import utc
from tests.support.queue import FINISHED, Outbox


async def prune(outbox: Outbox, keep: timedelta) -> int:
    async with as_daemon(outbox.engine) as tx:
        return (await retention.prune(tx, keep)).count


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
        attempt = attempt_of(UUID(int=row_id))
        await product.claim(tx, attempt, {row_id: None})
        await complete_rows(tx, attempt.id, [row_id], Completion(status, "so"), {row_id: uuid(7)})


async def test_some_are_pruned_at_a_time_the_oldest_first(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MAX_PRUNED", 2)
    row_ids = [await outbox.add() for _ in range(5)]
    for row_id, day in zip(row_ids, (3, 1, 2, 5, 4), strict=True):
        await outbox.bring(row_id, Status.CANCELLED)
        await outbox.set(row_id, finished_at=utc(2020, 1, day))
    assert await prune(outbox, timedelta(days=1)) == 2
    found = await rows(outbox.engine, "SELECT id FROM mews.voucher_code_outbox ORDER BY id")
    assert [row["id"] for row in found] == [row_ids[0], row_ids[3], row_ids[4]]
    assert [await prune(outbox, timedelta(days=1)) for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("is_told", [True, False], ids=["foreign key", "trigger without a word"])
async def test_rows_that_must_stay_keep_none_that_are_younger(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    monkeypatch.setattr(retention, "MAX_PRUNED", 3)
    monkeypatch.setattr(retention, "MAX_PRUNED_EACH", 2)
    row_ids = [await outbox.add() for _ in range(9)]
    for row_id in row_ids:
        await outbox.bring(row_id, Status.CANCELLED)
        await outbox.set(row_id, finished_at=utc(2020, 1, 1 + row_ids.index(row_id) // 2))
    stay = [*row_ids[:5], row_ids[7]]
    await execute(outbox.engine, "CREATE TABLE public.kept (id bigint REFERENCES mews.voucher_code_outbox)")
    await execute(outbox.engine, f"INSERT INTO public.kept VALUES {', '.join(f'({row_id})' for row_id in stay)}")
    if not is_told:
        await execute(outbox.engine, "ALTER TABLE public.kept DROP CONSTRAINT kept_id_fkey")
        await execute(outbox.engine, KEEP_WITHOUT_A_WORD)
    gone, reached, looks = 0, None, 0
    while looks == 0 or reached:
        async with as_daemon(outbox.engine) as tx:
            pruned = await retention.prune(tx, timedelta(days=1), reached)
        gone, reached, looks = gone + pruned.count, pruned.reached, looks + 1
        assert looks < 9
    assert gone == 3
    found = await rows(outbox.engine, "SELECT id FROM mews.voucher_code_outbox ORDER BY id")
    assert [row["id"] for row in found] == stay
    await execute(outbox.engine, "DROP TABLE public.kept")
    await execute(outbox.engine, "DROP FUNCTION IF EXISTS public.keep CASCADE")


KEEP_WITHOUT_A_WORD = """
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RETURN CASE WHEN EXISTS (SELECT FROM public.kept WHERE id = OLD.id) THEN NULL ELSE OLD END;
END $$;
CREATE TRIGGER keep BEFORE DELETE ON mews.voucher_code_outbox FOR EACH ROW EXECUTE FUNCTION public.keep()
"""


async def test_a_key_can_be_used_again_once_its_row_is_pruned(outbox: Outbox) -> None:
    row_id = await outbox.add("A", idempotency_key="key")
    await outbox.bring(row_id, Status.CANCELLED)
    await outbox.set(row_id, finished_at=utc(2020, 1, 1))
    await prune(outbox, timedelta(days=1))
    await outbox.add("B", idempotency_key="key")
    assert await outbox.statuses() == ["pending"]
