"""A mirror that is open, and whose client has broken no rule of the API at the end."""

from collections.abc import AsyncIterator

import pytest

from tests.flows.outbox_rig import Outbox
from tests.support.mirror import Mirror


@pytest.fixture
async def mirror(database_url: str) -> AsyncIterator[Mirror]:
    """One hotel, served over HTTP, and an empty database to mirror it into."""
    mirror = Mirror(database_url)
    async with mirror.opened():
        yield mirror
    assert mirror.simulator.violations == []


@pytest.fixture
def outbox(mirror: Mirror) -> Outbox:
    """Its outbox, with nothing in it."""
    return Outbox(mirror)
