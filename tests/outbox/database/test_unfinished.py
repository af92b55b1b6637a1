"""Whose outbox has anything to do: one look for all connections of a process."""

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox import routing
from sync.outbox.claims import as_daemon
from sync.outbox.rules import Status
from sync.outbox.unfinished import load_unfinished
from tests.outbox.database.test_look import ANALYZE, read_by
from tests.support.instants import utc
from tests.support.queue import UNKNOWN_VOUCHER, Outbox, execute

QUEUE_MANY = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
SELECT 'add', :id, 'C' || n FROM generate_series(1, 2000) AS n
"""


async def become_known(outbox: Outbox) -> None:
    await execute(
        outbox.engine,
        "INSERT INTO mews.vouchers (id, service_id, name, is_active, connection) "
        "VALUES (:id, gen_random_uuid(), 'V', true, 'default')",
        id=UNKNOWN_VOUCHER,
    )


async def sendable(outbox: Outbox) -> frozenset[str]:
    async with as_daemon(outbox.engine) as tx:
        return (await load_unfinished(tx)).pending


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
    await become_known(outbox)
    assert await sendable(outbox) == {"default"}
    assert not await has_unassigned(outbox)


async def test_many_changes_of_a_voucher_that_has_just_become_known_have_nobody_else_polled(
    outbox: Outbox,
) -> None:
    """They are given to its connection some at a time; each other one would look through all of them meanwhile."""
    await execute(outbox.engine, QUEUE_MANY, id=UNKNOWN_VOUCHER)
    assert await has_unassigned(outbox)
    await become_known(outbox)
    assert await sendable(outbox) == {"default"}
    assert not await has_unassigned(outbox)


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_however_many_changes_wait_for_the_voucher_of_another_connection_few_are_read(
    unused: Outbox, *, is_analysed: bool
) -> None:
    """Each hotel's push would look through all of them: 0.3 s for a million."""
    await execute(unused.engine, QUEUE_MANY, id=UNKNOWN_VOUCHER)
    await become_known(unused)
    if is_analysed:
        await execute(unused.engine, ANALYZE)

    async def look(tx: AsyncConnection) -> None:
        await load_unfinished(tx)
        await routing.fail_unknown(tx, "lake", discovered_as_of=utc(2026, 1, 1), caught_up_as_of=utc(2026, 1, 1))

    assert await read_by(unused, look) < 20
