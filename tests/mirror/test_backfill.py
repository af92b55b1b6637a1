"""A voucher is mirrored from its own beginning, in windows that leave nothing out and read nothing twice."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from sync.demo.simulator import RequestRecord, Voucher
from sync.demo.simulator.instants import later_by_months
from tests.support.flows import (
    Interval,
    add_hotel,
    add_voucher_to,
    at_page,
    footprint,
    ids,
    interval,
    later,
    numbered,
    turn,
    watermarks,
)
from tests.support.mirror import ACCESS_TOKEN, OVERLAP, Mirror

SECOND = timedelta(seconds=1)
ON_FEBRUARY_28 = datetime(2023, 11, 30, 12, 0, 0, tzinfo=UTC)


def voucher_since(mirror: Mirror, created: datetime) -> Voucher:
    return mirror.world.add_voucher(mirror.service.id, "Summer", created_utc=created)


def windows_of(records: list[RequestRecord]) -> list[Interval]:
    """The different intervals of requests, oldest first."""
    return sorted({interval(record) for record in records})


@pytest.mark.long
async def test_a_backfill_covers_everything_from_the_oldest_voucher_to_the_servers_now(mirror: Mirror) -> None:
    oldest = mirror.add_voucher(days_old=1500)
    mirror.add_voucher("Winter", days_old=700)
    await mirror.discover()
    before = mirror.world.now()
    await mirror.pull()
    *backfill, incremental = windows_of(mirror.requests())
    assert backfill[0][0] == oldest.created_utc
    assert before - SECOND <= backfill[-1][1] <= mirror.world.now()
    assert all(older[1] == newer[0] for older, newer in pairwise(backfill))
    assert all(start < end <= later_by_months(start, 3) for start, end in backfill)
    assert incremental[0] == backfill[-1][1] - OVERLAP


@pytest.mark.long
@pytest.mark.parametrize("created", [ON_FEBRUARY_28, datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)])
async def test_codes_on_the_bounds_of_windows_are_read_exactly_once(mirror: Mirror, created: datetime) -> None:
    voucher = voucher_since(mirror, created)
    bounds = [created]
    while (bound := later_by_months(bounds[-1], 3)) < mirror.world.now() - OVERLAP:
        bounds.append(bound)
    instants = {bound + SECOND * step for bound in bounds for step in (-1, 0, 1)} - {created - SECOND}
    for instant in instants:
        mirror.world.add_codes(voucher.id, numbered(3, f"{instant}"), created_utc=instant, updated_utc=instant)
    report = await mirror.once()
    assert set(bounds) <= {interval(record)[0] for record in mirror.requests()}
    assert sum(record.items or 0 for record in mirror.requests()) == report.codes == report.written == 3 * len(instants)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_codes_of_the_voucher_s_first_and_of_the_server_s_last_second_are_mirrored_once(mirror: Mirror) -> None:
    voucher = voucher_since(mirror, mirror.world.now() - timedelta(days=10))
    mirror.world.add_codes(voucher.id, ["first"], created_utc=voucher.created_utc, updated_utc=voucher.created_utc)
    mirror.world.add_codes(voucher.id, ["last"])
    mirror.clock.advance(SECOND)
    first, second = await mirror.once(), await later(mirror)
    assert first.written + second.written == 2
    assert (await mirror.compare()).is_equal


async def test_a_setting_says_where_a_backfill_begins(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=900)
    mirror.add_codes(voucher, ["before"], days_old=500)
    start = mirror.world.now() - timedelta(days=400)
    mirror.world.add_codes(voucher.id, ["first second"], created_utc=start, updated_utc=start)
    await mirror.discover()
    await mirror.pull(backfill_from=start)
    assert min(windows_of(mirror.requests()))[0] == start
    (row,) = await mirror.rows("SELECT value FROM mews.voucher_codes")
    assert row["value"] == "first second"
    (row,) = await mirror.rows("SELECT mirrored_from FROM sync.watermarks")
    assert row["mirrored_from"] == start


async def test_a_setting_before_any_voucher_is_honoured_too(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=30)
    mirror.add_codes(voucher, ["older than its voucher"], days_old=100)
    await mirror.discover()
    await mirror.pull(backfill_from=mirror.world.now() - timedelta(days=200))
    assert (await mirror.compare()).is_equal


async def test_a_voucher_made_this_very_second_is_read_in_no_window_of_equal_ends(mirror: Mirror) -> None:
    mirror.world.add_codes(mirror.world.add_voucher(mirror.service.id, "Now").id, ["A"])
    await mirror.once()
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_voucher_found_late_is_backfilled_from_its_own_beginning(mirror: Mirror) -> None:
    first = mirror.add_voucher(days_old=30)
    mirror.add_codes(first, numbered(5))
    await mirror.once()
    through = (await watermarks(mirror))[first.id]
    late = mirror.add_voucher("Found late", days_old=2000)
    for days_old in (1999, 1000, 100, 1):
        mirror.add_codes(late, [f"{days_old}"], days_old=days_old)
    before = len(mirror.requests())
    await later(mirror)
    assert (await mirror.compare()).is_equal
    assert (await watermarks(mirror))[first.id] >= through
    old = [one for one in mirror.requests()[before:] if interval(one)[0] < through - 2 * OVERLAP]
    assert min(windows_of(old))[0] == late.created_utc
    assert all(ids(record) == {late.id} for record in old)


@pytest.mark.long
async def test_while_a_late_voucher_is_backfilled_its_watermark_stays_back_and_the_others_stay_ahead(
    mirror: Mirror,
) -> None:
    first = mirror.add_voucher(days_old=30)
    mirror.add_codes(first, ["A"])
    await mirror.once()
    through = (await watermarks(mirror))[first.id]
    late = mirror.add_voucher("Found late", days_old=3000)
    mirror.add_codes(late, ["B"], days_old=2)
    await mirror.discover()
    report = await mirror.pull(is_turn_over=turn(mirror, 3))
    assert report.left_over
    marks = await watermarks(mirror)
    assert marks[first.id] >= through
    assert marks[late.id] < mirror.clock() - timedelta(days=1000)


@pytest.mark.long
async def test_access_to_a_hotel_with_old_codes_brings_them_all(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.once()
    hotel, service = add_hotel(mirror, "Hotel B", visible=False)
    for number in range(3):
        voucher = add_voucher_to(mirror, service, f"Old {number}", days_old=1000)
        mirror.add_codes(voucher, numbered(4, f"{number}"), days_old=900 - number)
    await later(mirror)
    mirror.world.grant(ACCESS_TOKEN, hotel.id)
    assert (await later(mirror)).written == 12
    assert (await mirror.compare()).is_equal


async def test_what_changes_while_a_backfill_is_under_way_is_read_at_its_end(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=1000)
    codes = mirror.add_codes(voucher, numbered(20), days_old=500)

    def change(_: RequestRecord) -> None:
        mirror.world.delete_code(codes[0].id)
        mirror.world.add_codes(voucher.id, ["new"])
        mirror.clock.advance(timedelta(hours=2))  # as long as that backfill takes

    at_page(mirror, 3, change)
    await mirror.once()
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_two_pulls_after_each_other_read_no_window_twice(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=1500)
    mirror.add_codes(voucher, numbered(10), days_old=1000)
    await mirror.once()
    before = len(mirror.requests())
    await later(mirror)
    (record,) = mirror.requests()[before:]
    assert interval(record)[0] >= mirror.world.now() - OVERLAP - timedelta(seconds=10)


@pytest.mark.long
async def test_a_backfill_that_finds_no_codes_leaves_only_watermarks(mirror: Mirror) -> None:
    mirror.add_voucher(days_old=1000)
    await mirror.once()
    assert await mirror.rows("SELECT FROM sync.plans") == []
    before = await footprint(mirror)
    await later(mirror)
    assert await footprint(mirror) == before
