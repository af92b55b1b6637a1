"""Calls that failed, written down by operation and problem: a row of each, however often it comes again."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mews.failed_calls import FailedCalls
from sync.service.tables import request_failures


async def note(tx: AsyncConnection, connection: str, failed: Sequence[FailedCalls]) -> None:
    """Count calls of a connection that failed; nothing is written where none did."""
    if not failed:
        return
    statement = insert(request_failures).values([{"connection": connection, **asdict(one)} for one in failed])
    new = statement.excluded
    changes = {
        "count": request_failures.c.count + new.count,
        "last_at": func.now(),
        "request_id": func.coalesce(new.request_id, request_failures.c.request_id),
    }
    await tx.execute(statement.on_conflict_do_update(index_elements=[*request_failures.primary_key], set_=changes))
