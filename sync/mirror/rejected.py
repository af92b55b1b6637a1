"""Records from the API that the mirror cannot hold, kept as they came."""

import hashlib
from collections.abc import Collection, Sequence

from sqlalchemy import LargeBinary, Text, any_, case, cast, delete, exists, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, UUID, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.store import refuse_purged
from sync.connection.tables import enterprises
from sync.mews.records import Rejected
from sync.mirror.tables import rejected_records, services, voucher_codes, vouchers
from sync.mirror.windows import chunks
from sync.postgres.metadata import ROWS_PER_STATEMENT

ALTERED = "00000"
"""In place of a code, where a trigger or rule drops or alters a row without an error."""
TABLES = {"VoucherCodes": voucher_codes, "Vouchers": vouchers, "Services": services, "Enterprises": enterprises}


async def keep(tx: AsyncConnection, connection: str, records: Sequence[Rejected]) -> int:
    """Keep records raw, each once however often it comes; how many were new.

    As `store_voucher_codes`, it keeps nothing of a connection that was purged.
    """
    rows = [
        {
            "connection": connection,
            "digest": digest(record.raw),
            "kind": record.kind,
            "record_id": record.record_id,
            "raw": record.raw,
            "reason": record.reason,
            "sqlstate": record.sqlstate,
        }
        for record in records
    ]
    new = 0
    for some in chunks(rows, ROWS_PER_STATEMENT):
        new += (await tx.execute(insert(rejected_records).values(some).on_conflict_do_nothing())).rowcount
    if new:
        await refuse_purged(tx, connection)
    return new


async def forget_stored(tx: AsyncConnection, connection: str) -> int:
    """Forget records that the database refused and has taken since; how many. Of what it alters only an audit knows."""
    of_connection = rejected_records.c.connection == connection
    aside = (of_connection, rejected_records.c.sqlstate.is_not(None), rejected_records.c.sqlstate != ALTERED)
    kinds = (await tx.execute(select(rejected_records.c.kind).where(*aside).distinct())).scalars().all()
    # What cannot be read at all may have any id.
    record_id = cast(case((rejected_records.c.sqlstate.is_not(None), rejected_records.c.record_id)), UUID)
    forgotten = 0
    for kind in TABLES.keys() & set(kinds):
        stored = TABLES[kind]
        is_stored = (stored.c.id == record_id, stored.c.mirrored_at >= rejected_records.c.first_seen_at)
        # A voucher that is refused may stand there bare, which says nothing of it.
        is_whole = [stored.c.updated_utc.is_not(None)] if stored is vouchers else []
        of_kind = rejected_records.c.kind == kind
        statement = delete(rejected_records).where(*aside, of_kind, *is_stored, *is_whole)
        forgotten += (await tx.execute(statement)).rowcount
    return forgotten


async def forget(tx: AsyncConnection, connection: str, kind: str, record_ids: Sequence[str]) -> None:
    """Forget records of these ids, since they could be read, and the database has taken them."""
    of_kind = (rejected_records.c.connection == connection, rejected_records.c.kind == kind)
    is_taken = rejected_records.c.record_id == any_(literal(list(record_ids), ARRAY(Text)))
    await tx.execute(delete(rejected_records).where(*of_kind, is_taken))


async def forget_unlisted(
    tx: AsyncConnection, connection: str, kinds: Collection[str], unreadable: Collection[bytes]
) -> None:
    """Forget what could not be read of these kinds and is listed no more; `unreadable`: by digest, what still is."""
    of_kinds = (rejected_records.c.connection == connection, rejected_records.c.kind.in_(kinds))
    is_listed = rejected_records.c.digest == any_(literal(list(unreadable), ARRAY(LargeBinary)))
    await tx.execute(delete(rejected_records).where(*of_kinds, rejected_records.c.sqlstate.is_(None), ~is_listed))


async def refused_before(tx: AsyncConnection, connection: str, raws: Sequence[str]) -> set[str]:
    """Those of the raw texts that the database refused before."""
    texts = {digest(raw): raw for raw in raws}
    known = (rejected_records.c.connection == connection, rejected_records.c.sqlstate.is_not(None))
    digests = any_(literal(list(texts), ARRAY(LargeBinary)))
    found = select(rejected_records.c.digest).where(*known, rejected_records.c.digest == digests)
    return {texts[one] for one in (await tx.execute(found)).scalars()}


async def has_any(tx: AsyncConnection, connection: str) -> bool:
    """Whether anything is kept that could not be stored."""
    return bool((await tx.execute(select(exists().where(rejected_records.c.connection == connection)))).scalar_one())


def digest(raw: str) -> bytes:
    """By which a record is told from others."""
    return hashlib.sha256(raw.encode()).digest()
