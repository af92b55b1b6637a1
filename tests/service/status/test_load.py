"""What stands in a database is told as facts: counted up to a bound, grouped by reason, and without codes."""

import json

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mirror.skipped import NOT_LISTED
from sync.postgres.engine import transaction
from sync.service.status import backlog, codes
from sync.service.status.facts import ConnectionStatus, Overview
from sync.service.status.load import load_overview
from sync.service.status.notes import notes_on

from .helpers import VOUCHER, queue


async def load(engine: AsyncEngine) -> Overview:
    async with transaction(engine) as tx:
        return await load_overview(tx)


async def load_one(engine: AsyncEngine) -> ConnectionStatus:
    (one,) = (await load(engine)).connections
    return one


async def test_changes_are_counted_by_status_and_told_by_reason(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    for number in range(3):
        taken = f"The code TAKEN-{number} is taken"
        queue(sql, f"TAKEN-{number}", "failed", error=taken, request_id=f"request-{number}")
    queue(sql, "WAITS", "pending")
    queue(sql, "PUT-OFF", "pending", error="the API failed (503)", due_in=600)
    queue(sql, "NOWHERE", "pending", connection=None)
    queue(sql, "HELD-1", "held", error="held: 300 deletes within 600 s")
    queue(sql, "HELD-2", "held", error="held: 300 deletes within 600 s")
    queue(sql, "LOST", "uncertain", error="no answer within 15 s")
    queue(sql, "TAKEN-BACK", "cancelled")
    one = await load_one(engine)
    assert one.backlog.outbox == {"failed": 3, "pending": 3, "held": 2, "uncertain": 1}
    assert one.backlog.held == {"too_many_deletes": 2}
    assert 3500 < (one.backlog.oldest_waiting_age_s or 0) < 3700
    (failed,) = one.details.failed
    assert (failed.reason, failed.count, failed.request_id) == ("The code … is taken", 3, "request-2")
    (held,) = one.details.held_for
    assert (held.reason, held.count) == ("held: 300 deletes within 600 s", 2)
    assert {wait.why: wait.count for wait in one.details.waiting} == {
        "to be sent next": 1,
        "put off: the API failed (503)": 1,
        "no connection knows its voucher yet": 1,
        "its answer was lost: it is looked up in the API first (no answer within 15 s)": 1,
    }


async def test_no_code_is_in_what_is_told(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    sql.execute(
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) "
        "VALUES (gen_random_uuid(), %s, 'MIRRORED-1', true, 'default')",
        [VOUCHER],
    )
    queue(sql, "SECRET-1", "failed", error="SECRET-1 conflicts with MIRRORED-1, secret-2 and 'never seen 3'")
    queue(sql, "SECRET-2", "held", error="like secret-1")
    queue(sql, "SECRET-4", "pending", error="after SECRET-2", due_in=60)
    told = str(await load(engine)).upper()
    assert [code for code in ("SECRET", "MIRRORED", "NEVER SEEN") if code in told] == []


async def test_no_more_is_counted_than_a_bound(
    sql: psycopg.Connection, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "COUNTED_TO", 5)
    for number in range(9):
        queue(sql, f"CODE-{number}", "pending" if number < 7 else "held")
    one = await load_one(engine)
    assert (one.backlog.outbox, one.backlog.outbox_at_least) == ({"pending": 5, "held": 2}, ["pending"])


async def test_codes_of_a_large_table_are_estimated(
    sql: psycopg.Connection, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql.execute("INSERT INTO sync.connections (name, state) VALUES ('other', 'ok')")
    sql.execute(
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) SELECT gen_random_uuid(), %s, "
        "'C' || n, true, CASE WHEN n <= 300 THEN 'default' ELSE 'other' END FROM generate_series(1, 1000) AS n",
        [VOUCHER],
    )
    counted = (await load(engine)).connections
    assert {one.name: (one.mirror.voucher_codes, one.mirror.voucher_codes_estimated) for one in counted} == {
        "default": (300, False),
        "other": (700, False),
    }
    monkeypatch.setattr(codes, "COUNTED_UP_TO_BYTES", 0)
    assert {one.mirror.voucher_codes for one in (await load(engine)).connections} == {None}
    sql.execute("ANALYZE mews.voucher_codes")
    estimated = (await load(engine)).connections
    assert {one.name: (one.mirror.voucher_codes, one.mirror.voucher_codes_estimated) for one in estimated} == {
        "default": (300, True),
        "other": (700, True),
    }


async def test_daemons_are_told_with_their_settings_and_what_they_have_of_the_budget(
    sql: psycopg.Connection, engine: AsyncEngine
) -> None:
    settings = json.dumps({"SYNC_LEASE_S": 30, "SYNC_AUDIT_CRON": "0 3 * * *"})
    for host, age_s in (("a", 5), ("b", 40)):
        sql.execute(
            "INSERT INTO sync.daemons (process, host, pid, version, revision, settings, heartbeat_at) "
            "VALUES (md5(%s)::uuid, %s, 7, '0.1.0', '0019', %s, now() - %s * interval '1 s')",
            [host, host, settings, age_s],
        )
    sql.execute("INSERT INTO sync.budgets VALUES ('x')")
    for process, calls in (("a", 10), ("c", 3)):
        sql.execute(
            "INSERT INTO sync.reservations (token_fingerprint, process, beat, reserved, ages_ms, is_waiting, "
            "counts_for_ms) VALUES ('x', md5(%s)::uuid, 1, %s, '{100, 200}', false, 1000)",
            [process, calls],
        )
    told = await load(engine)
    assert [(one.host, one.is_alive) for one in told.daemons] == [("a", True), ("b", False)]
    details = told.connections[0].details
    assert [(share.daemon, share.calls) for share in details.budget] == [("a (7)", 12), (None, 5)]
    assert details.next_audit_at is not None
    assert details.next_audit_at.hour == 3


async def test_each_connection_is_told_with_its_owner_and_each_daemon_with_how_many_it_has(
    sql: psycopg.Connection, engine: AsyncEngine
) -> None:
    for host, age_s in (("alive", 2), ("dead", 300)):
        sql.execute(
            "INSERT INTO sync.daemons (process, host, pid, version, revision, settings, beat, takes, heartbeat_at) "
            "VALUES (md5(%s)::uuid, %s, 7, '0.1.0', '0033', '{}', 9, '{stored}', now() - %s * interval '1 s')",
            [host, host, age_s],
        )
    for name, owner, paused, removed in (
        ("a", "alive", None, None),
        ("b", "alive", None, None),
        ("c", "dead", None, None),
        ("d", None, "closed", None),
        ("e", "alive", None, "now"),
    ):
        sql.execute(
            "INSERT INTO sync.connections (name, state, origin, platform_address, access_token, added_at, owner, "
            "paused_at, paused_because, removed_at) VALUES (%(name)s, 'ok', 'command', 'https://api.test', "
            "CASE WHEN %(removed)s::text IS NULL THEN 'x'::bytea END, now(), "
            "CASE WHEN %(removed)s::text IS NULL THEN md5(%(owner)s)::uuid END, "
            "CASE WHEN %(paused)s::text IS NOT NULL THEN now() END, %(paused)s, "
            "CASE WHEN %(removed)s::text IS NOT NULL THEN now() END)",
            {"name": name, "owner": owner, "paused": paused, "removed": removed},
        )
    told = await load(engine)
    stored = {one.name: (one.owner, one.paused_because, one.is_stored) for one in told.connections[:-1]}
    assert stored == {
        "a": ("alive (7)", None, True),
        "b": ("alive (7)", None, True),
        "c": (None, None, True),
        "d": (None, "closed", True),
    }
    assert [one.name for one in told.connections] == [*"abcd", "default"]
    assert [(one.host, one.connections, one.takes) for one in told.daemons] == [
        ("alive", 2, ["stored"]),
        ("dead", 0, ["stored"]),
    ]
    assert " at " in told.database


async def test_how_much_of_what_had_drifted_is_mended_and_when_a_request_last_failed(
    sql: psycopg.Connection, engine: AsyncEngine
) -> None:
    sql.execute(
        "INSERT INTO sync.voucher_audits (voucher_id, connection, audit_id, began_at, finished_at, differing, "
        "only_here, repaired) SELECT gen_random_uuid(), 'default', 1, now(), now(), 2, 1, 2 FROM generate_series(1, 2)"
    )
    assert (await load_one(engine)).failed_request_age_s is None
    for age_s in (500, 40):
        sql.execute(
            "INSERT INTO sync.request_failures (connection, operation, problem, count, last_at) "
            "VALUES ('default', %s, 'no', 1, now() - %s * interval '1 s')",
            [str(age_s), age_s],
        )
    one = await load_one(engine)
    assert (one.mirror.audit_repaired, round(one.failed_request_age_s or 0)) == (4, 40)


async def test_what_is_being_read_is_told_with_its_pace(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    sql.execute(
        "INSERT INTO mews.vouchers (id, service_id, name, is_active, connection) "
        "VALUES (%s, gen_random_uuid(), 'Summer', true, 'default')",
        [VOUCHER],
    )
    sql.execute(
        "INSERT INTO sync.plans (connection, voucher_ids, end_utc, page_size, windows_planned) "
        "VALUES ('default', ARRAY[%s]::uuid[], '2026-10-01', 1000, 40)",
        [VOUCHER],
    )
    sql.execute(
        "INSERT INTO sync.windows SELECT plan.id, make_date(2026, month, 1), make_date(2026, month + 1, 1) "
        "FROM sync.plans AS plan, generate_series(1, 9) AS month"
    )
    reading = (await load_one(engine)).details.reading
    assert reading is not None
    assert (reading.left, reading.planned, reading.vouchers, reading.names) == (9, 40, 1, ["Summer"])
    assert (reading.start.month, reading.end.month, reading.done_in_s) == (1, 10, None)
    sql.execute(
        "INSERT INTO sync.runs (connection, kind, began_at, counts) "
        "VALUES ('default', 'pull', clock_timestamp() - interval '20 s', '{\"windows_done\": 5}')"
    )
    reading = (await load_one(engine)).details.reading
    assert reading is not None
    assert reading.done_in_s == pytest.approx(36, abs=1)


async def test_what_is_left_out_is_told_with_its_cause_and_names(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    sql.execute(
        "INSERT INTO mews.vouchers (id, service_id, name, is_active, connection) "
        "VALUES (%s, gen_random_uuid(), 'Summer', true, 'default')",
        [VOUCHER],
    )
    sql.execute(
        "INSERT INTO sync.skipped (connection, id, kind, reason) VALUES ('default', %s, 'voucher', 'no')", [VOUCHER]
    )
    sql.execute(
        "INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason) "
        "VALUES ('default', 'x', 'VoucherCodes', '{}', 'Invalid enum value ''SECRET''')"
    )
    details = (await load_one(engine)).details
    assert [(one.kind, one.reason, one.count, one.names) for one in details.skipped_because] == [
        ("voucher", "no", 1, ["Summer"])
    ]
    assert [(one.kind, one.reason) for one in details.rejected_because] == [("VoucherCodes", "Invalid enum value …")]


async def test_vouchers_that_the_api_lists_and_refuses_are_counted(
    sql: psycopg.Connection, engine: AsyncEngine
) -> None:
    """Services that carry no vouchers are refused at each discovery, and vouchers of a hotel that was lost are gone."""
    sql.execute(
        "INSERT INTO sync.skipped (connection, id, kind, reason, until) VALUES "
        "('default', gen_random_uuid(), 'voucher', 'Invalid VoucherIds', now() + interval '1 day'), "
        "('default', gen_random_uuid(), 'voucher', 'Invalid VoucherIds', now() - interval '1 s'), "
        "('default', gen_random_uuid(), 'voucher', %s, NULL), "
        "('default', gen_random_uuid(), 'service', 'Invalid ServiceIds', now() + interval '1 day')",
        [NOT_LISTED],
    )
    one = await load_one(engine)
    assert (one.mirror.skipped, one.mirror.refused_vouchers) == (3, 1)
    (note,) = notes_on(one)
    assert note.text == (
        "Nothing is read of 1 voucher whose codes the API refuses to list; the reason: Invalid VoucherIds"
    )


async def test_audits_are_told_with_their_drift_and_those_that_were_missed(
    sql: psycopg.Connection, engine: AsyncEngine
) -> None:
    sql.execute(
        "INSERT INTO sync.audits (connection, began_at, finished_at, owner, alive_until) "
        "VALUES ('default', now() - interval '1 minute', now(), gen_random_uuid(), now())"
    )
    sql.execute(
        "INSERT INTO sync.runs (connection, kind, began_at, counts) "
        "VALUES ('default', 'audit', now() - interval '1 minute', '{\"drift\": 4, \"repaired\": 4}')"
    )
    details = (await load_one(engine)).details
    assert [(one.drift, one.repaired, one.is_running) for one in details.audits] == [(4, 4, False)]
    assert details.audit_missed_at is None
    sql.execute(
        "INSERT INTO sync.runs (connection, kind, began_at, counts, error) VALUES ('default', 'audit', now(), '{}', "
        "'the audit of 2026-11-27 03:00 UTC did not begin, since no daemon was running')"
    )
    assert (await load_one(engine)).details.audit_missed_at is not None
