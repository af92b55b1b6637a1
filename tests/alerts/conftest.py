"""Who is told."""

from collections.abc import AsyncIterator

import pytest

from tests.support.receiver import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Who is told."""
    async with receiving() as receiver:
        yield receiver
