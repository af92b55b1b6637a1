"""A backfill of hours is read in turns: each ends between two pages, and what is new goes first in the next."""

import asyncio
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from sync.demo.simulator import Operation, RequestRecord, Voucher
from sync.mirror import read_window
from tests.support.flows import honest, ids, interval, later, mirrored, numbered, open_windows, turn, watch, watermarks
from tests.support.mirror import Mirror


async def years_of_codes(mirror: Mirror) -> None:
    """Two vouchers with codes in each window, in one of them more than two pages; discovered and not read yet."""
    voucher, other = mirror.add_voucher(days_old=900), mirror.add_voucher("Winter", days_old=700)
    for age in range(5, 700, 30):
        mirror.add_codes(voucher, numbered(3, f"{age}"), days_old=age)
        mirror.add_codes(other, numbered(3, f"W{age}"), days_old=age)
    mirror.add_codes(voucher, numbered(2200), days_old=450)
    await mirror.discover()


@pytest.mark.long
async def test_a_turn_that_is_over_ends_between_two_pages(mirror: Mirror) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(2500))
    await mirror.discover()
    report = await mirror.pull(is_turn_over=turn(mirror, 2))
    assert (report.left_over, report.pages, report.written) == (True, 2, 2000)
    assert (report.caught_up, report.errors, report.stopped, report.windows_done) == (None, [], False, 0)
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.discover()
    report = await mirror.pull(is_turn_over=turn(mirror, 2))
    # What is new meanwhile, the last page, and what is new since.
    assert (report.pages, report.windows_done) == (3, 3)
    assert await mirrored(mirror) == {code.id for code in codes}


@pytest.mark.parametrize("news", [0, 1, 1500])
@pytest.mark.parametrize("is_left_open", [False, True])
async def test_what_is_new_is_read_to_its_end_whatever_the_turn(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, news: int, is_left_open: bool
) -> None:
    """The overlap alone takes longer than a turn. Cut by it, each turn would begin anew, or leave one more window."""
    voucher = mirror.add_voucher()
    mirror.world.add_codes(voucher.id, numbered(2500))
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.once()
    mirror.world.add_codes(voucher.id, numbered(news, "NEWS"))
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.discover()
    if is_left_open:
        with monkeypatch.context() as patch:
            patch.setattr(read_window, "MAX_PAGES_BEYOND", 0)
            assert (await mirror.pull(is_turn_over=turn(mirror, 1))).left_over
        assert await open_windows(mirror)
        mirror.clock.advance(timedelta(seconds=2))
        await mirror.discover()
    report = await mirror.pull(is_turn_over=turn(mirror, 1))
    assert report.caught_up
    assert (report.left_over, await open_windows(mirror)) == (False, {})
    assert (await mirror.compare()).is_equal


async def test_a_turn_without_time_reads_nothing_and_says_so(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    report = await mirror.pull(is_turn_over=lambda: True)
    assert (report.left_over, report.pages, report.caught_up) == (True, 0, None)
    assert mirror.requests() == []


@pytest.mark.long
async def test_readers_stop_within_the_page_in_flight(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    await mirror.pull(is_turn_over=turn(mirror, 1))
    assert len(mirror.requests()) <= 8


@pytest.mark.sampled
@pytest.mark.parametrize("requests", [1, 3, 9, 100])
async def test_turns_of_any_length_end_equal(mirror: Mirror, requests: int) -> None:
    await years_of_codes(mirror)
    found = watch(mirror)
    turns = 1
    while (await mirror.pull(is_turn_over=turn(mirror, requests))).left_over:
        turns += 1
        assert turns <= 40
    assert (turns == 1) == (requests == 100)
    assert (found, await honest(mirror)) == ([], [])
    assert (await mirror.compare()).is_equal


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
async def test_turns_of_random_lengths_with_changes_and_new_processes_between_them_end_equal(
    mirror: Mirror, seed: int
) -> None:
    rng = random.Random(seed)
    await years_of_codes(mirror)
    found = watch(mirror)
    vouchers = list(mirror.world.vouchers.values())
    for number in range(6):
        voucher = rng.choice(vouchers)
        mirror.world.add_codes(voucher.id, numbered(rng.choice([1, 30, 1100]), f"TURN{number}"))
        mirror.world.delete_code(rng.choice(list(mirror.world.codes.truth)))
        if rng.random() < 0.3:
            vouchers.append(mirror.add_voucher(f"Found late {number}", days_old=rng.randint(1, 2000)))
        mirror.clock.advance(timedelta(seconds=rng.choice([1, 60, 3000])))
        async with mirror.connected():
            await mirror.discover()
            await mirror.pull(is_turn_over=turn(mirror, rng.randint(1, 6)))
    assert (await later(mirror)).caught_up is not None
    assert (found, await honest(mirror)) == ([], [])
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_what_is_new_in_mirrored_vouchers_is_read_before_a_backfill_goes_on(mirror: Mirror) -> None:
    mirrored_one = mirror.add_voucher(days_old=30)
    mirror.add_codes(mirrored_one, ["A"])
    await mirror.once()
    late = mirror.add_voucher("Found late", days_old=3500)
    await mirror.discover()
    for number in range(3):
        (new,) = mirror.world.add_codes(mirrored_one.id, [f"NEW-{number}"])
        mirror.clock.advance(timedelta(seconds=2))
        await mirror.discover()
        before = len(mirror.requests())
        report = await mirror.pull(is_turn_over=turn(mirror, 1))
        assert report.left_over
        assert ids(mirror.requests()[before]) == {mirrored_one.id}
        assert new.id in await mirrored(mirror)
        assert await open_windows(mirror)
    assert (await watermarks(mirror))[late.id] < (await watermarks(mirror))[mirrored_one.id]


@pytest.mark.long
async def test_windows_read_in_an_earlier_turn_are_not_read_again(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    done: set[object] = set()
    while True:
        before = len(mirror.requests())
        report = await mirror.pull(is_turn_over=turn(mirror, 2))
        records = mirror.requests()[before:]
        if not report.left_over:
            break
        assert done.isdisjoint(map(interval, records))
        done |= {interval(record) for record in records if record.items != 1000}
    assert len(done) >= 8


@pytest.mark.usefixtures("cut_news")
@pytest.mark.parametrize("pool", [2, *(pytest.param(pool, marks=pytest.mark.long) for pool in (5, 16))])
async def test_the_rest_of_what_is_new_is_read_before_a_backfill_goes_on(database_url: str, pool: int) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened(sync_database_pool=pool):
        late = await news_beside_a_backfill(mirror)
        found = watch_for_what_is_missing_before(late, mirror)
        before = len(mirror.requests())
        # Pages 2 and 3 of the window that was left open, and 3 of the next one, which reaches back over all of it.
        await mirror.pull(is_turn_over=turn(mirror, 5))
        assert len(mirror.requests()) == before + 5
        assert [late.id in ids(record) for record in mirror.requests()[before:]] == [False] * 5
        assert (await mirror.compare()).is_equal
        assert await open_windows(mirror)
        await mirror.pull()
        assert (set(found), await open_windows(mirror)) == ({0}, {})


@pytest.mark.long
@pytest.mark.usefixtures("cut_news")
async def test_what_is_new_stands_in_the_mirror_before_a_backfill_asks_for_anything(mirror: Mirror) -> None:
    late = await news_beside_a_backfill(mirror)
    found = watch_for_what_is_missing_before(late, mirror)
    await mirror.pull()
    assert set(found) == {0}


@pytest.mark.long
@pytest.mark.usefixtures("cut_news")
async def test_news_that_the_api_does_not_answer_keeps_a_backfill_back_for_its_head_start_alone(mirror: Mirror) -> None:
    late = await news_beside_a_backfill(mirror)
    mirror.add_codes(late, ["OLD"], days_old=2000)
    is_read = asyncio.Event()

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES and str(late.id) not in body["VoucherIds"]:
            await is_read.wait()

    async def on_answer(record: RequestRecord) -> None:
        if record.operation is Operation.GET_CODES and record.items == 1:
            is_read.set()

    mirror.simulator.on_request, mirror.simulator.on_answer = on_request, on_answer
    report = await mirror.pull(head_start_s=0.01)
    assert report.caught_up
    assert (await mirror.compare()).is_equal


async def news_beside_a_backfill(mirror: Mirror) -> Voucher:
    """2,500 new codes of which the first page was read, one newer still, and a voucher found late, which it returns."""
    voucher = mirror.add_voucher(days_old=30)
    await mirror.once()
    mirror.world.add_codes(voucher.id, numbered(2500))
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.discover()
    await mirror.pull(is_turn_over=turn(mirror, 1))
    late = mirror.add_voucher("Found late", days_old=3000)
    mirror.world.add_codes(voucher.id, ["URGENT"])
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.discover()
    return late


def watch_for_what_is_missing_before(late: Voucher, mirror: Mirror) -> list[int]:
    """Fills with how many codes of the other vouchers are missing in the mirror at each request for this one's."""
    news = {code.id for code in mirror.world.codes.truth.values() if code.voucher_id != late.id}
    found: list[int] = []

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES and str(late.id) in body["VoucherIds"]:
            found.append(len(news - await mirrored(mirror)))

    mirror.simulator.on_request = on_request
    return found
