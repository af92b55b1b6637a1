"""An engine on a migrated database without rows."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.db.engine import make_engine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The product's own engine, for one test."""
    engine = make_engine(database_url)
    yield engine
    await engine.dispose()
