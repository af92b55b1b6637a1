"""A push that finds too many deletes holds all of them, and sends those that somebody releases."""

import pytest
from sqlalchemy import text

from sync.demo.simulator import Operation
from sync.outbox import delete_guard
from sync.outbox.claims import as_daemon
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox


async def test_more_deletes_than_a_transaction_takes_are_all_held(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were queued before the guard's window: what is held of them does not count, and what is left are too few."""
    monkeypatch.setattr(delete_guard, "HELD_AT_ONCE", 60)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(200))
    await outbox.refresh()
    await outbox.delete(voucher, *numbered(150))
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET created_at = created_at - interval '1 hour'"))
    report = await outbox.pusher.push()
    assert (report.held, outbox.calls(Operation.DELETE_CODES)) == (150, 0)
    assert await outbox.statuses() == ["held"] * 150


async def test_too_many_deletes_are_held_until_they_are_released(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    values = numbered(300)
    mirror.add_codes(voucher, values)
    await outbox.refresh()
    await outbox.delete(voucher, *values[:150])
    report = await outbox.pusher.push()
    assert (report.held, outbox.calls(Operation.DELETE_CODES)) == (150, 0)
    (reason,) = {row["last_error"] for row in await outbox.rows()}
    assert "150 deletes" in reason
    await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'pending'")
    assert (await outbox.pusher.push()).done == 150
