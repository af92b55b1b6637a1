"""An event that comes once more, or late, undoes nothing that came since."""

import pytest

from sync.fleet import changes
from sync.fleet.tokens import TokenOf
from sync.postgres.engine import in_transaction
from tests.fleet.webhooks.vendor import Vendor, state


async def token_of(vendor: Vendor, name: str) -> str:
    rows = await vendor.mirror.rows("SELECT access_token FROM sync.connections WHERE name = :name", name=name)
    return vendor.receiver.box.decrypt(rows[0]["access_token"], TokenOf(name, vendor.mirror.address, "access"))


@pytest.mark.long
async def test_what_an_event_has_done_its_replay_does_not_undo_what_came_since(vendor: Vendor, hotel: str) -> None:
    async def send_all() -> None:
        await vendor.created(hotel)
        await vendor.work_off_all()
        await vendor.send("IntegrationApiKeyCreated", ApiKey="token-2")
        await vendor.work_off_all()

    await send_all()
    await vendor.created(hotel)
    await vendor.work_off_all()
    assert await token_of(vendor, "Hotel B") == "token-2", "the one before is taken too, for a while"
    await in_transaction(vendor.receiver.engine, lambda tx: changes.remove(tx, "Hotel B"))
    await send_all()
    assert await vendor.states() == [state(is_removed=True)], "a person has removed it"


@pytest.mark.long
async def test_a_first_token_that_comes_late_does_not_replace_the_one_since_unless_that_is_refused(
    vendor: Vendor, hotel: str
) -> None:
    await vendor.send("IntegrationApiKeyCreated", ApiKey="token-2", Enterprise={"Name": "Hotel B"})
    await vendor.work_off_all()
    await vendor.created(hotel)
    await vendor.work_off_all()
    assert await token_of(vendor, "Hotel B") == "token-2"
    del vendor.mirror.world.tokens["token-2"]
    await vendor.created(hotel)
    await vendor.work_off_all()
    assert await token_of(vendor, "Hotel B") == hotel
