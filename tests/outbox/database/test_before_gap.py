"""What was queued before a gap is held, however much it is."""

import pytest

from sync.connection.gaps import Gap, Known
from sync.outbox import gap
from sync.outbox.claims import as_daemon
from sync.outbox.rules import Status
from tests.support.database import rows
from tests.support.queue import Outbox, execute


async def test_all_of_it_is_held_some_at_a_time_but_for_what_is_refused(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap, "HELD_AT_ONCE", 2)
    row_ids = [await outbox.add() for _ in range(7)]
    await outbox.bring(row_ids[0], Status.DONE)
    known = Known(None, 0, None, None, None, None, None, Gap.BEHIND, await outbox.now(), row_ids[5])
    refused = f"CHECK (id NOT IN ({row_ids[1]}, {row_ids[2]}) OR status <> 'held')"
    await execute(outbox.engine, f"ALTER TABLE mews.voucher_code_outbox ADD CONSTRAINT own {refused}")
    try:
        number, reasons = await gap.hold_all_before_gap(outbox.engine, known)
    finally:
        await execute(outbox.engine, "ALTER TABLE mews.voucher_code_outbox DROP CONSTRAINT own")
    assert (number, set(reasons)) == (3, {row_ids[1], row_ids[2]})
    assert await outbox.statuses() == ["done", "pending", "pending", "held", "held", "held", "pending"]
    assert await gap.hold_all_before_gap(outbox.engine, known) == (2, {})


async def test_what_an_adoption_has_released_that_was_never_recorded_is_held_again_some_at_a_time(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction of millions would not end in time, and nobody could adopt the database any more."""
    monkeypatch.setattr(gap, "HELD_AT_ONCE", 2)
    row_ids = [await outbox.add() for _ in range(5)]
    known = Known(None, 0, None, None, None, None, None, Gap.BEHIND, await outbox.now(), row_ids[-1])
    await gap.hold_all_before_gap(outbox.engine, known)
    async with as_daemon(outbox.engine) as tx:
        await gap.release(tx, row_ids)
    await gap.hold_again(outbox.engine, known)
    assert await outbox.statuses() == ["held"] * 5
    written = "SELECT count(*) FROM mews.voucher_code_outbox GROUP BY xmin ORDER BY count"
    assert [row["count"] for row in await rows(outbox.engine, written)] == [1, 2, 2], "by which transaction"
