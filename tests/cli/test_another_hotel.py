"""With another hotel's tokens, or another API's address, nothing is mirrored, and nothing queued is sent."""

import json
from collections.abc import AsyncIterator

import pytest

from sync.demo.simulator import Operation
from tests.support.mirror import Mirror

from .conftest import Cli

pytestmark = pytest.mark.long

ANOTHER_TOKEN = "the-token-of-another-hotel"
SAYS = "this database mirrors Hotel A, and MEWS_ACCESS_TOKEN is for Hotel B: nothing was read or sent; check"


@pytest.fixture
async def filled(cli: Cli, mirror: Mirror) -> AsyncIterator[Mirror]:
    """A mirror of hotel A, a change that waits, and hotel B with a token of its own."""
    hotel = mirror.world.add_enterprise("Hotel B")
    voucher = mirror.world.add_voucher(mirror.world.add_service(hotel.id, "Stay").id, "Theirs")
    mirror.world.add_codes(voucher.id, ["THEIRS"])
    mirror.world.add_token(ANOTHER_TOKEN, name="another", enterprise_ids=[hotel.id])
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, 'NEW')",
            voucher=next(iter(mirror.world.vouchers)),
        )
        yield mirror


async def content(mirror: Mirror) -> list[dict[str, object]]:
    """What is mirrored, and what waits."""
    return await mirror.rows("""
        SELECT 'code' AS kind, value AS name, '' AS status FROM mews.voucher_codes
        UNION ALL SELECT 'hotel', name, '' FROM mews.enterprises UNION ALL SELECT 'voucher', name, '' FROM mews.vouchers
        UNION ALL SELECT 'change', value, status FROM mews.voucher_code_outbox ORDER BY 1, 2
    """)


async def test_nothing_is_read_or_sent_until_somebody_accepts_it(cli: Cli, filled: Mirror) -> None:
    before = await content(filled)
    settings = filled.environment | {"MEWS_ACCESS_TOKEN": ANOTHER_TOKEN}
    for command in (("once",), ("audit", "--repair"), ("check",), ("once", "--json")):
        ended = await cli(*command, settings=settings)
        shown = ended.stdout + ended.stderr
        assert (ended.code, SAYS in shown or "WRONG hotels: this database mirrors Hotel A" in shown) == (1, True), ended
        assert ("voucher-sync once --accept-enterprises" in shown, ANOTHER_TOKEN in shown) == (True, False)
    assert await content(filled) == before
    assert (filled.requests(Operation.ADD_CODES), filled.requests(Operation.DELETE_CODES)) == ([], [])
    told = await cli("status", "--json", settings=settings)
    assert (told.code, SAYS in json.loads(told.stdout)[0]["error"]) == (1, True)
    assert (await cli("once", "--accept-enterprises", settings=settings)).code == 0
    assert len(await content(filled)) > len(before)
    assert (await cli("once", settings=settings)).code == 0


async def test_the_right_token_goes_on_as_if_nothing_had_been(cli: Cli, filled: Mirror) -> None:
    await cli("once", settings=filled.environment | {"MEWS_ACCESS_TOKEN": ANOTHER_TOKEN})
    assert (await cli("once", settings=filled.environment)).code == 0
    assert {"kind": "change", "name": "NEW", "status": "done"} in await content(filled)


async def test_another_address_is_another_api_although_the_ids_are_the_same(cli: Cli, filled: Mirror) -> None:
    before = await content(filled)
    async with filled.simulator.serve(port=0) as address:
        settings = filled.environment | {"MEWS_PLATFORM_ADDRESS": address}
        ended = await cli("once", settings=settings)
        says = f"mirrors {filled.address}, and MEWS_PLATFORM_ADDRESS is {address}"
        assert (ended.code, says in ended.stderr) == (1, True)
        assert await content(filled) == before
        assert (await cli("once", "--accept-enterprises", settings=settings)).code == 0


async def test_a_new_token_of_the_same_hotel_and_one_of_its_portfolio_are_taken(cli: Cli, filled: Mirror) -> None:
    world, hotels = filled.world, list(filled.world.enterprises)
    world.add_token("rotated", name="rotated", enterprise_ids=hotels[:1])
    world.add_token("portfolio", name="portfolio", enterprise_ids=hotels, portfolio=True)
    for token in ("rotated", "portfolio", ANOTHER_TOKEN):
        assert (await cli("once", settings=filled.environment | {"MEWS_ACCESS_TOKEN": token})).code == 0


async def test_a_mirror_that_was_made_before_is_known_by_its_hotels(cli: Cli, filled: Mirror) -> None:
    await filled.execute("UPDATE sync.connections SET platform_address = NULL, token_fingerprint = NULL")
    ended = await cli("once", settings=filled.environment | {"MEWS_ACCESS_TOKEN": ANOTHER_TOKEN})
    assert (ended.code, SAYS in ended.stderr) == (1, True)
    assert (await cli("once", settings=filled.environment)).code == 0
    (row,) = await filled.rows("SELECT platform_address, token_fingerprint FROM sync.connections")
    assert (row["platform_address"], len(row["token_fingerprint"])) == (filled.address, 32)
