"""How many changes wait or need somebody, by connection and status: each counted by an index, and up to a bound."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.each_row import KEPT, REFUSES
from sync.outbox.uncertain import NOT_SHOWN
from sync.service.status.facts import COUNTED_TO


@dataclass(slots=True)
class Backlog:
    """The changes of one connection: counts by status, those of them that are more, why some are held, the age of the
    oldest that waits, and how many are stuck: something on the table refuses them, or the API does not show their
    voucher, so that it stays unknown what became of them.
    """

    counts: dict[str, int] = field(default_factory=dict)
    at_least: list[str] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    oldest_age_s: float | None = None
    stuck: int = 0

    def add(self, status: str, count: int, oldest_age_s: float | None, held_because: str | None) -> None:
        """Take what was counted in one place."""
        if held_because:
            self.held[held_because] = min(self.held.get(held_because, 0) + count, COUNTED_TO)
        total = self.counts.get(status, 0) + count
        if count > COUNTED_TO or total > COUNTED_TO:
            total = COUNTED_TO
            if status not in self.at_least:
                self.at_least.append(status)
        self.counts[status] = total
        if oldest_age_s is not None:
            self.oldest_age_s = max(oldest_age_s, self.oldest_age_s or 0.0)


async def load_backlogs(
    tx: AsyncConnection, names: Sequence[str], the_only_one: str | None = None
) -> dict[str | None, Backlog]:
    """The changes of each connection; those whose voucher none knows are the only one's, or stand under None."""
    backlogs: defaultdict[str | None, Backlog] = defaultdict(Backlog)
    rows = await tx.execute(_COUNTED, {"names": list(names), "cap": COUNTED_TO + 1})
    for row in rows:
        name = the_only_one if row.name is None else row.name
        backlogs[name].add(row.status, row.number, row.oldest_age_s, row.held_because)
    for row in await tx.execute(_STUCK, {"names": list(names), **of_stuck()}):
        backlogs[row.name].stuck = row.number
    return backlogs


def of_stuck() -> dict[str, Any]:
    """What `STUCK` is to be executed with."""
    return {"most_stuck": COUNTED_TO, "refuses": REFUSES, "kept": KEPT, "not_shown": NOT_SHOWN}


# Where a connection is given, an index leads to its rows of one status, for which each is asked for in its order: to
# statistics of an outbox that is nearly all one connection's, a look through the whole table seems as cheap for every
# other one. What is under way is few, whosever it is. Past the bound the oldest is that of what was counted, which each
# index has near its beginning.
_COUNTED = text("""
WITH counted AS (
  SELECT known.name, part.* FROM unnest(CAST(:names AS text[])) AS known(name) CROSS JOIN LATERAL (
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
  UNION ALL SELECT NULL, status, held_because, count(*), min(created_at) FROM (
    SELECT status, held_because, created_at FROM mews.voucher_code_outbox
    WHERE connection IS NULL AND status IN ('pending', 'held') LIMIT :cap) AS few GROUP BY status, held_because
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
_STUCK = text(f"WITH known AS (SELECT unnest(CAST(:names AS text[])) AS name) SELECT * FROM ({STUCK}) AS stuck")  # noqa: S608 - constants
