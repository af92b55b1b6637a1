"""Queueing single changes, and moving what is queued."""

import sys
from functools import partial
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli.database import with_database
from sync.cli.outbox.work import note_doubtful, note_silence
from sync.cli.shapes import MovedRows, QueuedRows, queued_row
from sync.cli.terminal import echo_json
from sync.mirror.voucher_names import find_voucher
from sync.outbox.enqueue import Change, Queued, doubtful_vouchers, queue, user_transaction
from sync.outbox.operator_moves import CANCEL, MAX_NAMED, RELEASE, RETRY, Move, Moved, move_all, move_rows
from sync.outbox.rules import Operation, Status
from sync.outbox.tables import UNFINISHED
from sync.postgres.engine import in_transaction
from sync.settings import load_settings

MOVES: dict[str, tuple[Move, str]] = {
    "retry": (RETRY, "pending again"),
    "cancel": (CANCEL, "cancelled"),
    "release": (RELEASE, "pending"),
}
"""By its command: the move, and what is said of rows that made it."""


def queue_change(operation: Operation, *, as_json: bool, **asked: Any) -> None:
    """Queue one change, given by the other fields of `Change`, and tell its row."""
    settings, named = load_settings(), asked.pop("voucher")

    async def insert(tx: AsyncConnection) -> tuple[Queued, list[str]]:
        change = Change(operation=operation, voucher_id=await find_voucher(tx, named), **asked)
        queued = await queue(tx, change)
        return queued, await doubtful_vouchers(tx, [change.voucher_id] if change.voucher_id else [])

    async def work(engine: AsyncEngine) -> None:
        queued, doubtful = await in_transaction(engine, insert, user_transaction)
        if queued.status is Status.PENDING:
            note_doubtful(doubtful)
        if as_json:
            echo_json(QueuedRows([queued_row(queued, operation)]))
        else:
            before = "" if queued.is_new else ", queued before under the same key"
            why = f": {queued.last_error}" if queued.last_error and queued.status is not Status.PENDING else ""
            click.echo(f"Row {queued.id} is {queued.status}{before}{why}")
        if queued.status in UNFINISHED:
            await note_silence(engine, settings.sync_lease_s)

    with_database(settings, work)


def move(name: str, ids: tuple[int, ...], voucher: str | None, *, as_json: bool) -> None:
    """Make one of `MOVES` with these rows, or without any with all (of one voucher); tell which could not."""
    settings, (kind, done) = load_settings(), MOVES[name]

    async def work(engine: AsyncEngine) -> Moved:
        moved = await in_transaction(engine, partial(_move, kind, ids, voucher), user_transaction)
        if moved.count and kind.target in UNFINISHED:
            await note_silence(engine, settings.sync_lease_s)
        return moved

    moved = with_database(settings, work)
    if as_json:
        echo_json(MovedRows(moved.count, kind.target, dict(list(moved.unmoved.items())[:MAX_NAMED])))
    else:
        click.echo(f"{moved.count:,} {'row is' if moved.count == 1 else 'rows are'} {done}.")
        for row_id, why in list(moved.unmoved.items())[:MAX_NAMED]:
            click.echo(f"Row {row_id} {why}.", err=True)
    sys.exit(1 if moved.unmoved else 0)


async def _move(move: Move, ids: tuple[int, ...], voucher: str | None, tx: AsyncConnection) -> Moved:
    if ids:
        return await move_rows(tx, move, list(dict.fromkeys(ids)))
    return await move_all(tx, move, await find_voucher(tx, voucher))
