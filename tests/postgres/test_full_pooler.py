"""A pooler whose sessions are all taken is told as one, and not as a server that does not answer."""

import pytest
from sqlalchemy import text

from sync.core.errors import DatabaseFull
from sync.postgres.engine import make_engine, transaction
from tests.support.pooler import needs_pgbouncer, pooled


@needs_pgbouncer
async def test_what_it_lacks_is_named(database_url: str) -> None:
    with pooled(database_url, pool_size=1, more={"query_wait_timeout": "1"}) as url:
        engine = make_engine(url)
        try:
            async with transaction(engine) as taken:
                await taken.execute(text("SELECT 1"))
                with pytest.raises(DatabaseFull, match=r"query_wait_timeout.*default_pool_size"):
                    async with transaction(engine) as tx:
                        await tx.execute(text("SELECT 1"))
        finally:
            await engine.dispose()
