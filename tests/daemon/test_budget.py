"""The budget of a token over all its processes, as the simulated API counts it: kills, restarts, two at a time."""

import asyncio
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sync.demo.simulator import Operation, RateLimit, RequestRecord
from sync.mews.limits import MIN_PAGE_SIZE
from tests.support.daemon import running
from tests.support.flows import fail_where
from tests.support.loaded import run, start
from tests.support.mirror import Mirror
from tests.support.process import end

YEARS = timedelta(days=4 * 365)
QUICK = {"SYNC_LEASE_S": "1", "SYNC_REQUEST_TIMEOUT_S": "2", "SYNC_SETTLE_AFTER_S": "1"}


def hotel(database_url: str, limit: RateLimit, *, page: int, codes: int = 40) -> Mirror:
    """A hotel whose past takes many calls: `codes` a voucher and month, and no larger `page` is made of them."""
    mirror = Mirror(database_url, rate_limit=limit, latency_s=0.01)
    vouchers = [mirror.add_voucher(f"Voucher {n}", days_old=YEARS.days) for n in range(5)]
    for days_old in range(1, YEARS.days, 30):
        for voucher in vouchers:
            mirror.add_codes(voucher, [f"{voucher.name}-{days_old}-{n}" for n in range(codes)], days_old=days_old)
    fail_where(mirror, lambda body: body["Limitation"]["Count"] > page, web.HTTPRequestTimeout)
    return mirror


def budget(limit: RateLimit) -> dict[str, str]:
    """The settings of a process that knows the limit."""
    return {"SYNC_RATE_LIMIT_REQUESTS": str(limit.requests), "SYNC_RATE_LIMIT_WINDOW_S": str(limit.window_s), **QUICK}


async def run_and_kill(mirror: Mirror, settings: dict[str, str], directory: Path, calls: int) -> int:
    """Runs `once` and kills it when so many calls have arrived; its exit code."""
    process = await start("once", settings=settings, directory=directory)
    answers = mirror.simulator.on_request
    assert answers

    async def count_down(operation: Operation, body: Any) -> None:
        nonlocal calls
        calls -= 1
        if calls == 0:
            process.kill()
        await answers(operation, body)

    mirror.simulator.on_request = count_down
    ended = await end(process)
    mirror.simulator.on_request = answers
    return ended.code


async def kill_again_and_again(mirror: Mirror, limit: RateLimit, directory: Path, *, starts: int, calls: int) -> None:
    """Kills a backfill in the middle of about so many calls, `starts` times, and lets another one end it."""
    rng = random.Random(1)
    async with mirror.opened():
        settings = {**mirror.environment, **budget(limit)}
        for _ in range(starts):
            assert await run_and_kill(mirror, settings, directory, calls + rng.randint(-2, 2)) == -9
        ended = await run("once", settings=settings, directory=directory)
        assert ended.code == 0, ended.stderr
        assert (await mirror.compare()).is_equal
        assert len(mirror.simulator.requests) > limit.requests
        assert mirror.simulator.violations == []


@pytest.mark.long
async def test_a_backfill_that_is_killed_three_times_stays_within_the_budget(database_url: str, tmp_path: Path) -> None:
    limit = RateLimit(30, 5.0)
    await kill_again_and_again(hotel(database_url, limit, page=500), limit, tmp_path, starts=3, calls=12)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_backfill_that_is_killed_twelve_times_stays_within_the_budget(
    database_url: str, tmp_path: Path
) -> None:
    limit = RateLimit(100, 30.0)
    await kill_again_and_again(
        hotel(database_url, limit, page=MIN_PAGE_SIZE, codes=100), limit, tmp_path, starts=12, calls=12
    )


@pytest.mark.long
async def test_a_cycle_beside_a_daemon_stays_within_the_budget_of_both(database_url: str, tmp_path: Path) -> None:
    limit = RateLimit(30, 3.0)
    mirror = hotel(database_url, limit, page=500)
    async with mirror.opened():
        is_busy = asyncio.Event()

        async def on_answer(_record: RequestRecord) -> None:
            if len(mirror.simulator.requests) > limit.requests:
                is_busy.set()

        mirror.simulator.on_answer = on_answer
        settings = budget(limit)
        async with running(mirror, tmp_path, **settings):
            await is_busy.wait()
            ended = await run("once", settings={**mirror.environment, **settings}, directory=tmp_path)
        assert ended.code == 0, ended.stderr
        assert (await mirror.compare()).is_equal
        assert mirror.simulator.violations == []


@pytest.mark.long
async def test_one_cycle_after_another_stays_within_the_budget(database_url: str, tmp_path: Path) -> None:
    limit = RateLimit(60, 6.0)
    mirror = hotel(database_url, limit, page=500)
    async with mirror.opened():
        settings = {**mirror.environment, **budget(limit)}
        for _ in range(2):
            ended = await run("once", settings=settings, directory=tmp_path)
            assert ended.code == 0, ended.stderr
            mirror.add_codes(mirror.add_voucher(days_old=YEARS.days), ["ANOTHER"])
        assert mirror.simulator.violations == []
