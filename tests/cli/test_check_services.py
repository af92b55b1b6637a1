"""What `check` asks the API: each thing once, and of services without vouchers how far there is anything to mirror."""

import json

import pytest

from sync.demo.simulator import Operation, Status
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


@pytest.mark.long
async def test_the_hotels_are_asked_for_once_so_that_a_failure_later_ends_nothing(cli: Cli, mirror: Mirror) -> None:
    mirror.simulator.faults.script(Operation.GET_ENTERPRISES, None, *[Status(500)] * 9)
    async with mirror.served():
        ended = await cli("check", "--json", settings=mirror.environment)
    assert [one["subject"] for one in json.loads(ended.stdout)["lines"] if not one["ok"]] == []
