"""`voucher-sync outbox replace` and `voucher-sync outbox extend`."""

from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli.database import with_database
from sync.cli.outbox.work import note_doubtful, note_silence
from sync.cli.shapes import QueuedRows, queued_row
from sync.cli.terminal import echo_json
from sync.mirror.voucher_names import find_voucher
from sync.outbox.enqueue import Queued, doubtful_vouchers, user_transaction
from sync.outbox.pairs import CodeName, NewCode, queue_extension, queue_replacement
from sync.outbox.rules import Operation, Status
from sync.outbox.tables import UNFINISHED
from sync.postgres.engine import in_transaction
from sync.settings import load_settings


def queue_pair(
    *,
    voucher_code_id: UUID | None,
    voucher: str | None,
    old: str | None,
    new: str | None,
    validity_start_utc: Any,
    validity_end_utc: Any,
    as_json: bool,
    **others: Any,
) -> None:
    """Replace a code by `new`, or without one give it another validity; tell the two rows."""
    settings = load_settings()
    new_code = NewCode(validity_start_utc, validity_end_utc, **others)

    async def insert(tx: AsyncConnection) -> tuple[tuple[Queued, Queued], list[str]]:
        voucher_id = await find_voucher(tx, voucher)
        named = CodeName(voucher_code_id, voucher_id, old)
        if new is None:
            pair = await queue_extension(tx, named, new_code)
        else:
            pair = await queue_replacement(tx, named, new, new_code)
        return pair, await doubtful_vouchers(tx, [voucher_id] if voucher_id else [])

    async def work(engine: AsyncEngine) -> None:
        (first, second), doubtful = await in_transaction(engine, insert, user_transaction)
        if first.status is Status.PENDING:
            note_doubtful(doubtful)
        operations = (Operation.DELETE, Operation.ADD) if new is None else (Operation.ADD, Operation.DELETE)
        if as_json:
            echo_json(QueuedRows([*map(queued_row, (first, second), operations)]))
        else:
            _tell(first, operations[0])
            _tell(second, operations[1])
        if first.status in UNFINISHED or second.status in UNFINISHED:
            await note_silence(engine, settings.sync_lease_s)

    with_database(settings, work)


def _tell(queued: Queued, operation: Operation) -> None:
    before = "" if queued.is_new else ", queued before under the same key"
    why = f": {queued.last_error}" if queued.last_error else ""
    click.echo(f"Row {queued.id}, the {operation}, is {queued.status}{before}{why}")
