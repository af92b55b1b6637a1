"""`voucher-sync status`: for people, for scripts, and for whoever restarts the daemon."""

import json
import re
from datetime import datetime

import psycopg
import pytest

from sync.service import app
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.postgres import database_of

from .conftest import Cli


@pytest.mark.long
async def test_nothing_yet(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    text = await cli("status", settings=settings)
    assert (text.code, text.stderr) == (0, "")
    told, database = text.stdout.split("\n", 1)
    assert told == "Nothing has been mirrored yet: start `voucher-sync run`, or `voucher-sync once`."
    assert " ".join(database.split()).startswith(f"The database is {database_of(database_url)} at ")
    assert json.loads((await cli("status", "--json", settings=settings)).stdout) == []
    assert (await cli("status", "--healthy", settings=settings)).code == 1


@pytest.mark.long
async def test_after_a_cycle(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
    settings = {"DATABASE_URL": mirror.database_url}
    text = await cli("status", settings=settings)
    assert (text.code, text.stderr) == (0, "")
    told = rows_of(text.stdout)
    assert told["state"].startswith("ok since 20")
    assert (told["vouchers"], told["codes"], told["open windows"], told["rejected records"]) == ("1", "3", "0", "0")
    assert " UTC by the API's clock: every change" in told["complete through"]
    assert re.fullmatch(r"in \d.*, by a daemon", told["next audit"])  # though none is at work

    as_json = await cli("status", "--json", settings=settings)
    (one,) = json.loads(as_json.stdout)
    assert as_json.code == 0
    assert (one["name"], one["state"], one["error"]) == ("default", "ok", None)
    assert (one["vouchers"], one["voucher_codes"], one["open_windows"]) == (1, 3, 0)
    assert one["complete_through"].startswith("20")
    checked = (await cli("check", settings=settings)).stdout
    assert f"the next begins on {datetime.fromisoformat(one['next_audit_at']):%A, %Y-%m-%dT%H:%MZ}" in checked


@pytest.mark.long
async def test_a_first_backfill_is_told_until_it_has_reached_the_present(cli: Cli, database_url: str) -> None:
    mirror = Mirror(database_url)

    async def told() -> str:
        ended = await cli("status", settings={"DATABASE_URL": database_url, "COLUMNS": "160"})
        assert (ended.code, ended.stderr) == (0, "")
        return ended.stdout

    async with mirror.opened():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        await jobs.discover()
        assert "No voucher is known yet" in await told()
        mirror.add_codes(mirror.add_voucher(days_old=400), ["A"])
        await jobs.discover()
        shown = await told()
        assert "Working on the first backfill" in shown
        assert "no window is open: not begun, or just about to end; not all codes are here yet" in shown
        await jobs.pull_turn(turn_s=-1)
        assert "5 of 5 windows are left to read; not all codes are here yet" in await told()
        await jobs.pull()
        await mirror.beat(jobs)
        shown = await told()
        assert ("first backfill" in shown, "ok since 20" in shown) == (False, True)


def rows_of(shown: str) -> dict[str, str]:
    """What stands beside each label."""
    return {line[:18].strip(): line[18:] for line in shown.splitlines() if line[:1].isalpha() and line[16:18] == "  "}


@pytest.mark.long
@pytest.mark.parametrize("is_told", [False, True])
async def test_what_is_mirrored_is_told_of_a_cycle_that_never_ended_too(
    cli: Cli, mirror: Mirror, is_told: bool
) -> None:
    async with mirror.opened():
        # As a cycle of an earlier release that was killed leaves it, or one that ended in an outage.
        await mirror.once()
        told = "UPDATE sync.connections SET state = 'failing', error = 'the API is away'"
        await mirror.execute(told if is_told else "DELETE FROM sync.connections")
    settings = {"DATABASE_URL": mirror.database_url}
    text = await cli("status", settings=settings)
    assert "Nothing has been mirrored" not in text.stdout
    assert ("Never finished a run" in text.stdout, "failing since" in text.stdout) == (not is_told, is_told)
    assert "none has caught up yet" in text.stdout
    (one,) = json.loads((await cli("status", "--json", settings=settings)).stdout)
    assert (one["name"], one["voucher_codes"], one["caught_up_age_s"]) == ("default", 3, None)
    assert one["state"] == ("failing" if is_told else "unknown")


@pytest.mark.long
async def test_a_cycle_that_found_nothing_new_counts_as_the_last_pull(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        for _ in range(2):
            assert (await cli("once", settings=mirror.environment)).code == 0
            text = await cli("status", settings={"DATABASE_URL": mirror.database_url})
            assert "caught up " in text.stdout
            assert "never seen" in text.stdout


@pytest.mark.long
async def test_what_fails_is_told_with_its_cause(cli: Cli, mirror: Mirror) -> None:
    mirror.world.revoke(ACCESS_TOKEN)
    async with mirror.opened():
        await cli("once", settings=mirror.environment)
    settings = {"DATABASE_URL": mirror.database_url}
    text = await cli("status", settings=settings)
    assert text.code == 1
    assert "failing since" in text.stdout
    assert "not authorised (401)" in text.stdout
    as_json = await cli("status", "--json", settings=settings)
    (one,) = json.loads(as_json.stdout)
    assert (as_json.code, one["state"]) == (1, "failing")
    assert "not authorised (401)" in one["error"]


@pytest.mark.long
async def test_the_last_runs_are_told_with_counts_duration_drift_and_error(cli: Cli, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO sync.connections (name, state) VALUES ('default', 'ok')")
        for kind, counts, error in (
            *(("pull", {"written": number, "rejected": 0}, None) for number in range(9)),
            ("push", {"done": 1200}, "voucherCodes/add: the connection was lost"),
            ("audit", {"codes": 3, "drift": 0}, None),
        ):
            connection.execute(
                "INSERT INTO sync.runs (connection, kind, began_at, counts, error) "
                "VALUES ('default', %s, clock_timestamp() - interval '75 s', %s, %s)",
                [kind, json.dumps(counts), error],
            )
    settings = {"DATABASE_URL": database_url}
    _, _, told = (await cli("status", settings=settings)).stdout.partition("the newest first:\n")
    audit, push, rest, pull, *others = told.splitlines()
    assert audit.endswith(" UTC  audit: codes 3, drift 0; 75.0 s")
    assert f"{push} {rest.strip()}".endswith(
        " UTC  push: done 1,200; 75.0 s; FAILED: voucherCodes/add: the connection was lost"
    )
    assert (pull.endswith(" UTC  pull: written 8; 75.0 s"), len(others)) == (True, 7)
    (one,) = json.loads((await cli("status", "--json", settings=settings)).stdout)
    audited, pushed, *_ = one["last_runs"]
    assert (audited["kind"], audited["counts"], audited["error"]) == ("audit", {"codes": 3, "drift": 0}, None)
    assert (round(audited["lasted_s"]), pushed["error"]) == (75, "voucherCodes/add: the connection was lost")
    assert audited["began_at"] < audited["finished_at"]
    assert len(one["last_runs"]) == 10


@pytest.mark.long
async def test_changes_that_no_connection_knows_yet_are_counted(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
    settings = {"DATABASE_URL": mirror.database_url}
    with psycopg.connect(mirror.database_url) as connection:
        connection.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', gen_random_uuid())"
        )
    (one,) = json.loads((await cli("status", "--json", settings=settings)).stdout)
    assert one["outbox"] == {"pending": 1}


async def test_of_what_is_paused_nobody_is_said_to_work_for_it(cli: Cli, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO sync.connections (name, state, heartbeat_at, paused_at) VALUES ('lake', 'ok', now(), now())"
        )
    told = rows_of((await cli("status", settings={"DATABASE_URL": database_url})).stdout)
    assert (told["daemon"], told["next audit"]) == ("none while it is paused", "none while it is paused")


@pytest.mark.parametrize(("silent_s", "code"), [("500", 0), ("700", 1), ("-500", 0), ("-700", 1), (None, 1)])
async def test_healthy_is_who_was_heard_of_within_a_lease(
    cli: Cli, database_url: str, silent_s: str | None, code: int
) -> None:
    with psycopg.connect(database_url) as connection:
        heartbeat = "now() - %s * interval '1 s'"
        connection.execute(
            f"INSERT INTO sync.connections (name, state, heartbeat_at) VALUES ('default', 'ok', {heartbeat})",
            [silent_s],
        )
    ended = await cli("status", "--healthy", settings={"DATABASE_URL": database_url, "SYNC_LEASE_S": "600"})
    assert (ended.code, ended.stdout, ended.stderr) == (code, "", "")


@pytest.mark.long
@pytest.mark.parametrize("is_paused", [False, True])
async def test_healthy_is_a_daemon_that_lives_where_there_is_nothing_to_work_for(
    cli: Cli, database_url: str, is_paused: bool
) -> None:
    settings = {"DATABASE_URL": database_url}
    with psycopg.connect(database_url) as connection:
        if is_paused:
            connection.execute("INSERT INTO sync.connections (name, state, paused_at) VALUES ('lake', 'ok', now())")
    assert (await cli("status", "--healthy", settings=settings)).code == 1
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO sync.daemons (process, host, pid, version, revision, settings) "
            "VALUES (gen_random_uuid(), 'a', 1, '1', '1', '{\"SYNC_LEASE_S\": 600}')"
        )
    assert (await cli("status", "--healthy", settings=settings)).code == 0


async def test_a_database_that_is_not_there(cli: Cli, unreachable_url: str) -> None:
    ended = await cli("status", settings={"DATABASE_URL": unreachable_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: the database does not answer: ")


async def test_a_database_that_is_not_migrated(cli: Cli, empty_database_url: str) -> None:
    ended = await cli("status", settings={"DATABASE_URL": empty_database_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert "): run `voucher-sync migrate`; if that finds nothing to do, put back what was dropped" in ended.stderr


async def test_strict_is_not_content_with_a_database_in_which_nothing_is_and_nobody_works(
    cli: Cli, database_url: str
) -> None:
    codes = [
        (await cli("status", *words, settings={"DATABASE_URL": database_url})).code
        for words in ((), ("--strict",), ("--strict", "--json"))
    ]
    assert codes == [0, 3, 3]


@pytest.mark.long
async def test_strict_tells_scripts_that_somebody_is_needed(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
    settings = {"DATABASE_URL": mirror.database_url}
    assert (await cli("status", "--strict", settings=settings)).code == 0
    with psycopg.connect(mirror.database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id, status, held_because, connection, "
            "next_attempt_at) VALUES ('delete', gen_random_uuid(), 'held', 'too_many_deletes', 'default', now())"
        )
    ended = await cli("status", "--strict", settings=settings)
    assert (ended.code, "1 change held until somebody looks" in ended.stdout) == (3, True)
    assert "voucher-sync outbox list --status held" in ended.stdout
    assert (await cli("status", settings=settings)).code == 0
    (one,) = json.loads((await cli("status", "--json", settings=settings)).stdout)
    assert (one["verdict"]["level"], one["held_for"][0]["count"]) == ("attention", 1)


@pytest.mark.long
async def test_of_several_each_has_a_line_and_one_can_be_named(cli: Cli, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO sync.connections (name, state, error, heartbeat_at, caught_up_as_of) VALUES "
            "('a', 'ok', NULL, now(), now()), ('b', 'failing', 'the API failed', now(), now())"
        )
    settings = {"DATABASE_URL": database_url, "SYNC_LEASE_S": "600"}
    ended = await cli("status", settings=settings)
    assert ended.code == 1
    assert "1 of 2 connections: degraded" in ended.stdout
    assert [line.split()[:2] for line in ended.stdout.splitlines() if line[:2] in {"a ", "b "}] == [
        ["b", "degraded"],
        ["a", "working"],
    ]
    assert (await cli("status", "--connection", "a", settings=settings)).code == 0
    unknown = await cli("status", "--connection", "c", settings=settings)
    assert (unknown.code, unknown.stderr) == (
        1,
        "Error: there is no connection 'c': `voucher-sync status` lists them\n",
    )
