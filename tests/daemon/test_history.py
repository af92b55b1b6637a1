"""`sync.runs` tells what changed something and what failed, and nothing else is written for it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from sync.demo.simulator import Close, Operation
from sync.service import app
from sync.service.jobs import Jobs
from tests.support.flows import footprint, numbered
from tests.support.mirror import ACCESS_TOKEN, Mirror


@pytest.fixture
async def mirror(database_url: str) -> AsyncIterator[Mirror]:
    async with Mirror(database_url).opened() as opened:
        yield opened


@pytest.fixture
def jobs(mirror: Mirror) -> Jobs:
    return app.make_jobs(mirror.connection, mirror.settings(sync_settle_after_s=1))


async def runs(mirror: Mirror) -> list[dict[str, Any]]:
    return await mirror.rows("SELECT * FROM sync.runs ORDER BY id")


@pytest.mark.long
async def test_a_run_that_wrote_is_noted_and_a_quiet_one_is_not(mirror: Mirror, jobs: Jobs) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(3))
    await jobs.discover()
    await jobs.pull()
    noted = await runs(mirror)
    assert [(run["kind"], run["counts"]["written"], run["error"]) for run in noted] == [
        ("discovery", 3, None),
        ("pull", 3, None),
    ]
    assert all(run["finished_at"] > run["began_at"] for run in noted)
    before = await footprint(mirror)
    await jobs.discover()
    await jobs.pull()
    assert await footprint(mirror) == before


@pytest.mark.long
async def test_a_failure_is_noted_once_and_so_is_its_end(mirror: Mirror, jobs: Jobs) -> None:
    await jobs.discover()
    mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.GET_ENTERPRISES})
    for _ in range(3):
        await jobs.discover()
    mirror.world.permit(ACCESS_TOKEN, Operation)
    await jobs.discover()
    _, failed, recovered = await runs(mirror)
    assert ("not authorised" in failed["error"], recovered["error"]) == (True, None)


@pytest.mark.long
async def test_a_push_and_an_audit_are_noted(mirror: Mirror, jobs: Jobs) -> None:
    voucher = mirror.add_voucher()
    await jobs.discover()
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, 'A')",
        voucher=voucher.id,
    )
    await jobs.outbox.push_all()
    await jobs.audit.begin()
    *_, pushed, audited = await runs(mirror)
    assert (pushed["kind"], pushed["counts"]["done"]) == ("push", 1)
    assert (audited["kind"], audited["counts"]["vouchers"], audited["counts"]["drift"]) == ("audit", 1, 0)


@pytest.mark.long
async def test_a_look_that_reconciled_something_is_noted_and_one_that_found_nothing_to_do_is_not(
    mirror: Mirror, jobs: Jobs
) -> None:
    voucher = mirror.add_voucher()
    await jobs.discover()
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, 'A')",
        voucher=voucher.id,
    )
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    await jobs.outbox.push_all()
    for _ in range(2):
        await jobs.outbox.look_up()
    reconciled = [run for run in await runs(mirror) if run["kind"] == "settle"]
    assert [(run["counts"]["done"], run["error"]) for run in reconciled] == [(1, None)]


async def test_old_runs_are_forgotten(mirror: Mirror, jobs: Jobs) -> None:
    await jobs.discover()
    await jobs.prune()
    assert len(await runs(mirror)) == 1
    await mirror.execute("UPDATE sync.runs SET finished_at = finished_at - :age", age=timedelta(days=31))
    await jobs.prune()
    assert await runs(mirror) == []


AUDITS = """
INSERT INTO sync.audits (connection, owner, alive_until, began_at, finished_at)
SELECT name, gen_random_uuid(), now(), now() - days * interval '1 day', now() - days * interval '1 day'
FROM (VALUES ('default', 200), ('default', 91), ('default', 89), ('default', 1), ('yearly', 400), ('yearly', 300))
     AS ended (name, days)
UNION ALL SELECT 'yearly', gen_random_uuid(), now(), now(), NULL
"""


async def test_audits_of_a_year_do_not_stay_but_for_the_last_of_each_connection(mirror: Mirror, jobs: Jobs) -> None:
    """Each connection has one a day; by the last one it is known when the next is due."""
    await mirror.execute(AUDITS)
    await jobs.prune()
    left = await mirror.rows(
        "SELECT connection, extract(day FROM now() - finished_at)::int AS days FROM sync.audits ORDER BY id"
    )
    assert [(row["connection"], row["days"]) for row in left] == [
        ("default", 89),
        ("default", 1),
        ("yearly", 300),
        ("yearly", None),
    ]
