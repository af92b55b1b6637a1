"""How many changes wait or need somebody, by connection and status: each counted by an index, and up to a bound."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.each_row import KEPT, REFUSES
from sync.outbox.uncertain import NOT_SHOWN
from sync.service.status.facts import COUNTED_TO, Backlog


async def load_backlogs(
    tx: AsyncConnection, names: Sequence[str], the_only_one: str | None = None
) -> dict[str | None, Backlog]:
    """The changes of each connection; those whose voucher none knows are the only one's, or stand under None."""
    backlogs: defaultdict[str | None, Backlog] = defaultdict(Backlog)
    rows = await tx.execute(_COUNTED, {"names": list(names), "cap": COUNTED_TO + 1})
    for row in rows:
        name = the_only_one if row.name is None else row.name
        _add(backlogs[name], row)
    for row in await tx.execute(_STUCK, {"names": list(names), **of_stuck()}):
        backlogs[row.name].stuck = row.number
    return backlogs


def _add(backlog: Backlog, row: Any) -> None:
    """Take what was counted in one place."""
    if row.held_because:
        backlog.held[row.held_because] = min(backlog.held.get(row.held_because, 0) + row.number, COUNTED_TO)
    total = backlog.count(row.status) + row.number
    backlog.outbox[row.status] = min(total, COUNTED_TO)
    if total > COUNTED_TO and not backlog.has_more(row.status):
        backlog.outbox_at_least.append(row.status)
    if row.oldest_age_s is not None:
        backlog.oldest_waiting_age_s = max(row.oldest_age_s, backlog.oldest_waiting_age_s or 0.0)


def of_stuck() -> dict[str, Any]:
    """What `STUCK` is to be executed with."""
    return {"most_stuck": COUNTED_TO, "refuses": REFUSES, "kept": KEPT, "not_shown": NOT_SHOWN}


# Where a connection is given, an index leads to its rows of one status, for which each is asked for in its order: to
# statistics of an outbox that is nearly all one connection's, a look through the whole table seems as cheap for every
# other one. What is under way is few, whosever it is. Past the bound the oldest is that of what was counted, which each
# index has near its beginning.
_COUNTED = text("""
WITH counted AS (
  SELECT known.name, part.* FROM pg_catalog.unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
    SELECT 'pending' AS status, NULL AS held_because, count(*) AS number, min(created_at) AS oldest_at FROM (
      SELECT created_at FROM mews.voucher_code_outbox
      WHERE connection = known.name AND status = 'pending' AND operation = 'add'
      ORDER BY enterprise_id, next_attempt_at, id LIMIT :cap) AS few
    UNION ALL SELECT 'pending', NULL, count(*), min(created_at) FROM (
      SELECT created_at FROM mews.voucher_code_outbox
      WHERE connection = known.name AND status = 'pending' AND operation = 'delete'
      ORDER BY enterprise_id, next_attempt_at, id LIMIT :cap) AS few
    UNION ALL SELECT 'held', held_because, count(*), NULL FROM (
      SELECT held_because FROM mews.voucher_code_outbox
      WHERE connection = known.name AND status = 'held' ORDER BY finished_at LIMIT :cap) AS few GROUP BY held_because
    UNION ALL SELECT 'failed', NULL, count(*), NULL FROM (
      SELECT FROM mews.voucher_code_outbox
      WHERE connection = known.name AND status = 'failed' ORDER BY finished_at LIMIT :cap) AS few
  ) AS part
  UNION ALL SELECT connection, status, NULL, count(*), min(created_at) FROM (
    SELECT connection, status, created_at FROM mews.voucher_code_outbox
    WHERE status IN ('sending', 'uncertain') LIMIT 10 * :cap) AS few GROUP BY connection, status
  UNION ALL SELECT NULL, 'pending', NULL, count(*), min(created_at) FROM (
    SELECT created_at FROM mews.voucher_code_outbox WHERE connection IS NULL AND status = 'pending' LIMIT :cap) AS few
  UNION ALL SELECT NULL, 'held', held_because, count(*), NULL FROM (
    SELECT held_because FROM mews.voucher_code_outbox WHERE connection IS NULL AND status = 'held' LIMIT :cap) AS few
  GROUP BY held_because
  UNION ALL SELECT NULL, 'failed', NULL, count(*), NULL FROM (
    SELECT FROM mews.voucher_code_outbox WHERE connection IS NULL AND status = 'failed' LIMIT :cap) AS few
)
SELECT name, status, held_because, number,
       CAST(extract(epoch FROM now() - oldest_at) AS double precision) AS oldest_age_s
FROM counted WHERE number > 0
""")

# What rests does so for 5 minutes at a time, and is due then. By the index of what is next, of the last that are due or
# will be by then, and no more of them than the bound.
STUCK = """
WITH unknown AS (
  SELECT connection, count(*) AS number FROM (
    SELECT connection FROM mews.voucher_code_outbox
    WHERE status IN ('sending', 'uncertain') AND last_error = :not_shown LIMIT 10 * :most_stuck) AS few
  GROUP BY connection
), unassigned AS (
  SELECT voucher.connection, count(*) AS number FROM (
    SELECT voucher_id, last_error FROM mews.voucher_code_outbox
    WHERE connection IS NULL AND status IN ('pending', 'held') LIMIT 10 * :most_stuck) AS few
  JOIN mews.vouchers AS voucher ON voucher.id = few.voucher_id
  WHERE starts_with(few.last_error, :refuses) OR few.last_error = :kept
  GROUP BY voucher.connection
)
SELECT known.name, resting.number + least(coalesce(unknown.number, 0), :most_stuck) + coalesce(unassigned.number, 0)
         AS number
FROM known CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE starts_with(last_error, :refuses) OR last_error = :kept) AS number FROM (
    SELECT last_error FROM mews.voucher_code_outbox
    WHERE connection = known.name AND left(status, 7) = 'pending' AND next_attempt_at <= now() + interval '5 minutes'
    ORDER BY next_attempt_at DESC, id DESC LIMIT :most_stuck) AS few
) AS resting
LEFT JOIN unknown ON unknown.connection = known.name LEFT JOIN unassigned ON unassigned.connection = known.name
WHERE resting.number > 0 OR unknown.number > 0 OR unassigned.number > 0
"""
"""Of each connection of a table `known`, by its `name`."""
_STUCK = text(f"""
WITH known AS (SELECT pg_catalog.unnest(CAST(:names AS text[])) AS name) SELECT * FROM ({STUCK}) AS stuck
""")  # noqa: S608 - constants
