"""Looks of several statements that are of one instant: what others commit meanwhile, none of them sees.

In REPEATABLE READ the statement that begins it sees what is there, and all that follow see the same; `now()` is from
just before. What only reads never has to give way to another there, as in SERIALIZABLE, which no standby knows either.
It is said where the transaction begins, and ends with it: nothing of it is left in a session that others get then.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.postgres.engine import transaction
from sync.postgres.session import SEES

ANYWHERE = "REPEATABLE READ, READ ONLY"
AT_PRIMARY = "REPEATABLE READ, READ WRITE"
"""A standby refuses it when it begins."""
READ_ONLY = "SET TRANSACTION READ ONLY"


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that only reads, of one instant, at a standby too. Raises what `transaction` does."""
    async with transaction(engine.execution_options(**{SEES: ANYWHERE})) as tx:
        yield tx


@asynccontextmanager
async def snapshot_within(engine: AsyncEngine, seconds: float) -> AsyncIterator[AsyncConnection]:
    """The same for who works with the database: each statement is ended after so long, and of a standby, where no work
    is done, it is told as of a database that does not answer.
    """
    also = f"SET LOCAL statement_timeout = '{seconds * 1000:.0f}ms'; {READ_ONLY}"
    async with transaction(engine.execution_options(**{SEES: AT_PRIMARY}), also) as tx:
        yield tx
