"""After a 408, less is asked for: a smaller page, then a shorter window, remembered for that group and no other."""

from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from sync.core.api_errors import RequestTimedOut
from sync.demo.simulator import Operation, Status, Voucher
from tests.support.flows import (
    fail_where,
    footprint,
    ids,
    interval,
    interval_of,
    later,
    mirrored,
    numbered,
    open_windows,
    page_size,
    pull_later,
    turn,
    watch,
    watermarks,
)
from tests.support.mirror import Mirror

TOO_HEAVY = Status(408, "Transaction has timed out")


def too_heavy_over(voucher: Voucher, limit: int) -> Any:
    """Whether a request asks for more than so many codes of a voucher."""

    def is_concerned(body: Mapping[str, Any]) -> bool:
        return body["Limitation"]["Count"] > limit and voucher.id in map(UUID, body["VoucherIds"])

    return is_concerned


async def two_groups(mirror: Mirror) -> tuple[Voucher, Voucher]:
    """A voucher that is mirrored, and one found late that the API reads only 250 codes at a time."""
    light = mirror.add_voucher(days_old=30)
    mirror.add_codes(light, ["LIGHT"])
    await mirror.once()
    heavy = mirror.add_voucher("Heavy", days_old=30)
    mirror.add_codes(heavy, numbered(900))
    fail_where(mirror, too_heavy_over(heavy, 250), web.HTTPRequestTimeout)
    report = await later(mirror)
    assert report.errors == []
    return light, heavy


@pytest.mark.long
async def test_a_408_halves_the_page_and_everything_is_read(mirror: Mirror) -> None:
    _, heavy = await two_groups(mirror)
    asked = [(page_size(one), one.items) for one in mirror.requests() if ids(one) == {heavy.id}]
    assert asked[:6] == [(1000, None), (500, None), (250, 250), (250, 250), (250, 250), (250, 150)]
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_the_smaller_page_is_remembered_by_later_pulls_and_new_processes(mirror: Mirror) -> None:
    light, heavy = await two_groups(mirror)
    mirror.simulator.on_request = None
    for _ in range(2):
        before = len(mirror.requests())
        await later(mirror)
        assert {(*ids(one), page_size(one)) for one in mirror.requests()[before:]} == {
            (light.id, 1000),
            (heavy.id, 250),
        }
    async with mirror.connected():
        before = len(mirror.requests())
        await later(mirror)
        assert {(*ids(one), page_size(one)) for one in mirror.requests()[before:]} == {
            (light.id, 1000),
            (heavy.id, 250),
        }


@pytest.mark.long
async def test_a_quiet_pull_with_a_smaller_page_writes_nothing_either(mirror: Mirror) -> None:
    await two_groups(mirror)
    before = await footprint(mirror)
    await later(mirror)
    assert await footprint(mirror) == before


@pytest.mark.long
async def test_at_the_smallest_page_the_window_is_shortened_and_nothing_falls_between_its_parts(mirror: Mirror) -> None:
    limit = timedelta(days=20)
    voucher = mirror.add_voucher(days_old=80)
    for age in range(1, 80):
        mirror.add_codes(voucher, numbered(3, f"{age}"), days_old=age)

    def is_long(body: Mapping[str, Any]) -> bool:
        start, end = interval_of(body)
        return end - start > limit

    fail_where(mirror, is_long, web.HTTPRequestTimeout)
    found = watch(mirror)
    report = await mirror.once()
    assert (report.errors, found) == ([], [])
    # The last request is the next round's, which looks for what is new once the backfill is over.
    read = sorted({interval(one) for one in mirror.requests()[:-1] if one.status == 200})
    assert read[0][0] == voucher.created_utc
    assert all(older[1] == newer[0] for older, newer in pairwise(read))
    assert all(end - start <= limit for start, end in read)
    assert report.windows_done == report.windows_planned
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_the_shorter_window_is_remembered_by_later_pulls(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=30)
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.clock.advance(timedelta(days=8))
    mirror.simulator.faults.script(Operation.GET_CODES, *[TOO_HEAVY] * 4)
    await later(mirror)
    (row,) = await mirror.rows("SELECT page_size, window_limit FROM sync.watermarks")
    assert (row["page_size"], row["window_limit"] > timedelta(days=4)) == (125, True)
    before = len(mirror.requests())
    mirror.clock.advance(timedelta(days=30))
    mirror.world.add_codes(voucher.id, ["B"])
    async with mirror.connected():
        await later(mirror)
    windows = [interval(one) for one in mirror.requests()[before:]]
    assert len(windows) >= 6
    assert all(end - start <= row["window_limit"] for start, end in windows)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_408_at_the_smallest_is_an_error_of_its_window_alone(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=300)
    for age in range(2, 300, 3):
        mirror.add_codes(voucher, numbered(2, f"{age}"), days_old=age)
    hardest = mirror.add_codes(voucher, ["HARDEST"], days_old=150)[0].updated_utc
    assert hardest is not None
    await mirror.discover()

    def is_concerned(body: Mapping[str, Any]) -> bool:
        start, end = interval_of(body)
        return start <= hardest < end

    fail_where(mirror, is_concerned, web.HTTPRequestTimeout)
    found = watch(mirror)
    for _ in range(2):
        report = await mirror.pull()
        assert [type(error) for error in report.errors] == [RequestTimedOut]
    ((start, end),) = await open_windows(mirror)
    assert start <= hardest < end <= start + timedelta(days=1)
    assert (await watermarks(mirror))[voucher.id] == start
    missing = mirror.world.codes.truth.keys() - await mirrored(mirror)
    assert all(start <= (mirror.world.codes.truth[one].updated_utc or end) < end for one in missing)
    mirror.simulator.on_request = None
    # That window, and what is new where a second has passed meanwhile.
    await mirror.pull(is_turn_over=turn(mirror, 2))
    assert ((await mirror.compare()).is_equal, found) == (True, [])


@pytest.mark.long
async def test_a_408_in_the_middle_of_a_window_loses_no_page(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(3000))
    await mirror.discover()
    mirror.simulator.faults.script(Operation.GET_CODES, None, TOO_HEAVY, None, TOO_HEAVY)
    found = watch(mirror)
    report = await mirror.pull()
    assert (report.errors, found) == ([], [])
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_new_voucher_is_read_at_the_usual_pace(mirror: Mirror) -> None:
    await two_groups(mirror)
    new = mirror.add_voucher("New")
    mirror.add_codes(new, ["NEW"])
    before = len(mirror.requests())
    await pull_later(mirror)
    await later(mirror)
    assert {page_size(one) for one in mirror.requests()[before:] if new.id in ids(one)} == {1000}


@pytest.mark.long
@pytest.mark.parametrize("days", [1, 20])
async def test_windows_too_long_for_the_api_in_a_long_backfill_are_all_shortened(mirror: Mirror, days: int) -> None:
    limit = timedelta(days=days)
    voucher = mirror.add_voucher(days_old=1500)
    for age in range(1, 1500, 10):
        mirror.add_codes(voucher, [f"{age}"], days_old=age)
    await mirror.discover()
    fail_where(mirror, lambda body: interval_of(body)[1] - interval_of(body)[0] > limit, web.HTTPRequestTimeout)
    reports = [await pull_later(mirror) for _ in range(4)]
    assert reports[-1].errors == []
    assert (await mirror.compare()).is_equal
