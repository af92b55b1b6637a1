"""From when to when each connection failed: an outage is one row, however often its words change."""

from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.tables import outages


async def note(tx: AsyncConnection, connection: str, error: str | None) -> None:
    """Note that a connection fails, with its latest cause, or, with None, that it works. Writes only a change.

    Of one that is paused or removed no outage begins, which nobody would end: what was under way for it may fail yet.
    """
    is_open = (outages.c.connection == connection, outages.c.ended_at.is_(None))
    if error is None:
        await tx.execute(update(outages).where(*is_open).values(ended_at=func.now()))
        return
    await tx.execute(_GOES_ON, {"connection": connection, "error": error})


async def note_missed(tx: AsyncConnection, connection: str, error: str, lasted_s: float, *, is_over: bool) -> None:
    """Note that a connection has failed for so long; nothing where it is known to have failed meanwhile."""
    missed = {"connection": connection, "error": error, "lasted_s": lasted_s, "is_over": is_over}
    await tx.execute(_MISSED, missed)


_MISSED = text("""
INSERT INTO sync.outages (connection, error, began_at, ended_at)
SELECT name, :error, began.at, CASE WHEN :is_over THEN now() END
FROM sync.connections, (SELECT now() - pg_catalog.make_interval(secs => :lasted_s)) AS began(at)
WHERE name = :connection AND paused_at IS NULL AND removed_at IS NULL AND NOT EXISTS (
  SELECT FROM sync.outages WHERE connection = name AND coalesce(ended_at > began.at, true))
ON CONFLICT (connection) WHERE ended_at IS NULL DO NOTHING
""")
_GOES_ON = text("""
INSERT INTO sync.outages (connection, error)
SELECT name, :error FROM sync.connections WHERE name = :connection AND paused_at IS NULL AND removed_at IS NULL
ON CONFLICT (connection) WHERE ended_at IS NULL
DO UPDATE SET error = excluded.error WHERE outages.error <> excluded.error
""")
