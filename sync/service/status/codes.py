"""How many codes are mirrored: counted where that is quick, else as the kept counts or PostgreSQL's statistics say."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.tables import voucher_codes

COUNTED_UP_TO_BYTES = 16 * 2**20
"""Of the table: about 100,000 codes, which are counted in some 20 ms. Ten million would take seconds."""


async def count_codes(tx: AsyncConnection, names: Sequence[str]) -> tuple[dict[str, int], bool]:
    """The number of codes by connection, and whether it is an estimate; without one where nothing tells."""
    size = (await tx.execute(_SIZE)).one()
    if size.bytes <= COUNTED_UP_TO_BYTES:
        counted = select(voucher_codes.c.connection, func.count().label("number")).group_by(voucher_codes.c.connection)
        return dict.fromkeys(names, 0) | {row.connection: row.number for row in await tx.execute(counted)}, False
    if len(names) == 1:
        return {names[0]: int((await tx.execute(_KEPT, {"name": names[0]})).scalar_one())}, False
    if size.reltuples <= 0 or not size.relpages:
        return {}, True
    total = size.reltuples * (size.bytes / size.block) / size.relpages
    return _shared(total, (await tx.execute(_SHARES)).one_or_none(), names), True


def _shared(total: float, shares: Any, names: Sequence[str]) -> dict[str, int]:
    """What the most common connections have, and of the rest an equal part for each."""
    if shares is None or shares.names is None:
        return {}
    common = dict(zip(shares.names, shares.frequencies, strict=True))
    others = [name for name in names if name not in common]
    each = max(0.0, 1 - sum(common.values())) / max(1, len(others))
    return {name: round(total * common.get(name, each)) for name in names}


_SIZE = text("""
SELECT pg_relation_size(oid::regclass) AS bytes, reltuples, relpages, current_setting('block_size')::integer AS block
FROM pg_class WHERE oid = CAST('mews.voucher_codes' AS regclass)::oid
""")
# Not of all: what a connection that was removed has mirrored may have stayed.
_KEPT = text("""
SELECT coalesce(sum(issued), 0) FROM sync.code_counts AS count JOIN mews.vouchers AS voucher ON voucher.id = voucher_id
WHERE voucher.connection = :name
""")
_SHARES = text("""
SELECT CAST(CAST(most_common_vals AS text) AS text[]) AS names, most_common_freqs AS frequencies FROM pg_stats
WHERE schemaname = 'mews' AND tablename = 'voucher_codes' AND attname = 'connection'
""")
