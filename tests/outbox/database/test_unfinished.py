"""Whose outbox has anything to do: one look for all connections of a process."""

from sync.outbox.claims import as_daemon
from sync.outbox.rules import Status
from sync.outbox.unfinished import load_unfinished
from tests.support.instants import utc
from tests.support.queue import UNKNOWN_VOUCHER, Outbox, execute


async def has_unassigned(outbox: Outbox) -> bool:
    async with as_daemon(outbox.engine) as tx:
        return (await load_unfinished(tx)).has_unassigned


async def test_what_no_connection_knows_has_nobody_polled_before_it_is_due_or_known(outbox: Outbox) -> None:
    """A mistyped voucher's id, for a campaign of next year, would have thousands of hotels polled until then."""
    later = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER, not_before=utc(2099, 1, 1))
    await outbox.bring(await outbox.add("B", voucher_id=UNKNOWN_VOUCHER), Status.HELD)
    assert not await has_unassigned(outbox)
    await outbox.set(later, next_attempt_at=utc(2026, 1, 1))
    assert await has_unassigned(outbox)
    await execute(outbox.engine, "DELETE FROM mews.voucher_code_outbox WHERE value = 'A'")
    assert not await has_unassigned(outbox)
    await execute(
        outbox.engine,
        "INSERT INTO mews.vouchers (id, service_id, name, is_active, connection) "
        "VALUES (:id, gen_random_uuid(), 'V', true, 'default')",
        id=UNKNOWN_VOUCHER,
    )
    assert await has_unassigned(outbox)
