"""What the tests of the mirror share."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.mirror.helpers import Database


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    """An empty database."""
    return Database(engine)
