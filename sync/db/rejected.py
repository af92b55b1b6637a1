"""Records from the API that the mirror cannot hold, kept as they came."""

import hashlib
from collections.abc import Sequence

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db.tables import rejected_records
from sync.model.records import Rejected


async def keep(transaction: AsyncConnection, connection: str, records: Sequence[Rejected]) -> int:
    """Keep records raw, each once however often it comes; how many were new."""
    if not records:
        return 0
    rows = [
        {
            "connection": connection,
            "digest": hashlib.sha256(record.raw.encode()).digest(),
            "kind": record.kind,
            "record_id": record.record_id,
            "raw": record.raw,
            "reason": record.reason,
        }
        for record in records
    ]
    result = await transaction.execute(insert(rejected_records).values(rows).on_conflict_do_nothing())
    return result.rowcount
