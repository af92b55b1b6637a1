"""`voucher-sync outbox`: the group, queueing single changes, and moving what is queued."""

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli.outbox_generate import generate
from sync.cli.outbox_import import import_codes
from sync.cli.outbox_options import (
    WORDS,
    note_doubtful,
    option_from,
    option_not_before,
    option_note,
    option_to,
    option_voucher,
    with_database,
)
from sync.cli.outbox_show import list_rows, show
from sync.db.engine import in_transaction
from sync.db.outbox_control import CANCEL, MAX_NAMED, RELEASE, RETRY, Move, Moved, move_all, move_rows
from sync.db.outbox_queue import Change, Queued, doubtful_vouchers, queue, user_transaction
from sync.model.outbox import Operation, Status

MAX_ID = 2**63 - 1

option_key = click.option(
    "--key",
    "idempotency_key",
    type=WORDS,
    help="Idempotency key: queueing the same again does nothing.",
)


@click.group()
def outbox() -> None:
    """Queue adds and deletes of voucher codes, and control what is queued.

    The daemon (`voucher-sync run`) sends what is queued here, or by INSERT into mews.voucher_code_outbox.
    """


@outbox.command()
@option_voucher("The voucher that gets the code.", required=True)
@click.argument("value", type=WORDS)
@option_from
@option_to
@option_not_before
@option_key
@option_note
def add(**asked: Any) -> None:
    """Queue one code to be added.

    Instants are in ISO 8601, in UTC where they name no zone; a date is its first instant. A VALUE that begins with a
    dash goes behind `--`.

    \b
    Example:
      voucher-sync outbox add --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10 SUMMER-2027 --to 2027-09-01
    """
    _queue(Change(operation=Operation.ADD, **asked))


@outbox.command()
@click.option("--code", "voucher_code_id", metavar="ID", type=click.UUID, help="The code's id.")
@option_voucher("The code's voucher, where the code is named by its value.")
@click.argument("value", type=WORDS, required=False)
@option_not_before
@option_key
@option_note
def delete(**asked: Any) -> None:
    """Queue one code to be deleted, named by --code, or by --voucher and VALUE.

    An add of the same code that is not sent yet is taken back instead, and nothing is sent.

    \b
    Examples:
      voucher-sync outbox delete --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10 SUMMER-2027
      voucher-sync outbox delete --code 0f7c1c52-7a43-4c41-8d0e-5b8f2a6f1f77
    """
    named_by = {name for name in ("voucher_code_id", "voucher_id", "value") if asked[name] is not None}
    if named_by not in ({"voucher_code_id"}, {"voucher_id", "value"}):
        raise click.UsageError("name the code by --code ID, or by --voucher ID and its VALUE")
    _queue(Change(operation=Operation.DELETE, **asked))


def _queue(change: Change) -> None:
    async def insert(tx: AsyncConnection) -> tuple[Queued, dict[UUID, str]]:
        queued = await queue(tx, change)
        return queued, await doubtful_vouchers(tx, [change.voucher_id] if change.voucher_id else [])

    async def work(engine: AsyncEngine) -> None:
        queued, doubtful = await in_transaction(engine, insert, user_transaction)
        if queued.status is Status.PENDING:
            note_doubtful(doubtful)
        before = "" if queued.is_new else ", queued before under the same key"
        why = f": {queued.last_error}" if queued.last_error else ""
        click.echo(f"Row {queued.id} is {queued.status}{before}{why}")

    with_database(work)


def _mover(name: str, move: Move, done: str, explanation: str) -> None:
    """A command that moves rows. The three differ in the move and in their words only."""

    def run(ids: tuple[int, ...], is_all: bool, voucher_id: UUID | None) -> None:
        if bool(ids) == is_all or (voucher_id and not is_all):
            raise click.UsageError("give the rows' numbers, or --all, or --all --voucher ID")
        _tell(with_database(_moving(move, ids, voucher_id)), done)

    command: Callable[..., Any] = click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, MAX_ID))(
        run
    )
    command = click.option("--all", "is_all", is_flag=True, help="Every row that can be.")(command)
    command = option_voucher("With --all: only this voucher's.")(command)
    outbox.command(name, help=explanation)(command)


def _moving(move: Move, ids: tuple[int, ...], voucher_id: UUID | None) -> Callable[[AsyncEngine], Any]:
    async def move_them(tx: AsyncConnection) -> Moved:
        if ids:
            return await move_rows(tx, move, list(dict.fromkeys(ids)))
        return await move_all(tx, move, voucher_id)

    return lambda engine: in_transaction(engine, move_them, user_transaction)


def _tell(moved: Moved, done: str) -> None:
    click.echo(f"{moved.count:,} {'row is' if moved.count == 1 else 'rows are'} {done}.")
    for row_id, why in list(moved.unmoved.items())[:MAX_NAMED]:
        click.echo(f"Row {row_id} {why}.", err=True)
    sys.exit(1 if moved.unmoved else 0)


_mover(
    "retry",
    RETRY,
    "pending again",
    """Send again what failed.

    See `voucher-sync outbox show ID` for the reason first: what the API refused for good it refuses again.

    \b
    Examples:
      voucher-sync outbox retry 17 18
      voucher-sync outbox retry --all --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10
    """,
)
_mover(
    "cancel",
    CANCEL,
    "cancelled",
    """Take back what is pending or held.

    What is being sent cannot be taken back: queue the opposite change.

    \b
    Examples:
      voucher-sync outbox cancel 17
      voucher-sync outbox cancel --all --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10
    """,
)
_mover(
    "release",
    RELEASE,
    "pending",
    """Let go what the mass-delete brake holds.

    Look at it first: `voucher-sync outbox list --status held`.

    \b
    Examples:
      voucher-sync outbox release 17 18
      voucher-sync outbox release --all
    """,
)

for command in (import_codes, generate, list_rows, show):
    outbox.add_command(command)
