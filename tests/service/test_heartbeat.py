"""What a daemon tells of itself and of its connection: that it lives, what fails, and from when to when it did."""

from sync.core.api_errors import NotConnected, Unauthorized
from sync.demo.simulator import Status
from sync.service import app
from sync.service.health import DECISIVE
from sync.service.jobs import Jobs
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.owner import Owner

OUTAGES = "SELECT ended_at IS NULL AS is_open, error FROM sync.outages ORDER BY id"


def jobs_of(mirror: Mirror) -> Jobs:
    return app.make_jobs(mirror.connection, mirror.settings())


async def test_a_daemon_is_told_with_its_settings_and_without_a_secret(mirror: Mirror) -> None:
    owner = Owner(mirror.connection, mirror.settings(sync_pull_interval_s=7))
    for _ in range(2):
        await owner.beat([jobs_of(mirror)])
    (told,) = await mirror.rows(
        "SELECT process, pid, revision, settings, heartbeat_at > started_at AS lives FROM sync.daemons"
    )
    assert (told["process"], told["lives"]) == (mirror.connection.process, True)
    assert told["settings"]["SYNC_PULL_INTERVAL_S"] == 7
    assert {told["settings"][name] for name in ("DATABASE_URL", "MEWS_ACCESS_TOKEN", "MEWS_CLIENT_TOKEN")} == {"set"}
    assert not [secret for secret in (ACCESS_TOKEN, CLIENT_TOKEN, mirror.way) if secret in str(told)]


async def test_what_is_reserved_of_the_budget_bears_the_daemons_name(mirror: Mirror) -> None:
    jobs = jobs_of(mirror)
    await jobs.discover()
    await mirror.beat(jobs)
    (row,) = await mirror.rows("SELECT process FROM sync.reservations JOIN sync.daemons USING (process)")
    assert row["process"] == mirror.connection.process


async def test_an_outage_is_one_row_however_its_cause_changes(mirror: Mirror) -> None:
    health = jobs_of(mirror).health
    await health.note(DECISIVE, None)
    assert await mirror.rows(OUTAGES) == []
    first, second = NotConnected("enterprises/getAll"), Unauthorized("enterprises/getAll", status=401)
    for error in (first, second, second):
        await health.note(DECISIVE, error)
    assert await mirror.rows(OUTAGES) == [{"is_open": True, "error": str(second)}]
    (row,) = await mirror.rows("SELECT state, error_kind FROM sync.connections")
    assert row == {"state": "failing", "error_kind": "Unauthorized"}
    await health.note(DECISIVE, None)
    await health.note(DECISIVE, first)
    assert [row["is_open"] for row in await mirror.rows(OUTAGES)] == [False, True]


async def test_an_outage_that_another_process_met_ends_with_the_next_beat(mirror: Mirror) -> None:
    jobs, other = jobs_of(mirror), jobs_of(mirror)
    await jobs.health.note(DECISIVE, None)
    await other.health.note(DECISIVE, NotConnected("enterprises/getAll"))
    await mirror.beat(jobs)
    assert [row["is_open"] for row in await mirror.rows(OUTAGES)] == [False]
    (row,) = await mirror.rows("SELECT state, error, error_kind FROM sync.connections")
    assert row == {"state": "ok", "error": None, "error_kind": None}


async def test_what_is_old_is_forgotten(mirror: Mirror) -> None:
    jobs = jobs_of(mirror)
    await mirror.beat(jobs)
    for age in (40, 400):
        ago = f"now() - interval '{age} days'"
        await mirror.execute(
            f"INSERT INTO sync.outages (connection, began_at, ended_at, error) VALUES ('default', {ago}, {ago}, 'x')"
        )
        await mirror.execute(
            "INSERT INTO sync.runs (connection, kind, began_at, finished_at, counts) "
            f"VALUES ('default', 'pull', {ago}, {ago}, '{{}}')"
        )
        await mirror.execute(
            "INSERT INTO sync.daemons (process, host, pid, version, revision, settings, heartbeat_at) "
            f"VALUES (gen_random_uuid(), 'h', 1, 'v', 'r', '{{}}', {ago})"
        )
    await jobs.history.prune()
    left = [len(await mirror.rows(f"SELECT FROM sync.{table}")) for table in ("outages", "runs", "daemons")]
    assert left == [1, 0, 1]


async def test_calls_that_fail_are_counted_by_what_went_wrong(mirror: Mirror) -> None:
    jobs = jobs_of(mirror)
    mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
    await jobs.discover()
    mirror.simulator.faults.stop()
    mirror.world.revoke(ACCESS_TOKEN)
    for _ in range(2):
        await jobs.discover()
        await mirror.beat(jobs)
    rows = await mirror.rows("SELECT operation, problem, count, request_id FROM sync.request_failures ORDER BY problem")
    told = {(row["operation"], row["problem"]): row["count"] for row in rows}
    assert told[("enterprises/getAll", "not authorised (401)")] == 2
    assert told[("enterprises/getAll", "the API failed (503)")] >= 1
    assert all(row["request_id"] for row in rows)
