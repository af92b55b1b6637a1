"""Changes that wait, are held or failed, by reason: no code's text is in what is told of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.each_row import KEPT, REFUSES
from sync.service.status.detail_facts import FailedGroup, HeldGroup, WaitingGroup
from sync.service.status.redaction import without_code, without_codes, words

LOOKED_AT = 1000
"""Of each connection, so many changes that wait, and so many that failed last."""
TOLD = 8
"""Reasons of each kind."""
DUE, LATER, UNKNOWN_VOUCHER = "to be sent next", "not before its time", "no connection knows its voucher yet"
NO_REASON = "no reason was given"
UNDER_WAY = {"sending": "being sent", "uncertain": "its answer was lost: it is looked up in the API first"}


async def load_changes(
    tx: AsyncConnection, names: Sequence[str], the_only_one: str | None, looked_at: int = LOOKED_AT
) -> defaultdict[str, dict[str, Any]]:
    """`waiting`, `held_for` and `failed` of `Details`, by connection, of so many changes of each sort.

    Those whose voucher no connection knows are told with `the_only_one`, as `load_backlogs` counts them.
    """
    parameters = {"names": list(names), "the_only_one": the_only_one, "looked_at": looked_at}
    rows = (await tx.execute(_ROWS, parameters)).all()
    told = [(row, without_code(row.last_error or "", row.value)) for row in rows]
    codes = await _codes_in(tx, {reason for _, reason in told})
    codes |= {row.value.casefold() for row in rows if row.value}
    found: defaultdict[str, defaultdict[str, list[tuple[Any, str]]]] = defaultdict(lambda: defaultdict(list))
    for row, reason in told:
        found[row.of_connection][_kind(row.status)].append((row, without_codes(reason, codes)))
    changes: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, of in found.items():
        changes[name] = {
            "waiting": _waiting(of["waiting"]),
            "held_for": _held(of["held"]),
            "failed": _failed(of["failed"]),
        }
    return changes


async def _codes_in(tx: AsyncConnection, reasons: Iterable[str]) -> set[str]:
    """The words of these reasons that are codes of the mirror, folded."""
    candidates = words(reasons)
    if not candidates:
        return set()
    return {word.casefold() for word in (await tx.execute(_CODES, {"words": list(candidates)})).scalars()}


def _kind(status: str) -> str:
    return status if status in {"held", "failed"} else "waiting"


def _waiting(rows: list[tuple[Any, str]]) -> list[WaitingGroup]:
    grouped: defaultdict[str, list[Any]] = defaultdict(list)
    for row, reason in rows:
        grouped[_why(row, reason)].append(row)
    found = [
        WaitingGroup(why, len(some), min(one.created_at for one in some), _next(some)) for why, some in grouped.items()
    ]
    return sorted(found, key=lambda one: -one.count)[:TOLD]


def _why(row: Any, reason: str) -> str:
    if row.status != "pending":
        return f"{UNDER_WAY[row.status]} ({reason})" if row.status == "uncertain" and reason else UNDER_WAY[row.status]
    if reason.startswith(REFUSES) or reason == KEPT:
        return reason
    if row.connection is None:
        return UNKNOWN_VOUCHER
    if row.is_due:
        return DUE
    return f"put off: {reason}" if reason else LATER


def _next(rows: Iterable[Any]) -> datetime | None:
    return min((one.next_attempt_at for one in rows if not one.is_due), default=None)


def _held(rows: list[tuple[Any, str]]) -> list[HeldGroup]:
    counted = Counter(reason for _, reason in rows)
    oldest = {reason: min(row.created_at for row, why in rows if why == reason) for reason in counted}
    return [HeldGroup(reason, count, oldest[reason]) for reason, count in counted.most_common(TOLD)]


def _failed(rows: list[tuple[Any, str]]) -> list[FailedGroup]:
    counted = Counter(reason for _, reason in rows)
    last = {reason: row for row, reason in reversed(rows)}
    return [
        FailedGroup(reason or NO_REASON, count, last[reason].finished_at, last[reason].id, last[reason].request_id)
        for reason, count in counted.most_common(TOLD)
    ]


# Of the outbox of each connection, some rows of each sort that somebody may ask about; those of an unknown connection
# are told where there is one alone. The first that are due, and the last to fail, come first: each in the order of an
# index, without which the whole outbox may be read for a connection that has nothing in it.
_ROWS = text("""
WITH known AS (
  SELECT name, name = CAST(:the_only_one AS text) AS is_alone
  FROM pg_catalog.unnest(CAST(:names AS text[])) AS given(name))
SELECT known.name AS of_connection, part.* FROM known CROSS JOIN LATERAL (
  (SELECT id, connection, status, value, last_error, request_id, created_at, finished_at, next_attempt_at,
          next_attempt_at <= now() AS is_due
   FROM mews.voucher_code_outbox WHERE connection = known.name AND left(status, 7) = 'pending'
   ORDER BY next_attempt_at, id LIMIT :looked_at)
  UNION ALL
  (SELECT id, connection, status, value, last_error, request_id, created_at, finished_at, next_attempt_at, false
   FROM mews.voucher_code_outbox WHERE connection = known.name AND status = 'held'
   ORDER BY finished_at LIMIT :looked_at)
  UNION ALL
  (SELECT id, connection, status, value, last_error, request_id, created_at, finished_at, next_attempt_at, false
   FROM mews.voucher_code_outbox WHERE connection = known.name AND status = 'failed'
   ORDER BY finished_at DESC LIMIT :looked_at)
  UNION ALL
  (SELECT id, connection, status, value, last_error, request_id, created_at, finished_at, next_attempt_at, true
   FROM mews.voucher_code_outbox
   WHERE connection = known.name AND status IN ('sending', 'uncertain') LIMIT :looked_at)
  UNION ALL
  (SELECT id, connection, status, value, last_error, request_id, created_at, finished_at, next_attempt_at, false
   FROM mews.voucher_code_outbox WHERE known.is_alone AND connection IS NULL AND status IN ('pending', 'held')
   LIMIT :looked_at)
  UNION ALL
  (SELECT id, connection, status, value, last_error, request_id, created_at, finished_at, next_attempt_at, false
   FROM mews.voucher_code_outbox WHERE known.is_alone AND connection IS NULL AND status = 'failed'
   ORDER BY finished_at DESC LIMIT :looked_at)
) AS part
""")
_CODES = text("""
SELECT word FROM pg_catalog.unnest(CAST(:words AS text[])) AS given(word)
WHERE EXISTS (SELECT FROM mews.voucher_codes WHERE value = word)
""")
