"""What the mirror knows of the codes that rows of the outbox name."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Interval, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mews.records import VoucherCode
from sync.outbox.rules import CLOCK_SKEW, Row
from sync.outbox.tables import IS_UNFINISHED
from sync.postgres.metadata import TIMESTAMP


async def named_by(tx: AsyncConnection, rows: Sequence[Row]) -> dict[int, tuple[list[UUID], list[UUID]]]:
    """The codes that deletes name, by row: those that are active, and those that are not, each newest first."""
    parameters = {
        "ids": [row.id for row in rows],
        "code_ids": [row.voucher_code_id for row in rows],
        "voucher_ids": [row.voucher_id for row in rows],
        "named_values": [row.value for row in rows],
    }
    named: dict[int, tuple[list[UUID], list[UUID]]] = {row.id: ([], []) for row in rows}
    for code in await tx.execute(_NAMED_BY, parameters):
        active, deleted = named[code.row_id]
        (active if code.is_usable else deleted).append(code.id)
    return named


async def unread_vouchers(tx: AsyncConnection, voucher_ids: Iterable[UUID], as_of: datetime) -> set[UUID]:
    """Vouchers that no pull has read for their connection which began by `as_of`: they became known, its own, or shown
    again, later.

    By the database's clock; what is noted in its future, since it was put back, keeps nobody waiting.
    """
    parameters = {"ids": sorted(set(voucher_ids)), "as_of": as_of}
    return set((await tx.execute(_UNREAD, parameters)).scalars())


async def made_for(tx: AsyncConnection, row_ids: Sequence[int], *, usable_only: bool) -> dict[int, UUID]:
    """The codes that earlier attempts of adds have made, by row, as far as the mirror has seen them.

    They are told by voucher and value, by a creation that is not older than the first attempt without an answer to rely
    on, by clocks that may differ, and by being neither another row's nor one that a row had deleted before the add was
    first sent. Missing a code that was made would have it made again. `usable_only`: leave out what was deleted since.
    """
    if not row_ids:
        return {}
    parameters = {"ids": list(row_ids), "usable_only": usable_only, "skew": CLOCK_SKEW}
    return {row.row_id: row.id for row in await tx.execute(_MADE_FOR, parameters)}


async def made_since_queued(
    tx: AsyncConnection, row_ids: Sequence[int], server_utc: datetime, *, usable_only: bool = True
) -> dict[int, UUID]:
    """Codes that the API has made since adds were queued, by row, and which no other row has made.

    Whoever made one, the add asks for nothing more; where the database has lost commits, it was this row. When a row
    was queued is told by the database's clock, so both clocks are compared by now: `server_utc` is the API's, and not
    later. A code without an instant of its creation counts from when the mirror first saw it.

    Unless `usable_only`, where there is no usable code one counts that was deleted since: an add whose commits are lost
    would make it again. What the mirror knew before the add was queued is another one, and so is what an earlier row
    had deleted.

    Of a row that a gap has held a usable code counts too that the mirror first saw after the gap or after the row was
    queued, whatever the clocks say: it may have been queued by the clock of another server, by one that was wrong, or
    again for one that is lost.
    """
    if not row_ids:
        return {}
    parameters = {"ids": list(row_ids), "server_utc": server_utc, "usable_only": usable_only, "skew": CLOCK_SKEW}
    return {row.row_id: row.id for row in await tx.execute(_MADE_SINCE_QUEUED, parameters)}


async def made_anew(tx: AsyncConnection, row_ids: Sequence[int], server_utc: datetime) -> set[tuple[int, UUID]]:
    """Active codes that the API has made after deletes by value were queued and carried out, each with its row.

    What the row means was there when it was queued, and has been deleted since; the clocks are compared as in
    `made_since_queued`. Not where an add that was queued before it may still be made: that one is what it means.
    """
    parameters = {"ids": list(row_ids), "server_utc": server_utc, "skew": CLOCK_SKEW}
    return {(row.row_id, row.id) for row in await tx.execute(_MADE_ANEW, parameters)}


async def made_among(tx: AsyncConnection, row_ids: Sequence[int], codes: Sequence[VoucherCode]) -> dict[int, UUID]:
    """As `made_for`, among codes that the API has and the mirror cannot hold."""
    if not row_ids or not codes:
        return {}
    parameters = {
        "ids": list(row_ids),
        "usable_only": False,
        "skew": CLOCK_SKEW,
        "code_ids": [code.id for code in codes],
        "voucher_ids": [code.voucher_id for code in codes],
        "named_values": [code.value for code in codes],
        "created": [code.created_utc for code in codes],
        "active": [code.is_active for code in codes],
    }
    return {row.row_id: row.id for row in await tx.execute(_MADE_AMONG, parameters)}


async def values_and_services(tx: AsyncConnection, row_ids: Sequence[int]) -> tuple[list[str], list[UUID]]:
    """The values that adds name, and the services of their vouchers, each once."""
    row = (await tx.execute(_VALUES_AND_SERVICES, {"ids": list(row_ids)})).one()
    return row.values or [], row.service_ids or []


async def stamps_what_it_adds(tx: AsyncConnection, connection: str) -> bool:
    """Whether the API gave the last code that it is known to have made for this connection its `UpdatedUtc`.

    A code without one is in no window (docs/mews-api.md, *Time intervals*), and may be told only by reading them all.
    """
    return bool((await tx.execute(_STAMPS, {"connection": connection})).scalar())


_UNREAD = text("""
SELECT voucher.id FROM mews.vouchers AS voucher LEFT JOIN sync.watermarks AS reached ON reached.voucher_id = voucher.id
WHERE voucher.id = ANY (:ids) AND (
  coalesce(reached.first_saved_at, voucher.mirrored_at) > :as_of
    AND coalesce(reached.first_saved_at, voucher.mirrored_at) <= now()
  OR EXISTS (
    SELECT FROM sync.skipped AS hidden
    WHERE hidden.connection = voucher.connection AND hidden.id IN (voucher.id, voucher.service_id)
      AND hidden.until > :as_of AND hidden.until <= now()
  ))
""").bindparams(bindparam("ids", type_=ARRAY(UUID_TYPE)), bindparam("as_of", type_=TIMESTAMP))

_NAMED_BY = text("""
WITH named AS (
  SELECT * FROM unnest(:ids, :code_ids, :voucher_ids, :named_values) AS given(row_id, code_id, voucher_id, value)
), codes AS (
  SELECT named.row_id, code.id, code.is_active AND code.missing_since IS NULL AS is_usable, code.updated_utc
  FROM named JOIN mews.voucher_codes AS code ON code.id = named.code_id
UNION ALL
  SELECT named.row_id, code.id, code.is_active AND code.missing_since IS NULL, code.updated_utc
  FROM named JOIN mews.voucher_codes AS code ON code.voucher_id = named.voucher_id AND code.value = named.value
  WHERE named.code_id IS NULL
)
SELECT row_id, id, is_usable FROM codes ORDER BY row_id, updated_utc DESC NULLS LAST, id
""").bindparams(
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("code_ids", type_=ARRAY(UUID_TYPE)),
    bindparam("voucher_ids", type_=ARRAY(UUID_TYPE)),
    bindparam("named_values", type_=ARRAY(Text)),
)

# Codes among `codes` that are new enough (`is_since`), that no row has made, and that none deleted which `was_before`.
_MADE = """
SELECT DISTINCT ON (row.id) row.id AS row_id, code.id
FROM mews.voucher_code_outbox AS row
JOIN {codes} AS code ON code.voucher_id = row.voucher_id AND code.value = row.value
WHERE row.id = ANY (:ids) AND {is_since}
  AND (code.is_active AND code.missing_since IS NULL OR NOT :usable_only AND code.first_seen_at >= row.created_at)
  AND NOT EXISTS (
    SELECT FROM mews.voucher_code_outbox AS other
    WHERE other.voucher_id = code.voucher_id AND other.value = code.value AND other.operation = 'add'
      AND other.status = 'done' AND other.voucher_code_id = code.id
  )
  AND NOT EXISTS (
    SELECT FROM mews.voucher_code_outbox AS other
    WHERE other.voucher_id = code.voucher_id AND other.value = code.value AND other.operation = 'delete'
      AND other.status = 'done' AND other.voucher_code_id = code.id AND {was_before}
  )
ORDER BY row.id, {is_first} DESC, code.created_utc, code.id
"""
_OF_ROWS = (
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("usable_only", type_=Boolean),
    bindparam("skew", type_=Interval),
)
# As `load_uncertain` reads it.
_SENT_SINCE = """coalesce(row.unknown_since_utc,
    CASE WHEN row.status = 'uncertain' THEN coalesce(row.first_sent_utc, row.created_at) END)"""
_SINCE_SENT = {
    "is_since": f"""{_SENT_SINCE} IS NOT NULL
  AND coalesce(code.created_utc >= {_SENT_SINCE} - :skew, code.first_seen_at >= row.created_at)""",
    "was_before": "other.finished_at < row.first_sent_at",
    "is_first": "code.is_active",
}
_SINCE_QUEUED = {
    "is_since": """(coalesce(
    code.created_utc >= least(row.created_at, row.created_at + (:server_utc - now())) - :skew,
    code.first_seen_at >= row.created_at)
  OR row.held_by_gap IS NOT NULL AND code.first_seen_at >= least(row.created_at, row.held_by_gap)
  AND code.is_active AND code.missing_since IS NULL)""",
    "was_before": "other.id < row.id",
    "is_first": "code.is_active AND code.missing_since IS NULL",
}
_MADE_FOR = text(_MADE.format(codes="mews.voucher_codes", **_SINCE_SENT)).bindparams(*_OF_ROWS)

_MADE_SINCE_QUEUED = text(_MADE.format(codes="mews.voucher_codes", **_SINCE_QUEUED)).bindparams(
    *_OF_ROWS, bindparam("server_utc", type_=TIMESTAMP)
)

_MADE_ANEW = text(
    f"""
WITH named AS (
  SELECT row.id, row.voucher_id, row.value, row.created_at, row.created_at + (:server_utc - now()) AS created_utc
  FROM mews.voucher_code_outbox AS row
  WHERE row.id = ANY (:ids) AND row.voucher_code_id IS NULL
)
SELECT named.id AS row_id, code.id
FROM named JOIN mews.voucher_codes AS code ON code.voucher_id = named.voucher_id AND code.value = named.value
WHERE code.is_active AND code.missing_since IS NULL
  AND code.created_utc > greatest(named.created_at, named.created_utc) + :skew
  AND EXISTS (
    SELECT FROM mews.voucher_codes AS earlier
    WHERE earlier.voucher_id = named.voucher_id AND earlier.value = named.value AND NOT earlier.is_active
      AND earlier.created_utc < named.created_utc - :skew AND earlier.updated_utc > named.created_utc - :skew
  )
  AND NOT EXISTS (
    SELECT FROM mews.voucher_code_outbox AS other
    WHERE other.voucher_id = named.voucher_id AND other.value = named.value AND other.operation = 'add'
      AND other.id < named.id AND other.{IS_UNFINISHED}
  )
"""  # noqa: S608 - a statement of our own
).bindparams(
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("server_utc", type_=TIMESTAMP),
    bindparam("skew", type_=Interval),
)

_GIVEN = """(
  SELECT given.*, now() AS first_seen_at, CAST(NULL AS timestamptz) AS missing_since
  FROM unnest(:code_ids, :voucher_ids, :named_values, :created, :active)
       AS given(id, voucher_id, value, created_utc, is_active)
)"""
_MADE_AMONG = text(_MADE.format(codes=_GIVEN, **_SINCE_SENT)).bindparams(
    *_OF_ROWS,
    bindparam("code_ids", type_=ARRAY(UUID_TYPE)),
    bindparam("voucher_ids", type_=ARRAY(UUID_TYPE)),
    bindparam("named_values", type_=ARRAY(Text)),
    bindparam("created", type_=ARRAY(TIMESTAMP)),
    bindparam("active", type_=ARRAY(Boolean)),
)

_VALUES_AND_SERVICES = text("""
SELECT pg_catalog.array_agg(DISTINCT row.value) AS values,
       pg_catalog.array_agg(DISTINCT voucher.service_id) AS service_ids
FROM mews.voucher_code_outbox AS row JOIN mews.vouchers AS voucher ON voucher.id = row.voucher_id
WHERE row.id = ANY (:ids)
""").bindparams(bindparam("ids", type_=ARRAY(BigInteger)))

_STAMPS = text("""
SELECT code.updated_utc IS NOT NULL
FROM mews.voucher_code_outbox AS row JOIN mews.voucher_codes AS code ON code.id = row.voucher_code_id
WHERE row.connection = :connection AND row.operation = 'add' AND row.status = 'done' AND code.is_active
ORDER BY row.finished_at DESC LIMIT 1
""").bindparams(bindparam("connection", type_=Text))
