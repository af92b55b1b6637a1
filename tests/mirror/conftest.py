"""What the tests of the mirror share."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.connection.connection import Connection
from sync.demo.simulator import Voucher
from sync.mirror import read_window
from tests.mirror.helpers import Database
from tests.support.mirror import Mirror
from tests.support.two_tokens import second


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    """An empty database."""
    return Database(engine)


@pytest.fixture
def voucher(mirror: Mirror) -> Voucher:
    """It has three codes."""
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A", "B", "C"])
    return voucher


@pytest.fixture
async def group(mirror: Mirror, voucher: Voucher) -> AsyncIterator[Connection]:
    """A portfolio token that sees the hotel too, which the connection of the environment mirrors already."""
    await mirror.once()
    other = mirror.world.add_enterprise("Hotel B")
    async with second(mirror, "group", [mirror.hotel.id, other.id]) as connection:
        yield connection


@pytest.fixture
def cut_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that is over ends what is new too, as it does after many pages."""
    monkeypatch.setattr(read_window, "MAX_PAGES_BEYOND", 0)
