"""What a push leaves behind is told, and who keeps it."""

import asyncio
from functools import partial

import psycopg

from sync.outbox import left_over
from sync.postgres.engine import in_transaction
from tests.support.database import blocked
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox

HOLD_SOMETHING_ELSE = "SELECT pg_advisory_xact_lock(7)"
LOCK = "SELECT FROM mews.voucher_code_outbox FOR UPDATE"


async def test_where_nobody_is_found_who_holds_a_row_there_is_nobody_to_end(mirror: Mirror, outbox: Outbox) -> None:
    """Who holds it waits himself for somebody who holds none of our tables."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    engine, connect = mirror.connection.engine, partial(psycopg.AsyncConnection.connect, mirror.way)
    async with await connect() as first, await connect() as other:
        await first.execute(HOLD_SOMETHING_ELSE)
        await other.execute(LOCK)
        waiting = asyncio.create_task(other.execute(HOLD_SOMETHING_ELSE))
        await blocked(engine, waiting)
        locked = await in_transaction(engine, partial(left_over.locked_by_others, connection=mirror.connection.name))
        await first.rollback()
        await waiting
    assert str(locked) == "1 change is due, and not sent: another transaction holds its row"
