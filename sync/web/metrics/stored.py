"""What the database says, by one statement that reads no code and counts no finished change."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.status.backlog import STUCK, of_stuck
from sync.service.status.facts import DEFAULTS
from sync.web.metrics import names
from sync.web.metrics.counted import Told
from sync.web.metrics.names import Metric

GOOD_FOR_S = 5.0
"""However many scrape, the database is asked no more often."""
PUT_OFF_FOR = "interval '15 minutes'"
"""Longer than any retry waits: what is put off for longer is so by its own `not_before`, and is not late."""

# Index-only on what is pending, of which there may be a million: ids grow with time, so the oldest is that of the least
# id. Each of the others is a small table, or a partial index of what is rare.
STORED = text(f"""
WITH pending AS MATERIALIZED (
  SELECT connection, count(*) AS rows, min(id) FILTER (WHERE next_attempt_at <= now() + {PUT_OFF_FOR}) AS oldest_id
  FROM mews.voucher_code_outbox WHERE status = 'pending' GROUP BY connection
), known AS (
  SELECT name FROM sync.connections
), freshness AS MATERIALIZED (
  SELECT * FROM sync.connection_freshness
), coverage AS MATERIALIZED (
  SELECT connection, extract(epoch FROM now() - complete_through) AS lag_s,
         extract(epoch FROM now() - audited_since) AS audit_age_s, last_audit_drift
  FROM mews.connection_coverage
), replicas AS MATERIALIZED (
  SELECT process, abs(extract(epoch FROM now() - heartbeat_at)::float8)
                  <= coalesce((settings ->> 'SYNC_LEASE_S'::text)::float8, {DEFAULTS["SYNC_LEASE_S"]}) AS is_alive
  FROM sync.daemons
), told AS (
SELECT 'freshness_seconds' AS metric, name AS connection, NULL AS status,
       extract(epoch FROM now() - caught_up_as_of)::float8 AS value
FROM freshness
UNION ALL SELECT 'replicas', NULL, NULL, count(*) FILTER (WHERE is_alive) FROM replicas
UNION ALL SELECT 'replicas_silent', NULL, NULL, count(*) FILTER (WHERE NOT is_alive) FROM replicas
UNION ALL SELECT 'stored_connections', NULL, NULL, count(*) FROM sync.connections WHERE access_token IS NOT NULL
UNION ALL SELECT 'paused', name, NULL, (paused_at IS NOT NULL)::int FROM sync.connections
UNION ALL SELECT 'owned', name, NULL, coalesce(is_alive, false)::int
  FROM sync.connections LEFT JOIN replicas ON process = owner
UNION ALL SELECT 'heartbeat_age_seconds', name, NULL, extract(epoch FROM now() - heartbeat_at) FROM freshness
UNION ALL SELECT 'not_adopted', name, NULL, (EXISTS (SELECT FROM sync.incarnation WHERE gap IS NOT NULL))::int
  FROM sync.connections
UNION ALL SELECT 'lag_seconds', connection, NULL, lag_s FROM coverage
UNION ALL SELECT 'audit_age_seconds', connection, NULL, audit_age_s FROM coverage
UNION ALL SELECT 'audit_drift_codes', connection, NULL, last_audit_drift FROM coverage
UNION ALL SELECT 'audit_stopped', connection, NULL, (braked IS NOT NULL)::int FROM (
  SELECT DISTINCT ON (connection) connection, braked FROM sync.audits WHERE finished_at IS NOT NULL
  ORDER BY connection, id DESC) AS last_audits
UNION ALL SELECT 'open_windows', connection, NULL, count(*) FROM sync.windows JOIN sync.plans ON id = plan_id
  GROUP BY connection
UNION ALL SELECT 'rejected_records', connection, NULL, count(*) FROM sync.rejected_records GROUP BY connection
UNION ALL SELECT 'skipped', connection, NULL, count(*) FROM sync.skipped
  WHERE until IS NULL OR until > now() GROUP BY connection
UNION ALL SELECT 'outbox_rows', connection, 'pending', rows FROM pending
UNION ALL SELECT 'outbox_rows', connection, status, count(*) FROM mews.voucher_code_outbox
  WHERE status IN ('sending', 'uncertain') GROUP BY connection, status
UNION ALL SELECT 'outbox_rows', connection, status, count(*) FROM mews.voucher_code_outbox
  WHERE status IN ('held', 'failed') GROUP BY connection, status
UNION ALL SELECT 'outbox_stuck', name, NULL, number FROM ({STUCK}) AS stuck
UNION ALL SELECT 'outbox_oldest_pending_seconds', pending.connection, NULL, extract(epoch FROM now() - created_at)
FROM pending JOIN mews.voucher_code_outbox ON id = oldest_id
)
SELECT told.metric, told.status, pg_catalog.array_agg(told.connection ORDER BY told.connection) AS names,
       pg_catalog.array_agg(told.value ORDER BY told.connection) AS values
FROM told LEFT JOIN sync.connections AS noted ON noted.name = told.connection
WHERE noted.removed_at IS NULL AND (noted.paused_at IS NULL OR told.metric <> ALL (CAST(:of_work AS text[])))
  AND told.value IS NOT NULL
GROUP BY told.metric, told.status
""")  # noqa: S608 - put together from constants
BY_NAME = {metric.name: metric for metric in names.OF_DATABASE}
STATUSES = ("pending", "sending", "uncertain", "held", "failed")
"""Of no other status is there anything that somebody waits for."""
OF_WORK = [
    metric.name
    for metric in (names.OWNED, names.HEARTBEAT, names.FRESHNESS, names.LAG, names.OUTBOX_AGE, names.AUDIT_AGE)
]
"""What is told of a connection only while somebody is to work for it."""
COUNTED = (
    *((metric, None) for metric in (names.OPEN_WINDOWS, names.REJECTED, names.SKIPPED, names.STUCK)),
    *((names.OUTBOX, status) for status in STATUSES),
)
"""Of what there is none of a connection, is told as 0."""


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one metric and status, by their connections' names: a number each, of thousands of connections."""

    metric: Metric
    status: str | None
    names: Sequence[str | None]
    values: Sequence[float]

    def __iter__(self) -> Iterator[Told]:
        """Each with the values of its labels."""
        many = len(self.metric.labels)
        for name, value in zip(self.names, self.values, strict=True):
            yield (name or "", self.status or "")[:many], value


Stored = Mapping[Metric, Sequence[Column]]


async def load_stored(transaction: AsyncConnection) -> Stored:
    """Each metric of the database, for each of its connections. What is not known is left out; of what is none, 0."""
    rows = await transaction.execute(STORED, {"of_work": OF_WORK, **of_stuck()})
    found = {(BY_NAME[row.metric], row.status): Column(BY_NAME[row.metric], *row[1:]) for row in rows}
    known = sorted({name for column in found.values() for name in column.names if name is not None})
    for metric, status in COUNTED:
        some = found.get((metric, status), Column(metric, status, (), ()))
        counted = dict(zip(some.names, some.values, strict=True))
        of = [None, *known] if metric is names.OUTBOX else known  # a change whose voucher nobody knows is of none
        found[metric, status] = Column(metric, status, of, [counted.get(name, 0.0) for name in of])
    stored = defaultdict[Metric, list[Column]](list)
    for column in found.values():
        stored[column.metric].append(column)
    return stored
