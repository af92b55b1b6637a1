"""The API's time, believed within reason of other clocks, which are those of `sync.mews.clock`."""

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.connection.tables import freshness
from sync.mews import operations
from sync.postgres.engine import in_transaction


async def server_now(connection: Connection) -> datetime:
    """The API's time. Raises `ClockRefused`, and what a read and a transaction raise."""
    clock = connection.client.server_clock
    if clock.needs_witness:
        clock.expect(await in_transaction(connection.engine, partial(expected, name=connection.name)))
    return await operations.server_now(connection.client)


async def expected(tx: AsyncConnection, name: str) -> datetime:
    """What the API's clock shows now by the database's, as far apart as both were when a pull last caught up."""
    apart = freshness.c.caught_up_through - freshness.c.caught_up_as_of
    noted = select(apart).where(freshness.c.name == name).scalar_subquery()
    now: datetime = (await tx.execute(select(func.clock_timestamp() + func.coalesce(noted, timedelta())))).scalar_one()
    return now
