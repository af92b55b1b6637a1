"""The comparison notices every kind of difference."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sync.demo.comparison import Comparison
from sync.demo.simulator import Code
from tests.support.mirror import Mirror

Mirrored = tuple[Mirror, list[Code]]

OTHERS = {
    "voucher_id": "(SELECT id FROM mews.vouchers WHERE name = 'Winter')",
    "value": "'a'",
    "validity_start_utc": "'2020-01-01T00:00:00Z'",
    "validity_end_utc": "'2030-01-01T00:00:00Z'",
    "created_utc": "created_utc + interval '1 s'",
    "updated_utc": "updated_utc + interval '1 s'",
    "is_active": "NOT is_active",
}
"""Another value for each column that comes from the API."""


@pytest.fixture
async def mirrored(database_url: str) -> AsyncIterator[Mirrored]:
    """A mirror that is equal, and its codes."""
    mirror = Mirror(database_url)
    mirror.add_voucher("Winter")
    codes = mirror.add_codes(mirror.add_voucher("Summer"), ["A", "B", "C"])
    async with mirror.opened():
        await mirror.once()
        assert await mirror.compare() == Comparison(equal=3, differing=0, only_here=0, only_there=0)
        yield mirror, codes


@pytest.mark.parametrize("column", OTHERS)
async def test_a_row_that_differs_in_any_column(mirrored: Mirrored, column: str) -> None:
    mirror, codes = mirrored
    await mirror.execute(f"UPDATE mews.voucher_codes SET {column} = {OTHERS[column]} WHERE id = :id", id=codes[0].id)
    comparison = await mirror.compare()
    assert comparison == Comparison(equal=2, differing=1, only_here=0, only_there=0)
    assert not comparison.is_equal
    assert str(comparison) == "2 rows equal, 1 differing, 0 only in the mirror, 0 only in the simulator"


async def test_a_null_where_there_is_a_value(mirrored: Mirrored) -> None:
    mirror, codes = mirrored
    await mirror.execute("UPDATE mews.voucher_codes SET value = NULL WHERE id = :id", id=codes[0].id)
    assert await mirror.compare() == Comparison(equal=2, differing=1, only_here=0, only_there=0)


async def test_a_row_that_is_missing_here(mirrored: Mirrored) -> None:
    mirror, codes = mirrored
    await mirror.execute("DELETE FROM mews.voucher_codes WHERE id = :id", id=codes[0].id)
    comparison = await mirror.compare()
    assert comparison == Comparison(equal=2, differing=0, only_here=0, only_there=1)
    assert not comparison.is_equal


async def test_a_row_that_is_only_here(mirrored: Mirrored) -> None:
    mirror, codes = mirrored
    mirror.world.hard_delete_code(codes[0].id)
    comparison = await mirror.compare()
    assert comparison == Comparison(equal=2, differing=0, only_here=1, only_there=0)
    assert not comparison.is_equal


async def test_all_at_once(mirrored: Mirrored) -> None:
    mirror, codes = mirrored
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'a' WHERE id = :id", id=codes[0].id)
    mirror.world.hard_delete_code(codes[1].id)
    mirror.add_codes(mirror.add_voucher("Spring"), ["D"], days_old=0)
    assert await mirror.compare() == Comparison(equal=1, differing=1, only_here=1, only_there=1)


async def test_it_is_equal_again_once_the_change_is_pulled(mirrored: Mirrored) -> None:
    mirror, codes = mirrored
    mirror.world.delete_code(codes[0].id)
    mirror.clock.advance(timedelta(minutes=1))
    assert not (await mirror.compare()).is_equal
    await mirror.once()
    comparison = await mirror.compare()
    assert comparison.is_equal
    assert str(comparison) == "3 rows, all equal"
