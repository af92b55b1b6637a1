"""What is told of connections that are looked at one by one: each list is bounded, and found by an index."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import TextClause

from sync.connection.process_names import name_of_process
from sync.core.cron import Cron
from sync.service.runs import Run
from sync.service.status.changes import load_changes
from sync.service.status.detail_facts import Audit, BackfillProgress, Details, LeftOut, Outage, RequestFailure, Share
from sync.service.status.facts import COUNTED_TO, ConnectionStatus, Daemon, setting
from sync.service.status.redaction import without_code

F = TypeVar("F")


async def load_details(
    tx: AsyncConnection,
    statuses: Sequence[ConnectionStatus],
    now: datetime,
    daemons: Sequence[Daemon],
    the_only_one: str | None,
) -> dict[str, Details]:
    """The details of each of these connections, by name; `the_only_one`: see `load_changes`. Raises `DatabaseError`."""
    if not statuses:
        return {}
    names = [one.name for one in statuses]

    async def load(statement: TextClause, kind: type[F]) -> dict[str, list[F]]:
        return _by_name(await tx.execute(statement, {"names": names, "cap": COUNTED_TO}), kind)

    runs, audits, outages = await load(_RUNS, Run), await load(_AUDITS, Audit), await load(_OUTAGES, Outage)
    readings, requests = await load(_READINGS, BackfillProgress), await load(_REQUESTS, RequestFailure)
    skipped, rejected = await load(_SKIPPED, LeftOut), await load_rejected(tx, names)
    shares = await _load_shares(tx, names, daemons)
    missed = {row.name: row.finished_at for row in await tx.execute(_MISSED, {"names": names})}
    changes = await load_changes(tx, names, the_only_one)
    following = _next_audit(daemons, now)
    paused = {one.name for one in statuses if one.paused_at}
    return {
        name: Details(
            last_runs=runs[name],
            reading=next(iter(readings[name]), None),
            audits=audits[name],
            next_audit_at=None if name in paused else following,
            audit_missed_at=missed.get(name),
            budget=shares[name],
            request_failures=requests[name],
            outages=outages[name],
            skipped_because=skipped[name],
            rejected_because=rejected[name],
            **changes[name],
        )
        for name in names
    }


def _by_name(rows: Any, kind: type[F]) -> defaultdict[str, list[F]]:
    """Rows as facts, by the connection that each of them names."""
    found: defaultdict[str, list[F]] = defaultdict(list)
    for row in rows.mappings():
        values = {name: value for name, value in row.items() if name != "of_connection"}
        found[row["of_connection"]].append(kind(**values))
    return found


async def load_rejected(
    tx: AsyncConnection, names: Sequence[str], looked_at: int = COUNTED_TO
) -> defaultdict[str, list[LeftOut]]:
    """`rejected_because` of `Details`, by connection, of so many records: reasons without what they quote of them."""
    rows = await tx.execute(_REJECTED, {"names": list(names), "looked_at": looked_at})
    found: defaultdict[str, list[LeftOut]] = defaultdict(list)
    for name, some in _by_name(rows, LeftOut).items():
        found[name] = [replace(one, reason=without_code(one.reason, None)) for one in some]
    return found


def _next_audit(daemons: Sequence[Daemon], now: datetime) -> datetime | None:
    """When the next audit begins, by the settings of the daemons that are alive; None: nobody is there to begin it."""
    crons = {str(setting(one.settings, "SYNC_AUDIT_CRON")) for one in daemons if one.is_alive}
    return min((Cron(words).next_after(now) for words in crons), default=None)


async def _load_shares(
    tx: AsyncConnection, names: Sequence[str], daemons: Sequence[Daemon]
) -> defaultdict[str, list[Share]]:
    running = {name_of_process(one.process): one for one in daemons if one.is_alive}
    found: defaultdict[str, dict[UUID, Share]] = defaultdict(dict)
    for row in await tx.execute(_SHARES, {"names": list(names)}):
        daemon = running.get(name_of_process(row.process))
        process = daemon.process if daemon else row.process
        before = found[row.name].get(process)
        calls, is_waiting = (before.calls, before.is_waiting) if before else (0, False)
        found[row.name][process] = Share(
            process, daemon.name if daemon else None, calls + row.calls, is_waiting or row.is_waiting
        )
    return defaultdict(list, {name: list(shares.values()) for name, shares in found.items()})


_RUNS = text("""
SELECT known.name AS of_connection, run.*
FROM pg_catalog.unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
  SELECT connection, kind, began_at, finished_at,
         CAST(extract(epoch FROM finished_at - began_at) AS double precision) AS lasted_s, counts, error
  FROM sync.runs WHERE connection = known.name ORDER BY id DESC LIMIT 10) AS run
""")

# What an audit found, the run says that ended with it; one that was left by its process is finished by another's.
_AUDITS = text("""
SELECT known.name AS of_connection, audit.began_at, audit.finished_at, audit.is_running,
       CAST(run.counts ->> 'drift'::text AS bigint) AS drift,
       CAST(run.counts ->> 'repaired'::text AS bigint) AS repaired, audit.braked
FROM pg_catalog.unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
  SELECT began_at, finished_at, finished_at IS NULL AND alive_until > now() AS is_running, braked
  FROM sync.audits WHERE connection = known.name ORDER BY id DESC LIMIT 5
) AS audit LEFT JOIN LATERAL (
  SELECT counts FROM sync.runs WHERE connection = known.name AND kind = 'audit' AND counts ? 'drift'::text
    AND finished_at BETWEEN audit.finished_at AND audit.finished_at + interval '1 minute' ORDER BY id LIMIT 1
) AS run ON true
ORDER BY known.name, audit.began_at DESC
""")
_MISSED = text("""
SELECT known.name, run.finished_at FROM pg_catalog.unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
  SELECT kind, finished_at, error FROM sync.runs WHERE connection = known.name AND kind = 'audit'
  ORDER BY id DESC LIMIT 1
) AS run WHERE run.error LIKE 'the audit of % did not begin%'
""")
_OUTAGES = text("""
SELECT known.name AS of_connection, outage.*
FROM pg_catalog.unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
  SELECT began_at, ended_at, error FROM sync.outages WHERE connection = known.name ORDER BY id DESC LIMIT 10) AS outage
""")
_REQUESTS = text("""
SELECT connection AS of_connection, operation, problem, count, first_at, last_at, request_id FROM sync.request_failures
WHERE connection = ANY (CAST(:names AS text[])) ORDER BY last_at DESC
""")

# How long the rest takes, as the pulls of the last ten minutes read; their turns are short, and each is noted.
_READINGS = text("""
SELECT opened.*,
       CASE WHEN pace.windows > 0::float8 THEN opened."left"::float8 * pace.seconds / pace.windows END AS done_in_s
FROM (
  SELECT plan.connection AS of_connection, count(*) AS "left", min(open.start_utc) AS start, max(open.end_utc) AS "end",
         CASE WHEN bool_and(plan.windows_planned IS NOT NULL) THEN (
           SELECT sum(windows_planned) FROM sync.plans WHERE connection = plan.connection) END AS planned,
         (SELECT sum(pg_catalog.cardinality(voucher_ids)) FROM sync.plans
          WHERE connection = plan.connection) AS vouchers,
         ARRAY (SELECT name FROM mews.vouchers AS voucher WHERE id = ANY (
           (SELECT voucher_ids FROM sync.plans WHERE connection = plan.connection ORDER BY id LIMIT 1)[1:3])
           AND name IS NOT NULL) AS names
  FROM sync.windows AS open JOIN sync.plans AS plan ON plan.id = open.plan_id
  WHERE plan.connection = ANY (CAST(:names AS text[])) GROUP BY plan.connection
) AS opened CROSS JOIN LATERAL (
  SELECT CAST(sum(CAST(counts ->> 'windows_done'::text AS bigint)) AS double precision) AS windows,
         CAST(sum(extract(epoch FROM finished_at - began_at)) AS double precision) AS seconds
  FROM (SELECT * FROM sync.runs WHERE connection = opened.of_connection ORDER BY id DESC LIMIT 100) AS run
  WHERE kind = 'pull' AND finished_at > now() - interval '10 minutes'
) AS pace
""")
_SHARES = text("""
SELECT connection.name, entry.process, entry.reserved + pg_catalog.cardinality(entry.ages_ms) AS calls, entry.is_waiting
FROM sync.reservations AS entry JOIN sync.connections AS connection USING (token_fingerprint)
WHERE connection.name = ANY (CAST(:names AS text[])) ORDER BY calls DESC, entry.process
""")
_SKIPPED = text("""
SELECT known.name AS of_connection, part.*
FROM pg_catalog.unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
  SELECT kind, reason, count(*), (pg_catalog.array_agg(DISTINCT name ORDER BY name))[1:3] AS names FROM (
    SELECT skipped.kind, skipped.reason, coalesce(voucher.name, service.name, 'unnamed') AS name
    FROM sync.skipped LEFT JOIN mews.vouchers AS voucher ON voucher.id = skipped.id AND skipped.kind = 'voucher'
    LEFT JOIN mews.services AS service ON service.id = skipped.id AND skipped.kind = 'service'
    WHERE skipped.connection = known.name AND coalesce(skipped.until > now(), true) LIMIT :cap
  ) AS few GROUP BY kind, reason ORDER BY count(*) DESC LIMIT 20
) AS part
""")
_REJECTED = text("""
SELECT known.name AS of_connection, part.*
FROM pg_catalog.unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
  SELECT kind, reason, count(*), ARRAY[]::text[] AS names FROM (
    SELECT kind, reason FROM sync.rejected_records WHERE connection = known.name LIMIT :looked_at
  ) AS few GROUP BY kind, reason ORDER BY count(*) DESC LIMIT 20
) AS part
""")
