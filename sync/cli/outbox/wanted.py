"""Which rows of the outbox a command is asked for."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.voucher_names import find_voucher
from sync.outbox.listing import Wanted
from sync.outbox.rules import Operation, Status


async def find_wanted(tx: AsyncConnection, asked: dict[str, Any]) -> Wanted:
    """The rows that options of a command ask for; `asked` has some of `statuses`, `operation`, `voucher`, and the other
    fields of `Wanted`. Raises what `find_voucher` does.
    """
    others = {name: content for name, content in asked.items() if name not in {"statuses", "operation", "voucher"}}
    return Wanted(
        [Status(one) for one in asked.get("statuses", ())],
        Operation(asked["operation"]) if asked.get("operation") else None,
        await find_voucher(tx, asked.get("voucher")),
        **others,
    )
