"""Samples for charts: a row for each five minutes in which something was done, or stands otherwise than before.

What stands (`behind_since`, `waiting`, `attention`, `drift`) holds until the next row; what was done (`codes`,
`requests`, `failed`) was done in the five minutes that end with the row, and is 0 in those without one. So a connection
with nothing to do writes nothing.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BigInteger, Integer, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.status.backlog import load_backlogs
from sync.service.status.facts import Backlog

EVERY_S = 300.0
QUIET_REQUESTS = 30
"""So many calls in five minutes leave no row: pulls and discoveries of a connection with nothing to do. It is 1.5 % of
the API's budget, which no chart of it shows."""
WHOLE_FOR = timedelta(days=2)
"""After this no more than two rows of each hour are kept: the worst, and the last with what was done in all."""
THINNED_FOR = timedelta(days=3)
"""Rows between the two ages are thinned; older ones have been."""
UNDER_WAY = ("pending", "sending", "uncertain")
NEED_SOMEBODY = ("held", "failed")


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: codes written, calls made, and calls that failed."""

    codes: int
    requests: int
    failed: int


class Sampler:
    """Says every five minutes what was done in them; `total` is what was done since the process began."""

    __slots__ = ("_clock", "_counted", "_due_s", "_noted", "_total")

    def __init__(self, total: Callable[[], Done], clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._noted, self._due_s = Done(0, 0, 0), clock() + EVERY_S
        self._counted: Done | None = None

    @property
    def is_due(self) -> bool:
        """Whether what was done is to be noted."""
        return self._clock() >= self._due_s

    def due(self) -> Done | None:
        """What was done since it was last noted; None: it is too early."""
        if not self.is_due:
            return None
        self._counted, noted = self._total(), self._noted
        return Done(
            self._counted.codes - noted.codes,
            self._counted.requests - noted.requests,
            self._counted.failed - noted.failed,
        )

    def noted(self) -> None:
        """What was due stands in the database."""
        self._noted, self._due_s = self._counted or self._noted, self._clock() + EVERY_S


async def note(tx: AsyncConnection, done: Mapping[str, Done], late_after_s: float) -> None:
    """Write a sample of each of these connections that differs from the one before, by one statement.

    One that caught up within `late_after_s` counts as up to date.
    """
    backlogs = await load_backlogs(tx, list(done), (await tx.execute(_THE_ONLY_ONE)).scalar_one_or_none())
    of_each = [backlogs.get(name, Backlog()) for name in done]
    await tx.execute(
        _SAMPLE,
        {
            "names": list(done),
            "late_after_s": late_after_s,
            "waiting": [one.count(*UNDER_WAY) for one in of_each],
            "attention": [one.count(*NEED_SOMEBODY) for one in of_each],
            "codes": [one.codes for one in done.values()],
            "requests": [one.requests for one in done.values()],
            "failed": [one.failed for one in done.values()],
            "quiet_requests": QUIET_REQUESTS,
        },
    )


async def thin(tx: AsyncConnection) -> None:
    """Keep two rows of each hour that was over days ago, with all that was done in it."""
    await tx.execute(_THIN, {"whole_for": WHOLE_FOR, "thinned_for": THINNED_FOR})


_THE_ONLY_ONE = text("SELECT min(name) FROM sync.connections WHERE removed_at IS NULL HAVING count(*) = 1")
_SAMPLE = text("""
INSERT INTO sync.samples (connection, at, behind_since, waiting, attention, drift, codes, requests, failed)
SELECT noted.name, now(), present.behind_since, done.waiting, done.attention, present.drift,
       done.codes, done.requests, done.failed
FROM unnest(
  CAST(:names AS text[]), CAST(:waiting AS integer[]), CAST(:attention AS integer[]),
  CAST(:codes AS bigint[]), CAST(:requests AS bigint[]), CAST(:failed AS bigint[])
) AS done(name, waiting, attention, codes, requests, failed)
JOIN sync.connections AS noted ON noted.name = done.name
JOIN sync.connection_freshness AS told ON told.name = done.name
LEFT JOIN LATERAL (
  SELECT * FROM mews.connection_coverage WHERE connection = done.name
) AS covered ON true
CROSS JOIN LATERAL (
  SELECT CASE WHEN told.caught_up_as_of > now() - CAST(:late_after_s AS float8) * interval '1 second' THEN NULL
              ELSE coalesce(covered.complete_through, told.caught_up_through, noted.state_since) END AS behind_since,
         coalesce(covered.last_audit_drift, 0) AS drift
) AS present
LEFT JOIN LATERAL (
  SELECT * FROM sync.samples WHERE connection = done.name ORDER BY at DESC LIMIT 1
) AS before ON true
WHERE done.codes > 0 OR done.failed > 0 OR done.requests > :quiet_requests OR before.at IS NULL
   OR (present.behind_since, done.waiting, done.attention, present.drift)
      IS DISTINCT FROM (before.behind_since, before.waiting, before.attention, before.drift)
ON CONFLICT DO NOTHING
""").bindparams(
    *(bindparam(name, type_=ARRAY(Integer)) for name in ("waiting", "attention")),
    *(bindparam(name, type_=ARRAY(BigInteger)) for name in ("codes", "requests", "failed")),
    bindparam("names", type_=ARRAY(Text)),
)

# Two processes at once delete each row once: who comes second finds it gone, and has nothing to add.
_THIN = text("""
WITH ranked AS (
  SELECT connection, at, date_trunc('hour', at) AS hour,
         row_number() OVER (PARTITION BY connection, date_trunc('hour', at) ORDER BY at DESC) AS from_end,
         row_number() OVER (PARTITION BY connection, date_trunc('hour', at)
                            ORDER BY waiting + attention DESC, behind_since NULLS LAST, at DESC) AS from_worst
  FROM sync.samples
  WHERE at >= date_trunc('hour', now() - :thinned_for) AND at < date_trunc('hour', now() - :whole_for)
), gone AS (
  DELETE FROM sync.samples AS sample USING ranked
  WHERE ranked.from_end > 1 AND ranked.from_worst > 1
    AND sample.connection = ranked.connection AND sample.at = ranked.at
  RETURNING sample.connection, ranked.hour, sample.codes, sample.requests, sample.failed
), summed AS (
  SELECT connection, hour, sum(codes)::bigint AS codes, sum(requests)::bigint AS requests, sum(failed)::bigint AS failed
  FROM gone GROUP BY connection, hour
)
UPDATE sync.samples AS sample
SET codes = sample.codes + summed.codes, requests = sample.requests + summed.requests,
    failed = sample.failed + summed.failed
FROM summed JOIN ranked USING (connection, hour)
WHERE ranked.from_end = 1 AND sample.connection = ranked.connection AND sample.at = ranked.at
""")
