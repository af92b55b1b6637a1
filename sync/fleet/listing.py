"""How each connection is doing, in a line for each."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class ListedConnection:
    """A connection. `state`: ok where nothing fails, failing, also as nobody works for it, or paused, and since when.
    `late_s`: seconds since it last caught up; null: never yet. `owner`: the machine and process that works for it, if
    one does that lives. `error`: why it fails."""

    name: str
    origin: str
    platform_address: str | None
    state: str
    since: datetime
    late_s: float | None
    owner: str | None
    error: str | None
    paused_at: datetime | None
    paused_because: str | None
    added_at: datetime | None


async def list_present(tx: AsyncConnection) -> list[ListedConnection]:
    """The connections that are not removed, by name."""
    return [ListedConnection(**row) for row in (await tx.execute(_PRESENT)).mappings()]


_PRESENT = text("""
SELECT one.name, one.origin, one.platform_address,
       CASE WHEN one.paused_at IS NOT NULL THEN 'paused' ELSE one.state END AS state,
       coalesce(one.paused_at, one.state_since) AS since,
       CAST(extract(epoch FROM now() - told.caught_up_as_of) AS double precision) AS late_s,
       replica.host || ':' || replica.pid::text AS owner, one.error, one.paused_at, one.paused_because, one.added_at
FROM sync.connections AS one JOIN sync.connection_freshness AS told ON told.name = one.name
LEFT JOIN sync.daemons AS replica ON replica.process = one.owner
  AND one.paused_at IS NULL AND abs(extract(epoch FROM now() - replica.heartbeat_at)::float8)
      <= coalesce(CAST(replica.settings ->> 'SYNC_LEASE_S'::text AS double precision), 30)
WHERE one.removed_at IS NULL
ORDER BY one.name
""")
