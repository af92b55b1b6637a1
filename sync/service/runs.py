"""The history of runs: what changed something, and what failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Double, cast, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.tables import runs

KEEP = timedelta(days=30)
MAX_PRUNED = 10_000


@dataclass(frozen=True, slots=True)
class Run:
    """One run, which lasted `lasted_s` seconds; `counts` tells by name what it read, wrote and found."""

    connection: str
    kind: str
    began_at: datetime
    finished_at: datetime
    lasted_s: float
    counts: dict[str, int]
    error: str | None


async def note(
    tx: AsyncConnection,
    connection: str,
    kind: str,
    *,
    lasted: timedelta,
    counts: Mapping[str, int],
    error: str | None,
) -> None:
    """Note a run that ends now and `lasted` so long."""
    began_at = func.clock_timestamp() - lasted
    values: dict[str, Any] = {"connection": connection, "kind": kind, "began_at": began_at}
    await tx.execute(insert(runs).values(**values, counts=dict(counts), error=error))


async def last_runs(tx: AsyncConnection, connection: str, limit: int) -> list[Run]:
    """The last runs of a connection, the newest first."""
    lasted_s = cast(func.extract("epoch", runs.c.finished_at - runs.c.began_at), Double).label("lasted_s")
    columns = (runs.c[name] for name in Run.__slots__ if name != lasted_s.name)
    query = select(*columns, lasted_s).where(runs.c.connection == connection).order_by(runs.c.id.desc()).limit(limit)
    return [Run(**row) for row in (await tx.execute(query)).mappings()]


async def prune(tx: AsyncConnection) -> None:
    """Forget runs that ended longer ago than they are kept, some at a time."""
    old = select(runs.c.id).where(runs.c.finished_at < func.now() - KEEP).limit(MAX_PRUNED)
    await tx.execute(delete(runs).where(runs.c.id.in_(old)))
