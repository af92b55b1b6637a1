"""Tokens of other hotels are refused in words that name the connection, and what to do about it."""

import pytest

from sync.connection.guard import verify
from sync.core.errors import AnotherHotel
from sync.mirror.discover import discover
from tests.support.mirror import Mirror
from tests.support.two_tokens import second


async def test_a_stored_connection_whose_token_is_for_other_hotels_is_named(mirror: Mirror) -> None:
    hotel, other = (mirror.world.add_enterprise(f"Hotel {name}") for name in "BC")
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        lake.identity.is_verified = False
        lake.identity.token = b"another one"
        mirror.world.withdraw("the-token-of-lake", hotel.id)
        mirror.world.grant("the-token-of-lake", other.id)
        with pytest.raises(AnotherHotel) as told:
            await verify(lake)
    assert "connection lake mirrors Hotel B, and its token is for Hotel C: nothing was read or sent" in str(told.value)
    assert "`voucher-sync connections rotate lake`" in str(told.value)
    assert "MEWS_" not in str(told.value)


async def test_hotels_that_another_connection_mirrors_count_as_known(mirror: Mirror) -> None:
    await mirror.once()
    foreign = mirror.world.add_enterprise("Hotel C")
    async with second(mirror, "lake", [mirror.hotel.id]) as lake:
        await discover(lake)
        lake.identity.token = b"another one"
        mirror.world.withdraw("the-token-of-lake", mirror.hotel.id)
        mirror.world.grant("the-token-of-lake", foreign.id)
        with pytest.raises(AnotherHotel):
            await discover(lake)
