"""Everything that is told, out of the database: a few statements, whose time does not grow with codes or changes."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Double, case, cast, exists, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.fleet.tables import daemons
from sync.mirror.skipped import is_in_force
from sync.mirror.tables import skipped, voucher_assignments, vouchers
from sync.outbox.tables import IS_UNFINISHED
from sync.postgres.identity import place_of
from sync.service.status.backlog import load_backlogs
from sync.service.status.codes import count_codes
from sync.service.status.details import load_details
from sync.service.status.facts import COUNTED_TO, Backlog, ConnectionStatus, Daemon, MirrorState, Overview, setting

AT_ONCE = 500
"""Connections that are looked through in one turn of the loop."""
TOLD_OF_DAEMONS = ("process", "host", "pid", "version", "revision", "settings", "started_at")
OF_MIRROR = [one.name for one in fields(MirrorState)]
NONE_LEFT_OUT = {"skipped": 0, "refused_vouchers": 0}


async def load_overview(
    tx: AsyncConnection, detailed: Collection[str] | None = None, *, of_the_only_one: bool = False
) -> Overview:
    """Every connection that has ever been used and is not removed, or for which changes wait, and every daemon.

    Details are of the connections that `detailed` names. None: of all; `of_the_only_one`: also where there is one
    alone. Raises `DatabaseError`.
    """
    now, revision = (await tx.execute(_NOW)).one()
    rows = (await tx.execute(_CONNECTIONS, {"cap": COUNTED_TO})).mappings().all()
    running = await _load_daemons(tx, now, Counter(row["owner"] for row in rows))
    owners = {one.process: one.name for one in running if one.is_alive}
    names = [row["name"] for row in rows]
    the_only_one = names[0] if len(names) == 1 else None
    left_out = {row.pop("connection"): row for row in map(dict, (await tx.execute(_SKIPPED)).mappings())}
    backlogs = await load_backlogs(tx, names, the_only_one)
    codes, is_estimate = await count_codes(tx, names)
    statuses = list[ConnectionStatus]()
    for row in rows:
        name, owner = row["name"], owners.get(row["owner"])
        counted = {"voucher_codes": codes.get(name), "voucher_codes_estimated": is_estimate}
        told = {**row, **counted, **left_out.get(name, NONE_LEFT_OUT), "owner": owner}
        statuses.append(_status(told, backlogs.get(name, Backlog())))
        if len(statuses) % AT_ONCE == 0:
            await asyncio.sleep(0)  # others in the loop have their turn: of thousands this takes long
    is_alone = of_the_only_one and the_only_one is not None
    wanted = [one for one in statuses if detailed is None or is_alone or one.name in detailed]
    details = await load_details(tx, wanted, now, running, the_only_one)
    connections = [replace(one, details=details[one.name]) if one.name in details else one for one in statuses]
    of_none, place = backlogs.get(None, Backlog()), await place_of(tx)
    return Overview(now, place, revision, connections, running, of_none.outbox, of_none.outbox_at_least)


async def load_status(tx: AsyncConnection) -> list[ConnectionStatus]:
    """Every connection that has ever been used, by name; also one of which no process has told anything yet."""
    return (await load_overview(tx, ())).connections


async def count_without_rate(tx: AsyncConnection) -> int:
    """How many active vouchers give access to no rate, so that nobody can book anything by their codes."""
    has_rate = exists().where(voucher_assignments.c.voucher_id == vouchers.c.id)
    counted = select(func.count()).select_from(vouchers).where(vouchers.c.is_active, ~has_rate)
    return int((await tx.execute(counted)).scalar_one())


async def _load_daemons(tx: AsyncConnection, now: datetime, owned: Mapping[UUID, int]) -> list[Daemon]:
    columns = (daemons.c[name] for name in TOLD_OF_DAEMONS)
    age_s = cast(func.extract("epoch", now - daemons.c.heartbeat_at), Double).label("heartbeat_age_s")
    takes = case((daemons.c.beat > 0, daemons.c.takes)).label("takes")
    rows = (await tx.execute(select(*columns, age_s, takes))).mappings()
    found = list[Daemon]()
    for row in rows:
        is_alive = _is_alive(row["heartbeat_age_s"], row["settings"])
        # What a silent one has owned is nobody's, until another takes it.
        found.append(Daemon(**row, is_alive=is_alive, connections=owned.get(row["process"], 0) if is_alive else 0))
    return sorted(found, key=lambda one: (not one.is_alive, one.started_at, one.process))


def _is_alive(age_s: float, settings: dict[str, Any]) -> bool:
    # Ahead of the database's clock, as where that was set back, it is no sign of life: the next one would be right.
    return abs(age_s) <= float(setting(settings, "SYNC_LEASE_S"))


def _status(told: dict[str, Any], backlog: Backlog) -> ConnectionStatus:
    """Out of what is told of a connection, by the names of the fields."""
    mirror = MirrorState(**{name: told.pop(name) for name in OF_MIRROR})
    return ConnectionStatus(**told, mirror=mirror, backlog=backlog)


_IS_REFUSED_VOUCHER = (skipped.c.kind == "voucher", skipped.c.until.is_not(None))  # others are no longer listed
_SKIPPED = (
    select(
        skipped.c.connection,
        func.count().label("skipped"),
        func.count().filter(*_IS_REFUSED_VOUCHER).label("refused_vouchers"),
    )
    .where(is_in_force())
    .group_by(skipped.c.connection)
)
_NOW = text("SELECT now(), (SELECT version_num FROM sync.alembic_version)")

# All connections at once: what is joined is grouped by connection, or found by an index for each.
_CONNECTIONS = text(f"""
WITH covered AS MATERIALIZED (
  SELECT * FROM mews.connection_coverage
), known AS (
  SELECT name FROM sync.connections UNION SELECT connection FROM covered
  EXCEPT SELECT name FROM sync.connections WHERE removed_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM mews.voucher_code_outbox AS queued
    WHERE queued.connection = connections.name AND queued.{IS_UNFINISHED})
), opened AS (
  SELECT plan.connection, count(*) AS windows FROM sync.windows JOIN sync.plans AS plan ON plan.id = plan_id GROUP BY 1
), failed AS (
  SELECT connection, max(last_at) AS last_at FROM sync.request_failures GROUP BY connection
), mended AS (
  SELECT connection, CAST(sum(repaired) AS bigint) AS codes FROM sync.voucher_audits WHERE repaired > 0
  GROUP BY connection
)
SELECT known.name, noted.origin, CASE WHEN noted.paused_at IS NULL THEN noted.owner END AS owner,
       coalesce(noted.removed_at, noted.paused_at) AS paused_at, noted.paused_because,
       noted.removed_at IS NOT NULL AS is_removed,
       coalesce(noted.state, 'unknown') AS state, noted.state_since, noted.error, noted.error_kind,
       CAST(extract(epoch FROM now() - told.heartbeat_at) AS double precision) AS heartbeat_age_s,
       CAST(extract(epoch FROM now() - told.caught_up_as_of) AS double precision) AS caught_up_age_s,
       told.caught_up_through,
       CAST(extract(epoch FROM now() - failed.last_at) AS double precision) AS failed_request_age_s,
       coalesce(covered.vouchers, 0) AS vouchers, coalesce(opened.windows, 0) AS open_windows,
       covered.complete_through, covered.lag_seconds AS lag_s,
       rejected.count AS rejected_records, covered.audited_since, covered.last_audit_drift AS audit_drift,
       coalesce(mended.codes, 0) AS audit_repaired,
       audit.braked AS audit_braked, incarnation.gap, incarnation.gap_at
FROM known
LEFT JOIN sync.incarnation ON true
LEFT JOIN sync.connections AS noted ON noted.name = known.name
LEFT JOIN sync.connection_freshness AS told ON told.name = known.name
LEFT JOIN covered ON covered.connection = known.name
LEFT JOIN opened ON opened.connection = known.name
LEFT JOIN failed ON failed.connection = known.name
LEFT JOIN mended ON mended.connection = known.name
CROSS JOIN LATERAL (
  SELECT count(*) FROM (SELECT FROM sync.rejected_records WHERE connection = known.name LIMIT :cap) AS few
) AS rejected
LEFT JOIN LATERAL (
  SELECT braked FROM sync.audits WHERE connection = known.name AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1
) AS audit ON true
ORDER BY known.name
""")  # noqa: S608 - put together of constants
