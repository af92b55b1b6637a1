"""Many adds at once: copied into a table of the transaction's own, checked there as a whole, then queued.

Everything is one `user_transaction`, and nothing here holds more than a few rows in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from psycopg import AsyncCopy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import NotAllowed
from sync.outbox.bulk.files import BadLine, CodeLine
from sync.outbox.tables import IS_UNFINISHED

ROWS_PER_STATEMENT = 10_000


async def create_staging(tx: AsyncConnection) -> None:
    """Make the transaction's table. `NotAllowed` for a user who may make no temporary ones."""
    if grant := (await tx.execute(_MISSING_GRANT)).scalar_one_or_none():
        raise NotAllowed(
            "this user of the database may make no temporary table, which many codes are checked in before they are "
            f"queued; let its owner run: {grant}"
        )
    # Plans, the trigger's too, are made while the outbox may be empty, and kept while a million rows arrive.
    await tx.execute(text("SET LOCAL enable_seqscan = off"))
    await tx.execute(_CREATE)


@asynccontextmanager
async def staging(tx: AsyncConnection) -> AsyncIterator[AsyncCopy]:
    """Takes `CodeLine`s by `write_row`; no other statement may run meanwhile."""
    raw = await tx.get_raw_connection()
    connection = raw.driver_connection
    assert connection is not None  # noqa: S101 - only a closed connection has none
    try:
        async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            yield copy
    except asyncio.CancelledError:
        # In the middle of a COPY a connection takes no ROLLBACK; closed, the server rolls back.
        await tx.invalidate()
        raise


async def analyze_staged(tx: AsyncConnection) -> None:
    """Count what is staged, once that is complete: without it, the checks are planned for an empty table."""
    await tx.execute(text("ANALYZE pg_temp.staged_adds"))


async def forget_repeated(tx: AsyncConnection) -> int:
    """Drop lines that were queued before under their idempotency key; how many."""
    return (await tx.execute(_FORGET_REPEATED)).rowcount


async def refuse_bad(tx: AsyncConnection) -> int:
    """Mark lines that cannot be queued beside each other, or beside what is there already; how many."""
    return sum([(await tx.execute(check)).rowcount for check in _CHECKS])


async def first_refused(tx: AsyncConnection, limit: int) -> list[BadLine]:
    """The first lines that are marked, with the reasons."""
    return [BadLine(row.line, row.refusal) for row in await tx.execute(_FIRST_REFUSED, {"limit": limit})]


async def staged_vouchers(tx: AsyncConnection, limit: int) -> list[UUID]:
    """Vouchers that lines name, as far as `limit`."""
    return [row.voucher_id for row in await tx.execute(_VOUCHERS, {"limit": limit})]


async def drop_taken(tx: AsyncConnection) -> list[int]:
    """Drop lines whose code exists, or was ever queued as an add, for the same voucher; their numbers."""
    return [row.line for row in await tx.execute(_DROP_TAKEN)]


async def refuse_anywhere(tx: AsyncConnection) -> int:
    """Mark lines whose value exists in any voucher, is queued for one, or stands in a line before; how many."""
    return sum([(await tx.execute(check)).rowcount for check in _CHECKS_ANYWHERE])


async def refuse_values(tx: AsyncConnection, values: Sequence[str]) -> int:
    """Mark lines with values that the API has found; how many."""
    return (await tx.execute(_REFUSE_FOUND, {"values": list(values)})).rowcount


async def refuse_unseen(tx: AsyncConnection, hotels: Sequence[UUID]) -> int:
    """Mark lines for vouchers of other hotels than these; how many."""
    return (await tx.execute(_REFUSE_UNSEEN, {"hotels": list(hotels)})).rowcount


async def count_good(tx: AsyncConnection) -> int:
    """The number of lines that are not marked."""
    return int((await tx.execute(_COUNT_GOOD)).scalar_one())


async def good_values(tx: AsyncConnection, limit: int) -> AsyncIterator[list[str]]:
    """The values of lines that are not marked, in their order, up to `limit` at a time."""
    last = 0
    while rows := (await tx.execute(_VALUES, {"after": last, "limit": limit})).all():
        yield [row.value for row in rows]
        last = rows[-1].line


async def staged_values(tx: AsyncConnection) -> AsyncIterator[str]:
    """The codes that are staged, in their order."""
    async for values in good_values(tx, ROWS_PER_STATEMENT):
        for value in values:
            yield value


async def queue_staged(tx: AsyncConnection, last_line: int, priority: int) -> AsyncIterator[tuple[int, int]]:
    """Queue what is not refused, part by part; after each, the line that it reached, and how many rows it queued."""
    for after in range(0, last_line, ROWS_PER_STATEMENT):
        part = {"after": after, "through": after + ROWS_PER_STATEMENT, "priority": priority}
        yield min(part["through"], last_line), (await tx.execute(_QUEUE, part)).rowcount


# Whoever hardens a server takes this from PUBLIC, which every user has it by.
_MISSING_GRANT = text("""
SELECT pg_catalog.format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user)
WHERE NOT has_database_privilege(current_database()::text, 'TEMPORARY')
""")

_CREATE = text("""
CREATE TEMP TABLE staged_adds (
  line bigint PRIMARY KEY, voucher_id uuid NOT NULL, value text NOT NULL, validity_start_utc timestamptz,
  validity_end_utc timestamptz, not_before timestamptz, note text, idempotency_key text, refusal text
) ON COMMIT DROP
""")

_COPY = f"COPY pg_temp.staged_adds ({', '.join(CodeLine._fields)}) FROM STDIN"

_SAME_CHANGE = """
  row.status <> 'cancelled' AND row.operation = 'add'
  AND (row.voucher_id, row.value) = (staged.voucher_id, staged.value)
  AND (row.validity_start_utc, row.validity_end_utc)
      IS NOT DISTINCT FROM (staged.validity_start_utc, staged.validity_end_utc)
"""

# Each line looks up its own neighbours, by LIMIT 1 in a subquery: joined as tables, an outbox that was just filled and
# not yet analysed gets a plan that takes minutes for 100,000 lines (measured: 240 s, against 2 s).
_FORGET_REPEATED = text(f"""
DELETE FROM pg_temp.staged_adds AS staged
WHERE idempotency_key IS NOT NULL AND (
  SELECT {_SAME_CHANGE} FROM mews.voucher_code_outbox AS row
  WHERE row.queued_by COLLATE "C" = session_user
    AND row.idempotency_key COLLATE "C" = staged.idempotency_key LIMIT 1
)
""")  # noqa: S608 - of constants

_REFUSE_USED_KEY = text("""
WITH found AS MATERIALIZED (
  SELECT line, (
    SELECT id FROM mews.voucher_code_outbox AS row
    WHERE row.queued_by COLLATE "C" = session_user
    AND row.idempotency_key COLLATE "C" = staged.idempotency_key LIMIT 1
  ) AS id FROM pg_temp.staged_adds AS staged WHERE idempotency_key IS NOT NULL
)
UPDATE pg_temp.staged_adds AS staged
SET refusal = pg_catalog.format(
  'idempotency_key: row %s of the outbox has the same key, and asks for something else or was cancelled', found.id)
FROM found WHERE found.line = staged.line AND found.id IS NOT NULL
""")

_REFUSE_SAME_KEY = text("""
UPDATE pg_temp.staged_adds AS staged
SET refusal = pg_catalog.format('idempotency_key: line %s has the same', earlier.first_line)
FROM (
  SELECT line, min(line) OVER (PARTITION BY idempotency_key COLLATE "C") AS first_line
  FROM pg_temp.staged_adds WHERE idempotency_key IS NOT NULL AND refusal IS NULL
) AS earlier WHERE earlier.line = staged.line AND earlier.first_line < staged.line
""")

_REFUSE_SAME_CODE = text("""
UPDATE pg_temp.staged_adds AS staged SET refusal = pg_catalog.format('value: line %s has the same', earlier.first_line)
FROM (
  SELECT line, min(line) OVER (PARTITION BY voucher_id, value COLLATE "C") AS first_line
  FROM pg_temp.staged_adds WHERE refusal IS NULL
) AS earlier WHERE earlier.line = staged.line AND earlier.first_line < staged.line
""")

_REFUSE_QUEUED = text(f"""
WITH found AS MATERIALIZED (
  SELECT line, (
    SELECT id FROM mews.voucher_code_outbox AS row
    WHERE row.operation = 'add' AND row.{IS_UNFINISHED}
      AND row.voucher_id = staged.voucher_id AND row.value COLLATE "C" = staged.value LIMIT 1
  ) AS id FROM pg_temp.staged_adds AS staged WHERE refusal IS NULL
)
UPDATE pg_temp.staged_adds AS staged
SET refusal = pg_catalog.format('value: is queued already, as row %s of the outbox', found.id)
FROM found WHERE found.line = staged.line AND found.id IS NOT NULL
""")  # noqa: S608 - of constants

# A code may come again for another time, or after a delete that is queued before it.
_REFUSE_EXISTING = text(f"""
UPDATE pg_temp.staged_adds AS staged SET refusal = 'value: exists already, as an active code for the same time'
WHERE refusal IS NULL AND (
  SELECT true FROM mews.voucher_codes AS code
  WHERE code.voucher_id = staged.voucher_id AND code.value = staged.value
    AND code.is_active AND code.missing_since IS NULL
    AND coalesce(code.validity_end_utc, 'infinity') > coalesce(staged.validity_start_utc, '-infinity')
    AND coalesce(staged.validity_end_utc, 'infinity') > coalesce(code.validity_start_utc, '-infinity')
  LIMIT 1
) AND (
  SELECT true FROM mews.voucher_code_outbox AS row
  WHERE row.operation = 'delete' AND row.{IS_UNFINISHED}
    AND row.voucher_id = staged.voucher_id AND row.value = staged.value LIMIT 1
) IS NULL
""")  # noqa: S608 - of constants

_REFUSE_LONG_KEY = text("""
UPDATE pg_temp.staged_adds AS staged
SET refusal = pg_catalog.format('idempotency_key: has %s characters, 255 are the most', char_length(idempotency_key))
WHERE char_length(idempotency_key) > 255
""")

# The file's own lines come last: only one that may be queued stands in another's way.
_CHECKS = (_REFUSE_LONG_KEY, _REFUSE_USED_KEY, _REFUSE_QUEUED, _REFUSE_EXISTING, _REFUSE_SAME_KEY, _REFUSE_SAME_CODE)

_FIRST_REFUSED = text(
    "SELECT line, refusal FROM pg_temp.staged_adds WHERE refusal IS NOT NULL ORDER BY line LIMIT :limit"
)

_VOUCHERS = text("SELECT DISTINCT voucher_id FROM pg_temp.staged_adds ORDER BY voucher_id LIMIT :limit")

_DROP_TAKEN = text("""
DELETE FROM pg_temp.staged_adds AS staged
WHERE (
    SELECT true FROM mews.voucher_codes AS code
    WHERE code.voucher_id = staged.voucher_id AND code.value = staged.value LIMIT 1
  ) OR (
    SELECT true FROM mews.voucher_code_outbox AS row
    WHERE row.operation = 'add' AND row.voucher_id = staged.voucher_id AND row.value = staged.value LIMIT 1
  )
RETURNING line
""")

_REFUSE_EXISTING_ANYWHERE = text("""
WITH found AS MATERIALIZED (
  SELECT line, (
    SELECT pg_catalog.format('value: exists already, as %s code of voucher %s',
      CASE WHEN code.is_active THEN 'an active' ELSE 'a deleted' END, code.voucher_id)
    FROM mews.voucher_codes AS code WHERE code.value = staged.value AND code.missing_since IS NULL
    ORDER BY code.is_active DESC LIMIT 1
  ) AS refusal FROM pg_temp.staged_adds AS staged WHERE refusal IS NULL
)
UPDATE pg_temp.staged_adds AS staged SET refusal = found.refusal
FROM found WHERE found.line = staged.line AND found.refusal IS NOT NULL
""")

_REFUSE_QUEUED_ANYWHERE = text(f"""
WITH queued AS MATERIALIZED (
  SELECT DISTINCT ON (value) value, id, voucher_id FROM mews.voucher_code_outbox
  WHERE operation = 'add' AND {IS_UNFINISHED} ORDER BY value, id
)
UPDATE pg_temp.staged_adds AS staged
SET refusal = pg_catalog.format(
  'value: is queued already, as row %s of the outbox, for voucher %s', queued.id, queued.voucher_id)
FROM queued WHERE queued.value = staged.value AND staged.refusal IS NULL
""")  # noqa: S608 - of constants

_REFUSE_SAME_VALUE = text("""
UPDATE pg_temp.staged_adds AS staged
SET refusal = pg_catalog.format('value: line %s has the same, for another voucher', earlier.first_line)
FROM (
  SELECT line, min(line) OVER (PARTITION BY value COLLATE "C") AS first_line
  FROM pg_temp.staged_adds WHERE refusal IS NULL
) AS earlier WHERE earlier.line = staged.line AND earlier.first_line < staged.line
""")

_CHECKS_ANYWHERE = (_REFUSE_EXISTING_ANYWHERE, _REFUSE_QUEUED_ANYWHERE, _REFUSE_SAME_VALUE)

_REFUSE_FOUND = text("""
UPDATE pg_temp.staged_adds SET refusal = 'value: exists already: the API finds it, and the mirror does not show it yet'
WHERE value = ANY (CAST(:values AS text[])) AND refusal IS NULL
""")

_REFUSE_UNSEEN = text("""
UPDATE pg_temp.staged_adds
SET refusal = 'voucher_id: is of a hotel that this token does not see, so what exists there is not known'
WHERE voucher_id IN (SELECT id FROM mews.vouchers WHERE enterprise_id <> ALL (CAST(:hotels AS uuid[])))
  AND refusal IS NULL
""")

_COUNT_GOOD = text("SELECT count(*) FROM pg_temp.staged_adds WHERE refusal IS NULL")

_VALUES = text(
    "SELECT line, value FROM pg_temp.staged_adds WHERE line > :after AND refusal IS NULL ORDER BY line LIMIT :limit"
)

_QUEUE = text("""
INSERT INTO mews.voucher_code_outbox
  (operation, voucher_id, value, validity_start_utc, validity_end_utc, not_before, note, idempotency_key, priority)
SELECT 'add', voucher_id, value, validity_start_utc, validity_end_utc, not_before, note, idempotency_key, :priority
FROM pg_temp.staged_adds WHERE line > :after AND line <= :through AND refusal IS NULL ORDER BY line
""")
