"""Facts as a test needs them: everything well, but for what it says."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from sync.service.status.facts import Backlog, ConnectionStatus, Daemon, MirrorState, Overview

VOUCHER = "11111111-1111-1111-1111-111111111111"
ROW = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, status, connection, last_error, request_id,
  created_at, next_attempt_at, finished_at, attempt_id, uncertain_because, held_because,
  attempts)
VALUES ('add', %(voucher_id)s, %(value)s, %(status)s, %(connection)s, %(error)s, %(request_id)s,
  now() - interval '1 hour', now() + %(due_in)s * interval '1 s',
  CASE WHEN %(status)s IN ('failed', 'done', 'cancelled') THEN now() END,
  CASE WHEN %(status)s IN ('sending', 'uncertain') THEN gen_random_uuid() END,
  CASE WHEN %(status)s = 'uncertain' THEN 'unknown' END,
  CASE WHEN %(status)s = 'held' THEN 'too_many_deletes' END, 1)
"""
NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
WELL = ConnectionStatus(
    name="default",
    origin="environment",
    owner=None,
    paused_at=None,
    is_removed=False,
    paused_because=None,
    state="ok",
    state_since=NOW - timedelta(days=3),
    error=None,
    error_kind=None,
    heartbeat_age_s=4.0,
    caught_up_age_s=30.0,
    caught_up_through=NOW - timedelta(seconds=30),
    failed_request_age_s=None,
    gap=None,
    gap_at=None,
    mirror=MirrorState(
        vouchers=7,
        voucher_codes=1200,
        voucher_codes_estimated=False,
        open_windows=0,
        complete_through=NOW - timedelta(seconds=30),
        lag_s=30.0,
        skipped=0,
        refused_vouchers=0,
        rejected_records=0,
        audited_since=NOW - timedelta(hours=5),
        audit_drift=0,
        audit_repaired=0,
        audit_braked=None,
    ),
    backlog=Backlog(),
)


def daemon(number: int = 1, **values: Any) -> Daemon:
    """A process that is alive and set as by default."""
    one = Daemon(
        process=UUID(int=number),
        host="host-a",
        pid=4000 + number,
        version="0.1.0",
        revision="0019",
        settings={"SYNC_LEASE_S": 30.0, "SYNC_PULL_INTERVAL_S": 60.0, "SYNC_AUDIT_CRON": "0 3 * * *"},
        started_at=NOW - timedelta(days=3),
        heartbeat_age_s=4.0,
        takes=["environment", "stored"],
        is_alive=True,
        connections=1,
    )
    return replace(one, **values)


def connection(**values: Any) -> ConnectionStatus:
    """A connection that is well, but for these fields of its own or of its parts."""
    return changed(WELL, **values)


def changed(one: ConnectionStatus, **values: Any) -> ConnectionStatus:
    """The same with other values of these fields, its own or its parts'."""
    for part in ("mirror", "backlog"):
        before = getattr(one, part)
        of_part = {field.name: values.pop(field.name) for field in fields(before) if field.name in values}
        values[part] = replace(before, **of_part)
    return replace(one, **values)


def overview(*connections: ConnectionStatus, daemons: tuple[Daemon, ...] = (daemon(),)) -> Overview:
    """These connections, and a daemon that serves them."""
    return Overview(NOW, "voucher_sync at db:5432", "0019", list(connections), list(daemons))


def queue(sql: psycopg.Connection, value: str, status: str, **more: Any) -> None:
    """A change that stands so."""
    row = {"voucher_id": VOUCHER, "connection": "default", "error": None, "request_id": None, "due_in": -1} | more
    sql.execute(ROW, {"value": value, "status": status, **row})
