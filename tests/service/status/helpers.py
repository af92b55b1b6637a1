"""Facts as a test needs them: everything well, but for what it says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sync.service.status.facts import ConnectionStatus, Daemon, Overview

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
    vouchers=7,
    voucher_codes=1200,
    voucher_codes_estimated=False,
    open_windows=0,
    complete_through=NOW - timedelta(seconds=30),
    lag_s=30.0,
    skipped=0,
    rejected_records=0,
    audited_since=NOW - timedelta(hours=5),
    audit_drift=0,
    audit_repaired=0,
    audit_braked=None,
    gap=None,
    outbox={},
    outbox_at_least=[],
    held={},
    oldest_waiting_age_s=None,
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
    """A connection that is well."""
    return replace(WELL, **values)


def overview(*connections: ConnectionStatus, daemons: tuple[Daemon, ...] = (daemon(),)) -> Overview:
    """These connections, and a daemon that serves them."""
    return Overview(NOW, "voucher_sync at db:5432", "0019", list(connections), list(daemons))
