"""The history of runs: what changed something, and what failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.tables import runs


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
