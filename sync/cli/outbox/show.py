"""`voucher-sync outbox list` and `voucher-sync outbox show`."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.outbox.work import with_database
from sync.cli.terminal import is_shown_to_somebody
from sync.core.errors import VoucherSyncError
from sync.outbox.operator_moves import Wanted, counts, newest, row_with_attempts
from sync.outbox.rules import Operation, Status
from sync.postgres.engine import transaction

LISTED = ("id", "operation", "status", "voucher_id", "created_at", "attempts", "last_error", "note")


def list_rows(
    *,
    statuses: tuple[str, ...],
    operation: str | None,
    voucher_id: UUID | None,
    limit: int,
    with_values: bool,
    as_json: bool,
) -> None:
    """Print the newest rows, without their codes unless they are asked for, and how many there are of each status."""
    wanted = Wanted([Status(one) for one in statuses], Operation(operation) if operation else None, voucher_id)

    rows, numbers = with_database(partial(_load, wanted=wanted, limit=limit))
    if not with_values:
        rows = [_without_code(row) for row in rows]
    if as_json:
        click.echo(json.dumps({"rows": rows, "counts": numbers}, default=_for_json))
        return
    _print(rows, (*LISTED, "value") if with_values else LISTED)
    told = ", ".join(f"{number:,} {status}" for status, number in numbers.items())
    click.echo(f"In all: {told}." if told else "Nothing is queued.")


def _without_code(row: Mapping[str, Any]) -> dict[str, Any]:
    # An application may well have taken the code as its key, and the API may quote it.
    shown = {name: value for name, value in row.items() if name not in {"value", "idempotency_key"}}
    if row["value"] and row["last_error"]:
        shown["last_error"] = row["last_error"].replace(row["value"], "***")
    return shown


async def _load(engine: AsyncEngine, *, wanted: Wanted, limit: int) -> tuple[list[dict[str, Any]], dict[Status, int]]:
    async with transaction(engine) as tx:
        return await newest(tx, wanted, limit), await counts(tx, wanted)


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if not is_shown_to_somebody():
        for row in rows:
            click.echo("\t".join(_words(row[name]) for name in columns))
    elif rows:
        table = Table(*(name.replace("_", " ") for name in columns))
        for row in rows:
            table.add_row(*(Text(_words(row[name])) for name in columns))
        Console().print(table)


def show(row_id: int, *, as_json: bool) -> None:
    """Print everything about one row, and its attempts."""

    async def work(engine: AsyncEngine) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        async with transaction(engine) as tx:
            return await row_with_attempts(tx, row_id)

    if (found := with_database(work)) is None:
        raise VoucherSyncError(f"the outbox has no row {row_id}: see `voucher-sync outbox list`")
    row, tries = found
    if as_json:
        click.echo(json.dumps({**row, "attempt_log": tries}, default=_for_json))
        return
    _print_fields(row, "")
    for number, one in enumerate(tries, 1):
        click.echo(f"attempt {number}:")
        _print_fields({name: value for name, value in one.items() if name != "outbox_id"}, "  ")


def _print_fields(row: Mapping[str, Any], indent: str) -> None:
    for name, value in row.items():
        if value is not None:
            click.echo(f"{indent}{name}: {_words(value)}")


def _words(value: object) -> str:
    """For a terminal or a line: notes and the API's messages may hold what would move the cursor, or break the line."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return "".join(one if one.isprintable() else " " for one in str(value))


def _for_json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
