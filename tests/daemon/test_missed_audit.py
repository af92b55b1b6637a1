"""An audit whose time passed without it is made up for and noted; one that took place is not repeated."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.audit.due import Standing
from sync.core.errors import Unreconciled
from sync.demo.simulator import Status
from sync.service import app
from sync.service.jobs import Jobs
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.proxy import Proxy

AN_HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def mirror(database_url: str) -> AsyncIterator[Mirror]:
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), numbered(20))
    async with mirror.opened():
        await mirror.once()
        yield mirror


def daily(mirror: Mirror, *, ago: timedelta) -> Jobs:
    """The jobs of a daemon that audits every day, the last time so long ago."""
    due = datetime.now(UTC) - ago
    return app.make_jobs(mirror.connection, mirror.settings(sync_audit_cron=f"{due.minute} {due.hour} * * *"))


async def mirrored_since(mirror: Mirror, ago: timedelta) -> None:
    """Lets the mirror be so old."""
    await mirror.execute("UPDATE sync.watermarks SET first_saved_at = now() - :ago", ago=ago)


async def audited(mirror: Mirror, ago: timedelta) -> None:
    """Lets an audit have ended so long ago."""
    await mirror.execute(
        "INSERT INTO sync.audits (connection, owner, alive_until, finished_at) "
        "VALUES ('default', gen_random_uuid(), now() - :ago, now() - :ago)",
        ago=ago,
    )


async def audits(mirror: Mirror) -> list[dict[str, Any]]:
    """What the history tells of audits."""
    return await mirror.rows("SELECT * FROM sync.runs WHERE kind = 'audit' ORDER BY id")


@pytest.mark.long
@pytest.mark.parametrize("last", [None, A_DAY + AN_HOUR])
async def test_an_audit_that_was_missed_is_made_up_for_and_noted(mirror: Mirror, last: timedelta | None) -> None:
    await mirrored_since(mirror, 2 * A_DAY)
    if last:
        await audited(mirror, last)
    jobs = daily(mirror, ago=AN_HOUR)
    await jobs.audit.make_up()
    missed, made_up = await audits(mirror)
    assert "UTC did not begin, since no daemon was running, this connection was paused or the" in missed["error"]
    assert (made_up["error"], made_up["counts"]["codes"]) == (None, 20)
    await jobs.audit.make_up()
    assert len(await audits(mirror)) == 2
    assert jobs.health.errors == []


async def test_one_look_for_all_finds_whose_audit_was_missed_or_left_or_fails(mirror: Mirror) -> None:
    await mirrored_since(mirror, 2 * A_DAY)
    late = daily(mirror, ago=AN_HOUR)
    assert late.audit.is_to_make_up(await standings(late))
    await audited(mirror, timedelta(minutes=50))
    assert not late.audit.is_to_make_up(await standings(late))
    await late.health.note("audit", Unreconciled("of 1 change it is not known"))
    assert late.audit.is_to_make_up(await standings(late))
    await late.health.note("audit", None)
    await mirror.execute(
        "INSERT INTO sync.audits (connection, owner, alive_until) "
        "VALUES ('default', gen_random_uuid(), now() - interval '1 hour')"
    )
    assert late.audit.is_to_make_up(await standings(late))


async def standings(jobs: Jobs) -> Mapping[str, Standing]:
    found = await jobs.audit.look()
    assert found is not None
    return found


async def test_one_that_cannot_begin_is_told_once_however_often_it_is_tried(mirror: Mirror) -> None:
    await mirrored_since(mirror, 2 * A_DAY)
    other = mirror.world.add_enterprise("Hotel B")
    mirror.world.add_token("token-b", name="token-b", enterprise_ids=[other.id])
    async with mirror.connected(mews_access_token="token-b"):
        jobs = daily(mirror, ago=AN_HOUR)
        for _ in range(4):
            await jobs.audit.make_up()
        errors = [row["error"] for row in await audits(mirror)]
    assert ["did not begin" in one for one in errors] == [True, False]
    assert "MEWS_ACCESS_TOKEN is for Hotel B" in errors[1]


async def test_an_audit_at_its_time_is_not_repeated(mirror: Mirror) -> None:
    await mirrored_since(mirror, 2 * A_DAY)
    await audited(mirror, timedelta(minutes=50))
    await daily(mirror, ago=AN_HOUR).audit.make_up()
    assert await audits(mirror) == []


async def test_a_new_mirror_is_audited_when_its_time_first_comes(mirror: Mirror) -> None:
    await mirrored_since(mirror, timedelta(minutes=30))
    await daily(mirror, ago=AN_HOUR).audit.make_up()
    assert await audits(mirror) == []


async def test_before_there_is_anything_to_compare_nothing_is_missed(database_url: str) -> None:
    async with Mirror(database_url).opened() as empty:
        await daily(empty, ago=AN_HOUR).audit.make_up()
        assert await audits(empty) == []


@pytest.mark.long
@pytest.mark.parametrize("is_tried_in_between", [False, True])
async def test_an_audit_whose_minute_the_database_was_away_in_is_made_up_for_and_noted(
    database_url: str, is_tried_in_between: bool
) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        mirror.add_codes(mirror.add_voucher(), numbered(20))
        async with mirror.opened():
            await mirror.once()
            jobs = app.make_jobs(mirror.connection, mirror.settings())
            proxy.is_down = True
            proxy.cut()
            await jobs.audit.begin()
            if is_tried_in_between:
                await jobs.audit.make_up()
            assert jobs.health.is_outage("audit")
            proxy.is_down = False
            await jobs.audit.make_up()
            missed, made_up = await audits(mirror)
            assert ("did not begin" in missed["error"], made_up["error"]) == (True, None)
            assert jobs.health.errors == []
            assert await mirror.rows("SELECT FROM sync.audits WHERE finished_at IS NULL") == []


async def test_a_look_for_missed_audits_is_no_failure_any_more_once_it_finds_none(database_url: str) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        async with mirror.opened():
            jobs = app.make_jobs(mirror.connection, mirror.settings())
            proxy.is_down = True
            proxy.cut()
            await jobs.audit.make_up()
            assert jobs.health.is_outage("audit")
            proxy.is_down = False
            await jobs.audit.make_up()
            assert jobs.health.errors == []


async def test_an_audit_by_hand_at_its_time_is_as_good_and_is_no_failure(mirror: Mirror) -> None:
    await mirrored_since(mirror, 2 * A_DAY)
    await mirror.execute(
        "INSERT INTO sync.audits (connection, owner, alive_until) "
        "VALUES ('default', gen_random_uuid(), now() + interval '5 minutes')"
    )
    jobs = daily(mirror, ago=AN_HOUR)
    await jobs.audit.begin()
    await jobs.audit.make_up()
    assert (await audits(mirror), jobs.health.errors) == ([], [])


@pytest.mark.long
async def test_an_audit_that_the_api_ended_is_gone_on_with_once_it_is_back(mirror: Mirror) -> None:
    jobs = daily(mirror, ago=AN_HOUR)
    mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
    await jobs.audit.begin()
    assert jobs.health.is_outage("audit")
    mirror.simulator.faults.stop()
    await jobs.audit.make_up()
    failed, done = await audits(mirror)
    assert (failed["error"] is not None, done["error"], jobs.health.errors) == (True, None, [])
