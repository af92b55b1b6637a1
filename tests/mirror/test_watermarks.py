"""No watermark passes an instant whose codes are missing, whatever goes wrong and in whatever order windows end."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sync.demo.simulator import (
    BAD_DAY,
    Close,
    Fault,
    Operation,
    RequestRecord,
    Slow,
    Status,
    TruncatedBody,
    Voucher,
)
from tests.support.flows import (
    at_page,
    honest,
    interval,
    interval_of,
    later,
    numbered,
    open_windows,
    pull_later,
    turn,
    watch,
    watermarks,
)
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, OVERLAP, Mirror

FAULTS = {fault: 5 * chance for fault, chance in BAD_DAY.items() if not isinstance(fault, Slow)}


async def years_of_codes(mirror: Mirror, *, days_old: int, vouchers: int = 2) -> None:
    """Vouchers with codes all along, in parts more than a page in one window; discovered and not read yet."""
    voucher = mirror.add_voucher(days_old=days_old)
    mirror.add_codes(voucher, numbered(2300), days_old=days_old / 2)
    for number in range(vouchers):
        voucher = mirror.add_voucher(f"Voucher {number}", days_old=days_old - number)
        for age in range(5, days_old - number, 20):
            mirror.add_codes(voucher, numbered(4, f"{number}-{age}"), days_old=age)
    await mirror.discover()


def newest_first(mirror: Mirror, windows: int) -> list[datetime]:
    """Holds each of so many windows back until all newer ones have ended, well or badly; their starts in that order."""
    arrived, ended = set[datetime](), list[datetime]()
    changed = asyncio.Condition()
    then = mirror.simulator.on_answer

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES and len(ended) < windows:
            start = interval_of(body)[0]
            async with changed:
                arrived.add(start)
                changed.notify_all()
                await changed.wait_for(
                    lambda: len(arrived) >= windows and all(one <= start for one in arrived.difference(ended))
                )

    async def on_answer(record: RequestRecord) -> None:
        if then is not None:
            await then(record)
        if record.operation is Operation.GET_CODES and not (record.status == 200 and record.items == 1000):
            async with changed:
                ended.append(interval(record)[0])
                changed.notify_all()

    mirror.simulator.on_request, mirror.simulator.on_answer = on_request, on_answer
    return ended


async def test_a_watermark_that_lies_is_noticed(mirror: Mirror) -> None:
    """The check of these tests, checked."""
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["A"])
    await mirror.once()
    assert await honest(mirror) == []
    await mirror.execute("DELETE FROM mews.voucher_codes")
    assert [str(code.id) in one for one in await honest(mirror)] == [True]
    await mirror.execute("UPDATE sync.watermarks SET complete_through = now() + interval '1 hour'")
    assert len(await honest(mirror)) == 2


async def test_windows_that_end_oldest_first_move_the_watermark_step_by_step(mirror: Mirror) -> None:
    await years_of_codes(mirror, days_old=1200)
    found = watch(mirror)
    report = await mirror.pull()
    assert (report.errors, found, await honest(mirror)) == ([], [], [])
    assert (await mirror.compare()).is_equal


async def test_windows_that_end_newest_first_move_the_watermark_only_at_the_end(mirror: Mirror) -> None:
    await years_of_codes(mirror, days_old=600)
    found = watch(mirror)
    ended = newest_first(mirror, windows=7)
    report = await mirror.pull()
    assert ended[:7] == sorted(ended[:7], reverse=True)
    assert (report.errors, found, await honest(mirror)) == ([], [], [])
    assert (await mirror.compare()).is_equal


async def test_newer_windows_alone_do_not_move_the_watermark(mirror: Mirror) -> None:
    await years_of_codes(mirror, days_old=600, vouchers=0)
    (voucher,) = mirror.world.vouchers.values()
    found = watch(mirror)
    newest_first(mirror, windows=7)
    then = mirror.simulator.on_answer
    assert then is not None

    async def stop_before_the_oldest(record: RequestRecord) -> None:
        await then(record)
        if interval(record)[0] == voucher.created_utc:
            raise RuntimeError("the process ends here")

    mirror.simulator.on_answer = stop_before_the_oldest
    report = await mirror.pull()
    assert len(report.errors) == 1  # the 500 itself, or that the API is down after so many of them
    assert len(await open_windows(mirror)) == 1
    assert (await watermarks(mirror))[voucher.id] == voucher.created_utc
    assert found == []


@pytest.mark.sampled
@pytest.mark.parametrize("is_newest_first", [False, True])
@pytest.mark.parametrize("seed", range(2))
async def test_no_watermark_lies_during_a_backfill_on_a_bad_day(
    mirror: Mirror, seed: int, is_newest_first: bool
) -> None:
    await years_of_codes(mirror, days_old=600)
    mirror.simulator.faults.by_chance(FAULTS, seed=seed, operations=[Operation.GET_CODES])
    found = watch(mirror)
    if is_newest_first:
        newest_first(mirror, windows=7)
    await mirror.pull()
    mirror.simulator.on_request = None
    for _ in range(3):
        await pull_later(mirror)
    mirror.simulator.faults.stop()
    assert (await pull_later(mirror)).errors == []
    assert (found, await honest(mirror)) == ([], [])
    assert (await mirror.compare()).is_equal


@pytest.mark.sampled
@pytest.mark.parametrize("fault", [Status(500), Close(), Close(processed=True), TruncatedBody()], ids=str)
async def test_a_fault_that_stays_on_the_last_page_keeps_the_watermark_back(mirror: Mirror, fault: Fault) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    through = (await watermarks(mirror))[voucher.id]
    mirror.world.add_codes(voucher.id, numbered(1500, "NEW"))
    mirror.simulator.faults.script(Operation.GET_CODES, None, *[fault] * 20)
    found = watch(mirror)
    report = await pull_later(mirror)
    assert (len(report.errors), report.written) == (1, 1000)
    assert (await watermarks(mirror))[voucher.id] == through
    mirror.simulator.faults.stop()
    await pull_later(mirror)
    assert (found, (await mirror.compare()).is_equal) == ([], True)


@pytest.mark.long
async def test_a_code_changed_while_its_page_travels_is_not_behind_the_watermark(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    codes = mirror.add_codes(voucher, numbered(100))
    await mirror.discover()

    def change(_: RequestRecord) -> None:
        mirror.world.delete_code(codes[0].id)
        mirror.world.add_codes(voucher.id, ["NEW"])

    at_page(mirror, 1, change)
    found = watch(mirror)
    await mirror.pull()
    assert (found, await honest(mirror)) == ([], [])
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.sampled
@pytest.mark.parametrize("hidden_s", [1, 60, OVERLAP.total_seconds() - 5])
async def test_writes_that_show_late_but_within_the_overlap_are_not_lost(mirror: Mirror, hidden_s: float) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.simulator.behaviour.hide_writes_for_s = hidden_s
    await add_by_api(mirror, voucher, numbered(5, "LATE"))
    found = watch(mirror, slack=OVERLAP)
    for step in range(5):
        mirror.world.add_codes(voucher.id, [f"IN TIME {step}"])  # moves the watermark
        await later(mirror, 1 + hidden_s / 4)
    await later(mirror)
    assert found == []
    assert (await mirror.compare()).is_equal


async def add_by_api(mirror: Mirror, voucher: Voucher, values: list[str]) -> None:
    """Codes that another client of the API adds."""
    body = {"ClientToken": CLIENT_TOKEN, "AccessToken": ACCESS_TOKEN, "Client": "another"}
    codes = [{"VoucherId": str(voucher.id), "Value": value} for value in values]
    async with httpx.AsyncClient(base_url=mirror.address) as client:
        answer = await client.post("/api/connector/v1/voucherCodes/add", json={**body, "VoucherCodeParameters": codes})
    assert answer.status_code == 200


@pytest.mark.long
@pytest.mark.usefixtures("cut_news")
async def test_a_window_that_was_left_open_for_half_a_year_is_read_with_all_that_came_since(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await later(mirror)
    mirror.world.add_codes(voucher.id, numbered(1100))
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.discover()
    assert (await mirror.pull(is_turn_over=turn(mirror, 1))).left_over
    mirror.clock.advance(timedelta(days=180))
    mirror.world.add_codes(voucher.id, ["NEW"])
    await later(mirror)
    assert (await mirror.compare()).is_equal
    assert await open_windows(mirror) == {}
