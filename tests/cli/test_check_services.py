"""`check`, where services cannot carry vouchers: it says how far there is anything to mirror."""

import json

import pytest

from tests.support.mirror import Mirror

from .conftest import Cli


async def vouchers_line(cli: Cli, hotel: Mirror) -> str:
    """What is said of reading vouchers, where nothing is wrong."""
    async with hotel.served():
        ended = await cli("check", "--json", settings=hotel.environment)
    assert ended.code == 0, ended.stdout
    (line,) = [one for one in json.loads(ended.stdout)["lines"] if one["subject"] == "vouchers/getAll"]
    return str(line["detail"])


@pytest.mark.long
async def test_a_service_without_vouchers_is_no_fault(cli: Cli, mirror: Mirror) -> None:
    mirror.world.add_service(mirror.hotel.id, "Restaurant", carries_vouchers=False)
    assert await vouchers_line(cli, mirror) == "permitted; 1 voucher in the first 20 services"


@pytest.mark.long
async def test_that_no_service_has_vouchers_is_told(cli: Cli, database_url: str) -> None:
    hotel = Mirror(database_url)
    del hotel.world.services[hotel.service.id]
    for name in ("Restaurant", "Spa"):
        hotel.world.add_service(hotel.hotel.id, name, carries_vouchers=False)
    assert (await vouchers_line(cli, hotel)).startswith("refused for each of 2 services")
