"""An error keeps its own window open, an error that concerns everything ends the pull, and the next one goes on."""

import asyncio

import psycopg
import pytest
from aiohttp import web

from sync.core.api_errors import NotFound, ServerError, Unauthorized
from sync.core.errors import DatabaseUnavailable
from sync.core.retry import Backoff
from sync.demo.simulator import Operation, RequestRecord, Status
from sync.mews.client_settings import RetryPolicy
from sync.postgres.urls import libpq_url
from tests.support.flows import (
    at_page,
    fail_where,
    honest,
    interval,
    interval_of,
    later,
    mirrored,
    numbered,
    open_windows,
    pull_later,
    watch,
    watermarks,
)
from tests.support.mirror import Mirror

UNHURRIED = RetryPolicy(max_attempts=3, backoff=Backoff(base_s=0.02, cap_s=0.04))
"""Fewer tries than open the circuit: what the other windows do meanwhile is not this test's luck."""


async def years_of_codes(mirror: Mirror, days_old: int = 1000) -> None:
    """A voucher with codes in each window, discovered and not read yet."""
    voucher = mirror.add_voucher(days_old=days_old)
    for age in range(5, days_old, 30):
        mirror.add_codes(voucher, numbered(5, f"{age}"), days_old=age)
    await mirror.discover()


@pytest.mark.long
async def test_a_500_that_stays_on_one_window_keeps_only_that_one_open(database_url: str) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened(retry_policy=UNHURRIED):
        await years_of_codes(mirror)
        (voucher,) = mirror.world.vouchers.values()
        found = watch(mirror)
        fail_where(mirror, lambda body: interval_of(body)[0] == voucher.created_utc, web.HTTPInternalServerError)
        report = await mirror.pull()
        assert [type(error) for error in report.errors] == [ServerError]
        assert [window[0] for window in await open_windows(mirror)] == [voucher.created_utc]
        assert report.windows_done == report.windows_planned - 1
        assert report.caught_up is None
        assert (await watermarks(mirror))[voucher.id] == voucher.created_utc
        mirror.simulator.on_request = None
        before = len(mirror.requests())
        await mirror.pull()
        assert voucher.created_utc in {interval(record)[0] for record in mirror.requests()[before:]}
        assert ((await mirror.compare()).is_equal, found) == (True, [])
    assert mirror.simulator.violations == []


@pytest.mark.long
@pytest.mark.parametrize(("code", "kind"), [(401, Unauthorized), (404, NotFound)])
async def test_an_error_that_concerns_everything_ends_the_pull_at_once_and_the_next_goes_on(
    mirror: Mirror, code: int, kind: type[Exception]
) -> None:
    await years_of_codes(mirror, days_old=4000)
    mirror.simulator.faults.script(Operation.GET_CODES, *[None] * 3, *[Status(code)] * 500)
    report = await mirror.pull()
    assert {type(error) for error in report.errors} == {kind}
    assert len(mirror.requests()) <= 3 + 8
    before = len(mirror.requests())
    await mirror.pull()
    assert len(mirror.requests()) - before <= 8
    mirror.simulator.faults.stop()
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_revoked_token_ends_the_pull_and_a_renewed_one_goes_on(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    token = next(iter(mirror.world.tokens.values()))
    mirror.world.revoke(token.text)
    assert {type(error) for error in (await mirror.pull()).errors} == {Unauthorized}
    mirror.world.tokens[token.text] = token
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_while_the_api_is_down_nothing_is_lost(database_url: str) -> None:
    mirror = Mirror(database_url)
    async with mirror.served():
        async with mirror.connected():
            await years_of_codes(mirror)
            port = mirror.port
    async with mirror.connected():
        report = await mirror.pull()
        assert report.errors
        (voucher,) = mirror.world.vouchers.values()
        mirror.world.add_codes(voucher.id, ["MEANWHILE"])
        async with mirror.served(port=port):
            await later(mirror)
            assert (await mirror.compare()).is_equal
    assert mirror.simulator.violations == []


@pytest.mark.long
async def test_an_outage_in_the_middle_is_made_up_for(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    mirror.simulator.faults.script(Operation.GET_CODES, *[None] * 5, *[Status(503)] * 200)
    found = watch(mirror)
    report = await mirror.pull()
    assert report.errors
    mirror.simulator.faults.stop()
    while (await pull_later(mirror)).errors:
        assert await honest(mirror) == []
    assert ((await mirror.compare()).is_equal, found) == (True, [])


@pytest.mark.long
async def test_idle_database_connections_that_are_killed_between_two_pages_go_unnoticed(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    killed: list[int] = []

    async def kill(_: RequestRecord) -> None:
        mirror.simulator.on_answer = None
        killed.append(await terminate(mirror, "state = 'idle'"))

    mirror.simulator.on_answer = kill
    await mirror.once()
    (count,) = killed
    assert count > 0
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_database_connection_killed_in_the_middle_of_a_page_is_an_error_and_loses_nothing(
    mirror: Mirror,
) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(2500))
    await mirror.discover()
    async with await psycopg.AsyncConnection.connect(libpq_url(mirror.database_url)) as other:

        async def block_second_page(record: RequestRecord) -> None:
            if record.cursor_in is not None:
                mirror.simulator.on_answer = None
                await other.execute("LOCK TABLE mews.voucher_codes IN EXCLUSIVE MODE")

        mirror.simulator.on_answer = block_second_page
        pull = asyncio.create_task(mirror.pull())
        while not await terminate(mirror, "wait_event_type = 'Lock'"):
            assert not pull.done()
        with pytest.raises(DatabaseUnavailable):
            await pull
        await other.rollback()
    assert await honest(mirror) == []
    assert len(await mirror.rows("SELECT FROM mews.voucher_codes")) == 1000
    (first, *_), before = mirror.requests(), len(mirror.requests())
    await later(mirror)
    again = [record for record in mirror.requests()[before:] if interval(record) == interval(first)]
    assert again[0].cursor_in is not None
    assert ((await mirror.compare()).is_equal, (await mirror.compare()).equal) == (True, len(codes))


async def terminate(mirror: Mirror, condition: str) -> int:
    """Kills the daemon's connections in such a state; how many there were."""
    statement = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND application_name = 'voucher-sync' AND {condition}"
    )
    async with await psycopg.AsyncConnection.connect(libpq_url(mirror.database_url), autocommit=True) as admin:
        cursor = await admin.execute(statement)
        (count,) = await cursor.fetchone() or (0,)
    return int(count)


@pytest.mark.long
async def test_a_pull_that_is_stopped_ends_after_the_pages_in_flight_and_the_next_goes_on(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    at_page(mirror, 4, lambda record: mirror.stop.set())
    report = await mirror.pull()
    assert (report.stopped, report.errors, report.caught_up) == (True, [], None)
    assert len(mirror.requests()) == report.pages
    mirror.stop.clear()
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_window_that_keeps_failing_does_not_keep_back_what_is_new(mirror: Mirror) -> None:
    vouchers = [mirror.add_voucher(f"Voucher {number}", days_old=300) for number in range(3)]
    await mirror.discover()
    oldest = min(voucher.created_utc for voucher in vouchers)
    fail_where(mirror, lambda body: interval_of(body)[0] == oldest, web.HTTPInternalServerError)
    await mirror.pull()
    (new,) = mirror.world.add_codes(vouchers[2].id, ["NEW"])
    for _ in range(3):
        await pull_later(mirror, 60)
    assert new.id in await mirrored(mirror)


@pytest.mark.long
async def test_an_incremental_window_that_keeps_failing_does_not_keep_back_other_vouchers(mirror: Mirror) -> None:
    vouchers = [mirror.add_voucher(f"Voucher {number}") for number in range(3)]
    await mirror.once()
    mirror.world.add_codes(vouchers[0].id, numbered(1500))
    mirror.simulator.faults.script(Operation.GET_CODES, None, *[Status(500)] * 6)
    await pull_later(mirror)
    (poison,) = await open_windows(mirror)
    fail_where(mirror, lambda body: interval_of(body) == poison, web.HTTPInternalServerError)
    (new,) = mirror.world.add_codes(vouchers[2].id, ["NEW"])
    for _ in range(3):
        await pull_later(mirror, 60)
    assert new.id in await mirrored(mirror)
