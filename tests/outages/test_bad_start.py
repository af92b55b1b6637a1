"""A start in an outage, as any outage, is over seconds after what was away is back: no interval is waited for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random

import pytest
from structlog.testing import capture_logs

from sync.demo.simulator import Operation, Status
from sync.postgres.migrations import migrate
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.jobs import Jobs
from sync.service.schedule import Schedule
from tests.outages.helpers import until
from tests.support.at_work import at_work
from tests.support.flows import numbered
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.proxy import Proxy

SELDOM = Intervals(pull_s=3600, discovery_s=3600, push_poll_s=3600)
"""Within a test nothing runs twice, but what is tried again."""
IS_WELL = "SELECT state = 'ok' FROM sync.connections"


@asynccontextmanager
async def scheduled(mirror: Mirror) -> AsyncIterator[Jobs]:
    """The daemon's jobs, fired by its scheduler."""
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    schedule = Schedule(jobs.audit.cron, Random(1), SELDOM)
    with schedule.running():
        async with at_work(schedule, jobs):
            yield jobs


async def shown(mirror: Mirror, jobs: Jobs, *failing: str) -> None:
    """Waits until the health of the jobs shows that these have failed, or, of none, that all is well."""
    while not (all(map(jobs.health.is_failing, failing)) if failing else not jobs.health.errors):
        with suppress(TimeoutError):
            await asyncio.wait_for(mirror.stop.wait(), 0.01)


async def is_mirrored_and_well(mirror: Mirror) -> None:
    """Waits until every code stands in the mirror, and `status` says that all is well."""
    codes = len(mirror.world.codes.truth)
    await until(mirror, f"(SELECT count(*) FROM mews.voucher_codes) = {codes} AND ({IS_WELL})")
    assert (await mirror.compare()).is_equal


def hotel(database_url: str) -> Mirror:
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), numbered(20))
    return mirror


@pytest.mark.long
async def test_an_api_that_answers_nobody_when_the_daemon_starts_is_mirrored_when_it_comes(database_url: str) -> None:
    mirror = hotel(database_url)
    async with AsyncExitStack() as uptime:
        await uptime.enter_async_context(mirror.served())
        port = mirror.port
        async with mirror.connected():
            await uptime.aclose()
            async with scheduled(mirror) as jobs:
                await shown(mirror, jobs, "discovery", "pull")
                async with mirror.served(port=port):
                    await is_mirrored_and_well(mirror)
                    assert jobs.health.errors == []
                    mirror.stop.set()


@pytest.mark.long
async def test_an_api_that_fails_when_the_daemon_starts_is_mirrored_when_it_works(database_url: str) -> None:
    mirror = hotel(database_url)
    async with mirror.opened():
        mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
        async with scheduled(mirror) as jobs:
            await shown(mirror, jobs, "discovery", "pull")
            mirror.simulator.faults.stop()
            await is_mirrored_and_well(mirror)
            assert jobs.health.errors == []


@pytest.mark.long
async def test_a_token_that_is_refused_at_first_is_tried_again_before_the_next_interval(database_url: str) -> None:
    mirror = hotel(database_url)
    async with mirror.opened():
        token = mirror.world.tokens[ACCESS_TOKEN]
        mirror.world.revoke(ACCESS_TOKEN)
        async with scheduled(mirror) as jobs:
            await shown(mirror, jobs, "discovery")
            mirror.world.tokens[ACCESS_TOKEN] = token
            await is_mirrored_and_well(mirror)


@pytest.mark.long
async def test_a_database_that_is_away_when_the_daemon_starts_is_filled_when_it_comes(database_url: str) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = hotel(proxy.url)
        async with mirror.opened():
            proxy.is_down = True
            async with scheduled(mirror) as jobs:
                await shown(mirror, jobs, "discovery", "pull")
                proxy.is_down = False
                await is_mirrored_and_well(mirror)
                await shown(mirror, jobs)


@pytest.mark.long
async def test_a_database_that_is_not_migrated_yet_is_filled_once_it_is(empty_database_url: str) -> None:
    mirror = hotel(empty_database_url)
    async with mirror.opened(), scheduled(mirror) as jobs:
        await shown(mirror, jobs, "discovery", "pull")
        await asyncio.to_thread(migrate, empty_database_url)
        await is_mirrored_and_well(mirror)


@pytest.mark.long
async def test_a_discovery_that_fails_alone_does_not_keep_what_it_would_find_from_being_mirrored(
    database_url: str,
) -> None:
    mirror = hotel(database_url)
    async with mirror.opened():
        # By then the first pull, of nothing, has gone through.
        mirror.simulator.faults.script(Operation.GET_SERVICES, Status(500), times=7)
        async with scheduled(mirror):
            await is_mirrored_and_well(mirror)


@pytest.mark.long
async def test_the_end_of_an_outage_is_told_whoever_met_it(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(20))
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.discover()
    await jobs.pull()
    mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
    await jobs.audit.begin()
    assert jobs.health.is_failing("audit")
    mirror.simulator.faults.stop()
    with capture_logs() as logs:
        await jobs.pull()
    assert ([line["event"] for line in logs if line["event"] == "recovered"], jobs.health.errors) == (["recovered"], [])
    assert await mirror.rows("SELECT state FROM sync.connections") == [{"state": "ok"}]


@pytest.mark.long
async def test_what_an_audit_found_by_itself_is_not_ended_by_a_pull(mirror: Mirror) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(40))
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.discover()
    await jobs.pull()
    for code in codes[:10]:
        mirror.world.hard_delete_code(code.id)
    await jobs.audit.begin()
    assert jobs.health.is_failing("audit")
    await jobs.pull()
    assert jobs.health.is_failing("audit")


async def test_a_pull_of_nothing_does_not_end_the_outage_that_a_discovery_met(mirror: Mirror) -> None:
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.pull()
    mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
    await jobs.discover()
    await jobs.pull()
    assert await mirror.rows("SELECT state FROM sync.connections") == [{"state": "failing"}]


async def test_what_another_process_has_noted_is_set_right_by_the_next_heartbeat(mirror: Mirror) -> None:
    mirror.add_voucher()
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.discover()
    await jobs.pull()
    # As a `once` with another token leaves it.
    await mirror.execute("UPDATE sync.connections SET state = 'failing', error = 'not authorised (401)'")
    await mirror.beat(jobs)
    assert await mirror.rows("SELECT state, error FROM sync.connections") == [{"state": "ok", "error": None}]


async def test_a_heartbeat_before_the_first_pull_leaves_what_an_earlier_process_saw_fail(mirror: Mirror) -> None:
    await mirror.execute("INSERT INTO sync.connections (name, state, error) VALUES ('default', 'failing', 'so')")
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await mirror.beat(jobs)
    assert await mirror.rows("SELECT state, error FROM sync.connections") == [{"state": "failing", "error": "so"}]
