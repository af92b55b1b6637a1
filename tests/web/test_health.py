"""Alive is who begins jobs; ready is who has its database, and whose pulls get on."""

from typing import Any

import pytest

from sync.core.api_errors import Unauthorized
from sync.demo.simulator import Operation, Status
from sync.mirror.pull import READERS
from sync.service import app, progress
from sync.service.jobs import Jobs
from sync.service.progress import Progress
from sync.web.health import check_progress
from tests.support.mirror import Mirror
from tests.support.proxy import Proxy
from tests.web.helpers import serving


async def test_alive_is_a_daemon_whose_jobs_are_begun(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEAST_STILL_S", 0.0)
    async with serving(mirror) as site:
        alive = await site.get("/healthz")
    async with serving(mirror, sync_push_poll_s=1e-9) as site:
        stuck = await site.get("/healthz")
    assert (alive.status, alive.json()) == (200, {"status": "alive"})
    assert (stuck.status, stuck.json()["status"]) == (503, "stuck")


@pytest.mark.long
async def test_alive_is_a_daemon_whose_database_hangs(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEAST_STILL_S", 0.0)
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        async with mirror.opened(), serving(mirror, sync_push_poll_s=1e-9) as site:
            proxy.is_down = True
            proxy.cut()
            alive = await site.get("/healthz")
    assert (alive.status, alive.json()) == (200, {"status": "alive", "detail": "jobs wait for the database"})


@pytest.mark.long
async def test_ready_is_a_daemon_that_has_pulled(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with serving(mirror) as site:
        before = await site.get("/readyz")
        await site.jobs.discover()
        await site.jobs.pull_turn()
        after = await site.get("/readyz")
    assert (before.status, after.status) == (503, 200)
    assert before.json()["checks"][1]["detail"].endswith("default: no pull has read anything yet")
    assert {one["name"]: one["is_ok"] for one in after.json()["checks"]} == {"database": True, "progress": True}


@pytest.mark.long
async def test_each_page_of_a_first_backfill_counts_as_getting_on(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(days_old=3000), ["A"])
    found = []

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is Operation.GET_CODES and len(mirror.requests()) > READERS:
            found.append((await site.get("/readyz")).status)

    async with serving(mirror) as site:
        await site.jobs.discover()
        mirror.simulator.on_request = on_request
        await site.jobs.pull_turn()
    assert set(found) == {200}


async def test_a_turn_that_is_over_before_anything_was_read_is_no_progress(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with serving(mirror) as site:
        await site.jobs.discover()
        report = await site.jobs.pull_turn(turn_s=0)
        answer = await site.get("/readyz")
    assert report is not None
    assert (report.left_over, report.pages, answer.status) == (True, 0, 503)


@pytest.mark.long
async def test_a_pull_that_fails_is_the_reason_and_no_progress(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with serving(mirror) as site:
        await site.jobs.discover()
        mirror.simulator.faults.script(Operation.GET_CODES, Status(401))
        await site.jobs.pull_turn()
        answer = await site.get("/readyz")
    assert answer.status == 503
    assert "401" in answer.json()["checks"][1]["detail"]


async def test_one_connection_of_several_that_fails_turns_nothing_red(mirror: Mirror) -> None:
    well, failing = jobs_of(mirror), jobs_of(mirror)
    await well.pull_turn()
    await failing.health.note("pull", Unauthorized("voucherCodes/getAll", "the token was revoked"))
    both, alone = check_progress([well, failing], 30), check_progress([failing], 30)
    assert (both.is_ok, alone.is_ok) == (True, False)
    assert both.detail.startswith("1 of 2 connections read nothing within 30 s; default: ")
    assert both.detail.endswith("default: voucherCodes/getAll: not authorised")  # the API's words may quote a code


async def test_what_was_read_too_long_ago_is_no_progress(mirror: Mirror) -> None:
    jobs, now_s = jobs_of(mirror), 1000.0
    jobs.progress = Progress(lambda: now_s)
    await jobs.pull_turn()
    now_s += 180
    assert check_progress([jobs], 180).is_ok
    now_s += 1
    late = check_progress([jobs], 180)
    assert (late.is_ok, late.detail.endswith("the last page was read 181 s ago")) == (False, True)


async def test_not_ready_is_who_stops(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await site.jobs.pull_turn()
        assert (await site.get("/readyz")).status == 200
        mirror.stop.set()
        answer = await site.get("/readyz")
    assert (answer.status, answer.json()["checks"][0]["detail"]) == (503, "it is stopping")


async def test_a_database_at_another_revision_is_told(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await site.jobs.pull_turn()
        await mirror.execute("UPDATE sync.alembic_version SET version_num = '0001'")
        answer = await site.get("/readyz")
    assert answer.status == 503
    assert "run `voucher-sync migrate`" in answer.json()["checks"][0]["detail"]


async def test_a_database_that_a_newer_release_has_migrated_is_worked_on(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await site.jobs.pull_turn()
        await mirror.execute("UPDATE sync.alembic_version SET version_num = '9999'")
        assert (await site.get("/readyz")).status == 200


def jobs_of(mirror: Mirror) -> Jobs:
    """The jobs of a connection to the mirror."""
    return app.make_jobs(mirror.connection, mirror.settings())
