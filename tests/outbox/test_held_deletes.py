"""A push that finds too many deletes holds all of them, and sends those that somebody releases."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import event, text

from sync.demo.simulator import Operation
from sync.outbox import delete_guard
from sync.outbox.claims import as_daemon, by_index
from tests.support.database import PATIENCE_S
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import SETTINGS, Outbox

KEEP = """
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER keep BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW WHEN (NEW.status = 'held')
EXECUTE FUNCTION public.keep()
"""


async def test_more_deletes_than_a_transaction_takes_are_all_held(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were queued before the guard's window: what is held of them does not count, and what is left are too few."""
    monkeypatch.setattr(delete_guard, "HELD_AT_ONCE", 60)
    await queue_hour_old(mirror, outbox)
    report = await outbox.pusher.push()
    assert (report.held, outbox.calls(Operation.DELETE_CODES)) == (150, 0)
    assert await outbox.statuses() == ["held"] * 150


async def test_what_is_left_of_a_hold_that_did_not_end_is_held_too(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process or the database ends in between: those left would be too few."""
    monkeypatch.setattr(delete_guard, "HELD_AT_ONCE", 120)
    await queue_hour_old(mirror, outbox)
    async with by_index(mirror.connection.engine) as tx:
        found = await delete_guard.hold_suspicious(tx, mirror.connection.name, SETTINGS.delete_guards)
    assert (len(found.held.ids), bool(found.more_because)) == (120, True)
    report = await outbox.pusher.push()
    assert (report.held, outbox.calls(Operation.DELETE_CODES)) == (30, 0)


async def test_a_stop_waits_for_no_hold_of_millions_and_the_next_process_goes_on_with_it(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete_guard, "HELD_AT_ONCE", 60)
    await queue_hour_old(mirror, outbox)

    def stop(*given: object) -> None:
        if "SET status = 'held'" in str(given[2]):
            mirror.stop.set()

    event.listen(mirror.connection.shared_engine.sync_engine, "after_cursor_execute", stop)
    assert (await outbox.pusher.push()).held == 60
    event.remove(mirror.connection.shared_engine.sync_engine, "after_cursor_execute", stop)
    mirror.stop.clear()
    assert (await outbox.pusher.push()).held == 90
    assert outbox.calls(Operation.DELETE_CODES) == 0


async def test_what_was_released_goes_though_more_are_held_than_a_transaction_takes(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete_guard, "HELD_AT_ONCE", 60)
    await queue_hour_old(mirror, outbox)
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET released_at = now() WHERE id <= 7"))
    report = await outbox.pusher.push()
    assert (report.held, report.done) == (143, 7)


async def test_a_delete_that_comes_later_is_not_held_with_those_that_are_held_still(
    mirror: Mirror, outbox: Outbox
) -> None:
    await queue_hour_old(mirror, outbox)
    assert (await outbox.pusher.push()).held == 150
    await outbox.delete(next(iter(mirror.world.vouchers.values())), *numbered(200)[150:])
    await age(mirror, timedelta(minutes=30), "status = 'pending'")
    report = await outbox.pusher.push()
    assert (report.held, report.done) == (0, 50)


async def queue_hour_old(mirror: Mirror, outbox: Outbox) -> None:
    """Deletes of 150 of 200 codes, which were queued before the guard's window."""
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(200))
    await outbox.refresh()
    await outbox.delete(voucher, *numbered(150))
    await age(mirror, timedelta(hours=1))


async def age(mirror: Mirror, by: timedelta, which: str = "true") -> None:
    """Has changes be queued earlier."""
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(
            text(f"UPDATE mews.voucher_code_outbox SET created_at = created_at - :by WHERE {which}"), {"by": by}
        )


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


async def test_what_a_trigger_keeps_from_being_held_is_not_sent_and_ends_the_hold(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of that, so the same rows would be found and held again for ever."""
    monkeypatch.setattr(delete_guard, "HELD_AT_ONCE", 60)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(200))
    await outbox.refresh()
    await outbox.delete(voucher, *numbered(150))
    with psycopg.connect(mirror.database_url, autocommit=True) as connection:
        connection.execute(KEEP)
    try:
        async with asyncio.timeout(PATIENCE_S):
            report = await outbox.pusher.push()
    finally:
        with psycopg.connect(mirror.database_url, autocommit=True) as connection:
            connection.execute("DROP FUNCTION public.keep CASCADE")
    assert (report.held, outbox.calls(Operation.DELETE_CODES)) == (0, 0)
    assert await outbox.statuses() == ["pending"] * 150
