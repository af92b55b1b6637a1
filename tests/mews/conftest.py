"""The simulated API over real HTTP, without a database."""

from collections.abc import AsyncIterator

import pytest

from tests.support.mirror import Mirror


@pytest.fixture
async def api() -> AsyncIterator[Mirror]:
    """The served API, which forgives no request within a Retry-After; there is no database here."""
    api = Mirror("no database", grace_s=0.0)
    async with api.served():
        yield api
