"""The fixture that nearly every test here starts from."""

from collections.abc import AsyncIterator

import pytest

from tests.simulator.helpers import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A served simulator."""
    stage = Stage()
    async with stage.simulator.serve() as stage.address, stage.http:
        yield stage
