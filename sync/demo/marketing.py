"""Somebody who queues changes, as an application would: by rows of the outbox, and by nothing else."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.plurals import plural
from sync.postgres.engine import transaction

ADD = text("""
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, note)
SELECT 'add', id, :value, 'the demo''s marketing' FROM mews.vouchers WHERE is_active ORDER BY random() LIMIT 1
RETURNING value
""")
# Every third code is taken back once it stands, by its text.
DELETE = text("""
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, note)
SELECT 'delete', voucher_id, value, note FROM mews.voucher_code_outbox
WHERE operation = 'add' AND value = :value AND status = 'done' RETURNING value
""")
COUNTED = text("""
SELECT count(*) AS queued, count(*) FILTER (WHERE status = 'done') AS done,
       count(*) FILTER (WHERE status IN ('failed', 'cancelled', 'held')) AS stopped,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - created_at))
         FILTER (WHERE status = 'done') AS usual_s
FROM mews.voucher_code_outbox
""")


class Marketing:
    """Adds a code at each step, and deletes one of three again."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._steps = 0

    async def step(self) -> None:
        """Queue something; nothing while no voucher is known yet."""
        self._steps += 1
        takes_back = self._steps % 3 == 0
        value = f"DEMO-{self._steps - 2 if takes_back else self._steps:04}"
        async with transaction(self._engine) as tx:
            await tx.execute(DELETE if takes_back else ADD, {"value": value})

    async def told(self) -> tuple[str, bool]:
        """How the changes stand, also those that others queued, and whether none is under way."""
        async with transaction(self._engine) as tx:
            row = (await tx.execute(COUNTED)).one()
        under_way = row.queued - row.done - row.stopped
        usual = "" if row.usual_s is None else f", usually {row.usual_s:.2f} s after they were queued"
        stopped = f", {row.stopped:,} refused, cancelled or held" if row.stopped else ""
        waiting = f", {under_way:,} on their way" if under_way else ""
        return (
            f"{plural(row.queued, 'change')} queued here, {row.done:,} made in the API{usual}{stopped}{waiting}",
            not under_way,
        )
