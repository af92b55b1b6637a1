"""What a discovery finds is written where it differs, the later reading over the earlier."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mews.records import Enterprise, Service, VoucherAssignment
from sync.mirror.upsert import (
    store_assignments,
    store_enterprises,
    store_services,
    store_vouchers,
)
from sync.postgres.engine import transaction
from tests.support.database import (
    CONNECTION,
    footprint,
    make_known,
    rows,
    uuid,
    voucher,
)
from tests.support.instants import utc

OLD = utc(2026, 1, 1)


async def test_vouchers_follow_the_same_rule(engine: AsyncEngine) -> None:
    first = voucher(1, created_utc=OLD, company_id=uuid(4), occupiable_interval_start_utc=OLD)
    stale = replace(first, name="Stale", updated_utc=OLD)
    news = replace(first, name=None, type=None, company_id=None, is_active=False, updated_utc=utc(2026, 2, 1))
    found: list[dict[str, Any]] = []
    written = []
    for page in ([first, voucher(2)], [first, voucher(2)], [stale], [news, stale, first]):
        async with transaction(engine) as tx:
            await make_known(tx)
            written.append(await store_vouchers(tx, CONNECTION, page))
        found.append(dict((await rows(engine, "SELECT * FROM mews.vouchers WHERE id = :id", id=uuid(1)))[0]))
    assert written == [2, 0, 0, 1]
    assert found[0] == found[1] == found[2]
    for row, expected in ((found[0], first), (found[3], news)):
        assert {name: row[name] for name in expected.__slots__} == {n: getattr(expected, n) for n in expected.__slots__}
    assert found[3]["first_seen_at"] == found[0]["first_seen_at"]
    assert found[3]["mirrored_at"] > found[0]["mirrored_at"]


async def test_services_and_enterprises_take_the_later_reading(engine: AsyncEngine) -> None:
    stay, hotel = Service(uuid(1), uuid(2), "Stay", "Bookable", True), Enterprise(uuid(2), "Hotel", "Europe/Prague")
    closed, renamed = replace(stay, name=None, type=None, is_active=False), replace(hotel, name="Inn", time_zone=None)
    written = []
    for services, enterprises in (
        ([stay], [hotel]),
        ([stay], [hotel]),
        ([stay, closed], [hotel, renamed]),
        ([closed, closed], [renamed]),
        ([], []),
    ):
        async with transaction(engine) as tx:
            await make_known(tx)
            written.append(await store_services(tx, CONNECTION, services))
            written.append(await store_enterprises(tx, CONNECTION, enterprises))
    assert written == [1, 1, 0, 0, 1, 1, 0, 0, 0, 0]
    (row,) = await rows(engine, "SELECT id, enterprise_id, name, type, is_active FROM mews.services")
    assert Service(**row) == closed
    (row,) = await rows(engine, "SELECT id, name, time_zone FROM mews.enterprises")
    assert Enterprise(**row) == renamed


@pytest.mark.parametrize("table", ["vouchers", "services", "enterprises"])
async def test_what_a_discovery_finds_unchanged_is_not_touched(engine: AsyncEngine, table: str) -> None:
    before: list[tuple[str, ...]] = []
    for _ in range(2):
        async with transaction(engine) as tx:
            await make_known(tx)
            await store_vouchers(tx, CONNECTION, [voucher(number) for number in range(50)])
            await store_services(tx, CONNECTION, [Service(uuid(n), uuid(n), None, None, True) for n in range(50)])
            await store_enterprises(tx, CONNECTION, [Enterprise(uuid(n), "Hotel", None) for n in range(50)])
        before = before or await footprint(engine, f"mews.{table}")
    assert len(before) == 50
    assert await footprint(engine, f"mews.{table}") == before


async def test_given_assignments_become_the_only_ones_of_their_vouchers(engine: AsyncEngine) -> None:
    one, two, three = uuid(1), uuid(2), uuid(3)
    rate, other = uuid(10), uuid(11)

    async def given_to(vouchers: list[Any], *pairs: tuple[Any, Any]) -> int:
        async with transaction(engine) as tx:
            return await store_assignments(tx, vouchers, [VoucherAssignment(*pair) for pair in pairs])

    async def assigned() -> set[tuple[Any, ...]]:
        return {tuple(row.values()) for row in await rows(engine, "SELECT * FROM mews.voucher_assignments")}

    assert await given_to([one, two, three], (one, rate), (one, other), (two, rate), (three, rate)) == 4
    before = await footprint(engine, "mews.voucher_assignments")
    assert await given_to([one, two], (one, rate), (one, other), (two, rate), (two, rate)) == 0
    assert await footprint(engine, "mews.voucher_assignments") == before
    assert await given_to([one, two], (one, other), (two, other), (two, other)) == 3
    assert await assigned() == {(one, other), (two, other), (three, rate)}
    assert await given_to([one, two]) == 2
    assert await given_to([]) == 0
    assert await assigned() == {(three, rate)}
