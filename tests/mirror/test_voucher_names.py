"""Vouchers are found by whatever people have of them: an id in any spelling, an external identifier, or a name."""

from uuid import UUID

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import VoucherSyncError
from sync.mirror.voucher_names import find_voucher
from sync.postgres.engine import transaction

ONE, OTHER, UNKNOWN = (UUID(int=number, version=4) for number in (1, 2, 3))
OF_ANOTHER_SYSTEM = "0B5FF2A200004000800000000000000A"
KNOWN = (
    "INSERT INTO mews.vouchers (id, service_id, name, external_identifier, is_active, connection) "
    "VALUES (%s, gen_random_uuid(), %s, %s, true, 'default')"
)


def add_voucher(url: str, voucher_id: UUID, name: str, external_identifier: str | None = None) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(KNOWN.encode(), [voucher_id, name, external_identifier])


async def find(engine: AsyncEngine, named: str) -> UUID:
    async with transaction(engine) as tx:
        return await find_voucher(tx, named)


@pytest.mark.parametrize(
    ("name", "external_identifier", "named"),
    [
        ("Summer", OF_ANOTHER_SYSTEM, OF_ANOTHER_SYSTEM),
        (str(OTHER), None, str(OTHER)),
        ("Summer", "{braces}", "{braces}"),
        ("--x", None, "--x"),
        ("  in the  middle ", None, "in the middle"),
        ("tab\there", None, "tab here"),
        ("Só", None, "So\u0301"),
        ("Summer", "crm-17 ", "crm-17"),
        ("Summer", None, f" {{{str(ONE).upper()}}} "),
        ("Summer", None, ONE.hex),
    ],
)
async def test_one_is_found_by_what_it_is_called(
    database_url: str, engine: AsyncEngine, name: str, external_identifier: str | None, named: str
) -> None:
    add_voucher(database_url, ONE, name, external_identifier)
    assert await find(engine, named) == ONE


async def test_an_id_comes_before_what_others_are_called_and_need_not_be_known(
    database_url: str, engine: AsyncEngine
) -> None:
    add_voucher(database_url, ONE, "Summer")
    add_voucher(database_url, OTHER, str(ONE), str(ONE))
    assert [await find(engine, str(ONE)), await find(engine, str(UNKNOWN))] == [ONE, UNKNOWN]


async def test_of_those_that_look_alike_the_one_that_is_called_exactly_so_is_meant(
    database_url: str, engine: AsyncEngine
) -> None:
    add_voucher(database_url, ONE, "Summer")
    add_voucher(database_url, OTHER, "Summer ")
    assert [await find(engine, "Summer"), await find(engine, "Summer ")] == [ONE, OTHER]
    with pytest.raises(VoucherSyncError, match="2 vouchers have this name"):
        await find(engine, " Summer")


@pytest.mark.parametrize("named", ["", " ", "\u200b", "SUMMER"])
async def test_nothing_is_the_name_of_none(database_url: str, engine: AsyncEngine, named: str) -> None:
    add_voucher(database_url, ONE, "Summer")
    with pytest.raises(VoucherSyncError, match="knows no voucher"):
        await find(engine, named)
