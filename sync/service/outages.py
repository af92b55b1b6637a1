"""From when to when each connection failed: an outage is one row, however often its words change."""

from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.tables import outages


async def note(tx: AsyncConnection, connection: str, error: str | None) -> None:
    """Note that a connection fails, with its latest cause, or, with None, that it works. Writes only a change."""
    is_open = (outages.c.connection == connection, outages.c.ended_at.is_(None))
    if error is None:
        await tx.execute(update(outages).where(*is_open).values(ended_at=func.now()))
        return
    await tx.execute(_GOES_ON, {"connection": connection, "error": error})


_GOES_ON = text("""
INSERT INTO sync.outages (connection, error) VALUES (:connection, :error)
ON CONFLICT (connection) WHERE ended_at IS NULL
DO UPDATE SET error = excluded.error WHERE outages.error <> excluded.error
""")
