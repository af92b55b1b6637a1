"""A connection that was removed is told of no more, although what it has mirrored stays."""

from sync.fleet import changes
from sync.mirror.discover import discover
from sync.postgres.engine import in_transaction, transaction
from sync.service.status.load import load_status
from tests.support.mirror import Mirror
from tests.support.two_tokens import second


async def names(mirror: Mirror) -> list[str]:
    async with transaction(mirror.connection.engine) as tx:
        return [one.name for one in await load_status(tx)]


async def test_a_removed_connection_is_no_longer_told_of(mirror: Mirror) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    service = mirror.world.add_service(hotel.id, "Stay")
    mirror.world.add_voucher(service.id, "V", created_utc=mirror.clock())
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        assert await names(mirror) == ["lake"]
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
    assert await names(mirror) == []
    assert await mirror.rows("SELECT connection FROM mews.vouchers") == [{"connection": "lake"}]
