"""What a campaign adds to, read from the database: what is staged, what waits, and how many vouchers are read."""

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.tables import vouchers
from sync.outbox.rules import Status
from sync.outbox.tables import outbox


async def staged_by_hotel(tx: AsyncConnection) -> list[int]:
    """How many codes of each hotel are staged and not refused."""
    return [row.number for row in await tx.execute(_STAGED_BY_HOTEL)]


async def waiting_by_lane(tx: AsyncConnection) -> list[int]:
    """How many changes of each connection, hotel and operation are due, and go before what is queued now."""
    lane = (outbox.c.connection, outbox.c.enterprise_id, outbox.c.operation)
    is_due = (outbox.c.status == Status.PENDING, outbox.c.next_attempt_at <= func.now())
    return [row.number for row in await tx.execute(select(func.count().label("number")).where(*is_due).group_by(*lane))]


async def count_vouchers(tx: AsyncConnection) -> int:
    """How many active vouchers the mirror has, which each pull reads."""
    return (await tx.execute(select(func.count()).select_from(vouchers).where(vouchers.c.is_active))).scalar_one()


_STAGED_BY_HOTEL = text("""
SELECT count(*) AS number FROM pg_temp.staged_adds AS staged
LEFT JOIN mews.vouchers AS voucher ON voucher.id = staged.voucher_id
WHERE staged.refusal IS NULL GROUP BY voucher.connection, voucher.enterprise_id
""")
