"""Pages run from the newest to the oldest while the world goes on changing; nothing between two of them is lost."""

from collections import Counter
from datetime import timedelta
from itertools import cycle
from uuid import UUID

import pytest

from sync.core.api_errors import InvalidResponse
from sync.demo.simulator import Code, Operation, RawBody, RequestRecord
from tests.support.flows import (
    answer_where,
    at_page,
    interval,
    interval_of,
    later,
    mirrored,
    numbered,
    on_pages,
    open_windows,
    page_of,
    pull_later,
    turn,
    watermarks,
)
from tests.support.mirror import Mirror

OVER_NIGHT = timedelta(hours=8)


async def three_pages(mirror: Mirror) -> list[Code]:
    """A voucher that is discovered and not yet read, with codes that fill two pages and half of a third."""
    codes = mirror.add_codes(mirror.add_voucher(), numbered(2500))
    await mirror.discover()
    return on_pages(codes)


def backfill_requests(mirror: Mirror) -> list[RequestRecord]:
    """The requests of the first window that was read."""
    first = interval(mirror.requests()[0])
    return [record for record in mirror.requests() if interval(record) == first]


@pytest.mark.long
async def test_pages_of_exactly_1000_end_with_an_empty_one(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(2000))
    await mirror.once()
    assert [record.items for record in backfill_requests(mirror)] == [1000, 1000, 0]
    assert (await mirror.compare()).is_equal
    assert await open_windows(mirror) == {}


@pytest.mark.long
async def test_a_full_page_without_a_cursor_is_the_last(mirror: Mirror) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(1000))
    await mirror.discover()
    answer_where(mirror, lambda body: True, lambda: page_of(codes))
    report = await mirror.pull()
    assert (report.errors, report.windows_done, len(mirror.requests())) == ([], 2, 2)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_rows_that_move_off_a_page_not_yet_read_are_mirrored(mirror: Mirror) -> None:
    order = await three_pages(mirror)

    def move(_: RequestRecord) -> None:
        for code in (order[3], order[1500], order[2400]):
            mirror.world.edit_code(code.id, validity_end_utc=mirror.world.now())
        mirror.world.delete_code(order[2300].id)

    at_page(mirror, 1, move)
    assert (await mirror.pull()).errors == []
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_rows_that_come_between_two_pages_are_mirrored(mirror: Mirror) -> None:
    order = await three_pages(mirror)

    def add(_: RequestRecord) -> None:
        mirror.world.add_codes(order[0].voucher_id, numbered(1200, "NEW"))

    at_page(mirror, 2, add)
    assert (await mirror.pull()).errors == []
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_rows_that_vanish_between_two_pages_take_no_other_with_them(mirror: Mirror) -> None:
    order = await three_pages(mirror)
    gone = [*order[990:998], *order[1000:1010], *order[2000:2005]]

    def vanish(_: RequestRecord) -> None:
        for code in gone:
            mirror.world.hard_delete_code(code.id)

    at_page(mirror, 1, vanish)
    report = await mirror.once()
    comparison = await mirror.compare()
    assert (comparison.equal, comparison.differing, comparison.only_there) == (2477, 0, 0)
    assert comparison.only_here == 8  # read before they vanished: for the audit
    assert report.errors == []


@pytest.mark.long
async def test_a_cursor_whose_record_moves_makes_the_pages_start_over_and_end(mirror: Mirror) -> None:
    order = await three_pages(mirror)

    def move(record: RequestRecord) -> None:
        assert record.cursor_out is not None
        mirror.world.delete_code(record.cursor_out)

    at_page(mirror, 1, move)
    report = await mirror.pull()
    assert report.errors == []
    first, second, *_ = backfill_requests(mirror)
    assert (second.cursor_in, second.items, second.cursor_out) == (first.cursor_out, 1000, order[1000].id)
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_cursor_whose_record_vanishes_begins_its_window_anew_and_no_other(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=1000)
    mirror.add_codes(voucher, numbered(2500), days_old=500)
    mirror.add_codes(voucher, numbered(10, "OLD"), days_old=900)
    await mirror.discover()
    vanished: list[UUID] = []

    async def vanish(record: RequestRecord) -> None:
        if record.items == 1000 and record.cursor_out is not None and not vanished:
            vanished.append(record.cursor_out)
            mirror.world.hard_delete_code(record.cursor_out)

    mirror.simulator.on_answer = vanish
    report = await mirror.pull()
    assert report.errors == []
    (refused,) = [record for record in mirror.requests() if record.status == 400]
    assert [refused.cursor_in] == vanished
    first_pages = Counter(interval(record) for record in mirror.requests() if record.cursor_in is None)
    assert first_pages.pop(interval(refused)) == 2
    assert set(first_pages.values()) == {1}
    comparison = await mirror.compare()
    assert (comparison.only_there, comparison.differing, comparison.only_here) == (0, 0, 1)


@pytest.mark.long
async def test_cursors_that_keep_vanishing_end_in_an_error_not_a_loop(mirror: Mirror) -> None:
    await three_pages(mirror)

    async def vanish(record: RequestRecord) -> None:
        if record.cursor_out is not None and record.items == 1000:
            mirror.world.hard_delete_code(record.cursor_out)

    mirror.simulator.on_answer = vanish
    report = await mirror.pull()
    assert [type(error) for error in report.errors] == [InvalidResponse]
    assert len(mirror.requests()) < 60
    mirror.simulator.on_answer = None
    await later(mirror)
    assert (await mirror.compare()).only_there == 0


@pytest.mark.long
async def test_an_interrupted_window_goes_on_from_its_cursor_in_a_new_process(mirror: Mirror) -> None:
    order = await three_pages(mirror)
    at_page(mirror, 2, lambda record: mirror.stop.set())
    report = await mirror.pull()
    assert (report.stopped, report.pages) == (True, 2)
    assert list((await open_windows(mirror)).values()) == [order[1999].id]
    assert await mirrored(mirror) == {code.id for code in order[:2000]}
    mirror.stop.clear()
    mirror.simulator.on_answer = None
    window, before = interval(mirror.requests()[-1]), len(mirror.requests())
    async with mirror.connected():
        report = await mirror.pull()
    (again,) = [record for record in mirror.requests()[before:] if interval(record) == window]
    assert (again.cursor_in, again.items) == (order[1999].id, 500)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_the_watermark_of_an_interrupted_window_waits_for_its_last_page(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    through = (await watermarks(mirror))[voucher.id]
    mirror.world.add_codes(voucher.id, numbered(2500, "NEW"))
    at_page(mirror, 2, lambda record: mirror.stop.set())
    assert (await pull_later(mirror)).stopped
    assert (await watermarks(mirror))[voucher.id] == through
    mirror.stop.clear()
    mirror.simulator.on_answer = None
    await later(mirror)
    assert (await watermarks(mirror))[voucher.id] > through
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_codes_changed_while_a_window_lies_interrupted_are_mirrored(mirror: Mirror) -> None:
    order = await three_pages(mirror)
    await mirror.pull(is_turn_over=turn(mirror, 1))
    for code in (order[0], order[1200], order[2499]):
        mirror.world.delete_code(code.id)
    mirror.clock.advance(OVER_NIGHT)
    await mirror.once()
    assert (await mirror.compare()).is_equal


async def a_year_of_codes(mirror: Mirror) -> list[Code]:
    """A voucher of a year, discovered, with a page of codes that are older than ten months and some in each window."""
    voucher = mirror.add_voucher(days_old=365)
    codes = mirror.add_codes(voucher, numbered(1000), days_old=360)
    for days_old in (200, 100, 5):
        mirror.add_codes(voucher, [f"{days_old}"], days_old=days_old)
    await mirror.discover()
    return on_pages(codes)


@pytest.mark.long
async def test_a_cursor_that_repeats_ends_in_an_error_and_the_other_windows_are_read(mirror: Mirror) -> None:
    codes = await a_year_of_codes(mirror)
    oldest = mirror.world.vouchers[codes[0].voucher_id].created_utc
    answer_where(mirror, lambda body: interval_of(body)[0] == oldest, lambda: page_of(codes, cursor=codes[-1].id))
    report = await mirror.pull()
    assert [type(error) for error in report.errors] == [InvalidResponse]
    assert [window[0] for window in await open_windows(mirror)] == [oldest]
    assert len(mirror.requests()) <= 7
    assert len(await mirrored(mirror)) == 1003
    assert (await watermarks(mirror))[codes[0].voucher_id] == oldest


@pytest.mark.long
async def test_cursors_that_circle_end_in_an_error_and_the_next_pull_goes_on(mirror: Mirror) -> None:
    codes = await a_year_of_codes(mirror)
    oldest = mirror.world.vouchers[codes[0].voucher_id].created_utc
    circle = cycle(code.id for code in codes[-3:])
    answer_where(mirror, lambda body: interval_of(body)[0] == oldest, lambda: page_of(codes, cursor=next(circle)))
    report = await mirror.pull()
    assert [type(error) for error in report.errors] == [InvalidResponse]
    assert len(mirror.requests()) < 60
    assert [window[0] for window in await open_windows(mirror)] == [oldest]
    mirror.simulator.on_request = None
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_the_same_code_on_two_pages_is_written_once(mirror: Mirror) -> None:
    order = await three_pages(mirror)
    mirror.simulator.faults.script(Operation.GET_CODES, RawBody(page_of(order[:1000], cursor=order[499].id)))
    report = await mirror.pull()
    assert (report.codes, report.written) == (3000, 2500)
    assert (await mirror.compare()).is_equal
