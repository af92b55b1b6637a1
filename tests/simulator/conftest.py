"""The fixture that nearly every test here starts from."""

from collections.abc import AsyncIterator

import pytest

from tests.simulator.helpers import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A served simulator."""
    rig = Rig()
    async with rig.simulator.serve() as rig.address, rig.http:
        yield rig
