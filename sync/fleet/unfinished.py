"""What keeps a connection from its removal: changes that are queued for it, and that nobody would finish."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import VoucherSyncError
from sync.outbox.tables import IS_UNFINISHED


async def refuse_unfinished(tx: AsyncConnection, name: str) -> None:
    """`VoucherSyncError` where changes that are queued for a connection are not finished."""
    counts = {row.status: row.number for row in await tx.execute(_UNFINISHED, {"of_name": name})}
    if counts:
        told = ", ".join(f"{number:,} {status}" for status, number in sorted(counts.items()))
        raise VoucherSyncError(
            f"connection {name}: changes that are queued for it are not finished ({told}): let the daemon finish them, "
            f"or take them back with `voucher-sync outbox cancel`; `voucher-sync connections pause` stops it meanwhile"
        )


_UNFINISHED = text(f"""
SELECT status, count(*) AS number FROM mews.voucher_code_outbox
WHERE connection = :of_name AND {IS_UNFINISHED} GROUP BY status
""")  # noqa: S608 - put together of constants
