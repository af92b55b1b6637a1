"""`--forecast`: what importing or generating codes will cost, and nothing queued."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import OTHER, VOUCHER, add_row, query, values, write

KNOWN = (
    "INSERT INTO mews.vouchers (id, service_id, enterprise_id, name, is_active, connection) "
    "VALUES (%s, gen_random_uuid(), %s, %s, true, 'default')"
)


@pytest.mark.long
async def test_a_file_of_two_hotels_costs_the_calls_of_each(cli: Cli, database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url}
    for hotel, voucher in ((VOUCHER, VOUCHER), (OTHER, OTHER)):
        query(database_url, KNOWN, voucher, hotel, f"of {hotel}")
    add_row(database_url, "WAITS")
    lines = [f"{voucher};A-{number}" for number in range(1100) for voucher in (VOUCHER, OTHER)]
    write(tmp_path / "codes.csv", "\n".join(["voucher_id;value", *lines, f"{VOUCHER};WAITS"]))
    call = ("outbox", "import", "codes.csv", "--forecast")
    refused = await cli(*call, settings=settings)
    assert (refused.code, refused.stdout) == (1, "")
    told = await cli(*call, "--skip-bad", settings=settings)
    assert told.code == 0
    first, *others = told.stdout.splitlines()
    calls = "2,200 codes: 4 calls of voucherCodes/add, behind 1 call of what waits already"
    assert first == f"{calls}; about 1 s once all is due."
    assert others[0] == "In the busiest 30 s it makes 5 of the 200 calls that the budget has then, 2%."
    for word in ("time:", "operations: voucherCodes/add, 4 calls of up to 1000 codes", "multiplier: up to "):
        assert any(word in line for line in others)
    assert others[-1] == "Nothing is queued: this is a forecast."
    assert values(database_url) == ["WAITS"]


async def test_what_is_generated_costs_by_its_number(cli: Cli, database_url: str, tmp_path: Path) -> None:
    query(database_url, KNOWN, VOUCHER, OTHER, "Winter")
    options = ("--count", "20001", "--pattern", "X-??????????", "--output", "made.csv", "--forecast")
    settings = {"DATABASE_URL": database_url, "SYNC_RATE_LIMIT_REQUESTS": "20"}
    told = await cli("outbox", "generate", "--voucher", "Winter", *options, settings=settings)
    first, second, *_ = told.stdout.splitlines()
    assert first.startswith("20,001 codes: 21 calls of voucherCodes/add; about 30 s once all is due.")
    assert second.startswith("In the busiest 30 s it makes 19 of the 20 calls")
    assert values(database_url) == []
    assert not (tmp_path / "made.csv").exists()
