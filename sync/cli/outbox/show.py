"""`voucher-sync outbox list`, `show` and `reasons`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Any

import click
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.database import with_database
from sync.cli.outbox.wanted import find_wanted
from sync.cli.terminal import as_cell, for_json, is_shown_to_somebody, plain_table, print_table
from sync.core.errors import VoucherSyncError
from sync.outbox.listing import Reason, counts, mirrored, newest, reasons, row_with_attempts, without_code
from sync.outbox.rules import Status
from sync.postgres.snapshot import snapshot
from sync.settings import load_settings

LISTED = ("id", "operation", "status", "voucher_id", "created_at", "attempts", "last_error", "note")
"""Columns of a line off a terminal."""


def list_rows(*, limit: int, with_values: bool, as_json: bool, **asked: Any) -> None:
    """Print the newest rows, without their codes unless they are asked for, and how many there are of each status."""
    value = asked.get("value")

    async def load(engine: AsyncEngine) -> tuple[list[dict[str, Any]], dict[Status, int], list[dict[str, Any]]]:
        async with snapshot(engine) as tx:
            wanted = await find_wanted(tx, asked)
            codes = await mirrored(tx, value) if value else []
            return await newest(tx, wanted, limit), await counts(tx, wanted), codes

    rows, numbers, codes = with_database(load_settings(), load)
    if not with_values:
        rows = [without_code(row) for row in rows]
    if as_json:
        found = {"rows": rows, "counts": numbers} | ({"mirrored": codes} if value else {})
        click.echo(json.dumps(found, default=for_json))
        return
    _print(rows, with_values=with_values)
    told = ", ".join(f"{number:,} {status}" for status, number in numbers.items())
    click.echo(f"In all: {told}." if told else "Nothing is queued.")
    if value:
        for code in codes:
            click.echo(f"In the mirror: {_told_code(code)}.")
        if not codes:
            click.echo("In the mirror: no such code.")


def _told_code(code: Mapping[str, Any]) -> str:
    state = "active" if code["is_active"] else "deleted"
    if code["missing_since"]:
        state = f"missing in Mews since {as_cell(code['missing_since'])}"
    validity = f", from {as_cell(code['validity_start_utc'])}" if code["validity_start_utc"] else ""
    validity += f", to {as_cell(code['validity_end_utc'])}" if code["validity_end_utc"] else ""
    return f"{state} in voucher {as_cell(code['voucher_name'])} ({code['voucher_id']}){validity}, id {code['id']}"


def _print(rows: Sequence[Mapping[str, Any]], *, with_values: bool) -> None:
    if not is_shown_to_somebody():
        columns = (*LISTED, *(["value"] if with_values else []), "voucher_name")
        for row in rows:
            click.echo("\t".join(as_cell(row[name]) for name in columns))
    elif rows:
        _print_table(rows, with_values=with_values)


def _print_table(rows: Sequence[Mapping[str, Any]], *, with_values: bool) -> None:
    """80 columns have room for it: columns that are empty in every row are left out, and words wrap."""
    optional = (*(["value"] if with_values else []), "note", "changed_by")
    shown = [name for name in optional if any(row.get(name) for row in rows)]
    table = plain_table("id", "operation", "status", "queued", "tries", "voucher", *shown, "why")
    for row in rows:
        voucher = row["voucher_name"] or row["voucher_id"]
        when = f"{row['created_at'].astimezone(UTC):%m-%d %H:%M}"
        first = (row["id"], row["operation"], row["status"], when, row["attempts"], voucher)
        cells = (*first, *(row[name] for name in shown), row["last_error"])
        table.add_row(*(Text(as_cell(cell)) for cell in cells))
    print_table(table)


def show(row_id: int, *, as_json: bool) -> None:
    """Print everything about one row, and its attempts."""

    async def work(engine: AsyncEngine) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        async with snapshot(engine) as tx:
            return await row_with_attempts(tx, row_id)

    if (found := with_database(load_settings(), work)) is None:
        raise VoucherSyncError(f"the outbox has no row {row_id}: see `voucher-sync outbox list`")
    row, tries = found
    if as_json:
        click.echo(json.dumps({**row, "attempt_log": tries}, default=for_json))
        return
    _print_fields(row, "")
    for number, one in enumerate(tries, 1):
        click.echo(f"attempt {number}:")
        _print_fields({name: value for name, value in one.items() if name != "outbox_id"}, "  ")


def show_reasons(*, as_json: bool, **asked: Any) -> None:
    """Print why rows failed or wait, and how many for each reason."""

    async def work(engine: AsyncEngine) -> list[Reason]:
        async with snapshot(engine) as tx:
            return await reasons(tx, await find_wanted(tx, asked))

    found = with_database(load_settings(), work)
    if as_json:
        click.echo(json.dumps({"reasons": [asdict(one) for one in found]}, default=for_json))
    elif not is_shown_to_somebody():
        for one in found:
            cells = (one.number, one.operation, one.status, one.last_id, one.last_at, one.reason)
            click.echo("\t".join(map(as_cell, cells)))
    elif found:
        table = plain_table("rows", "operation", "status", "last row", "at", "reason")
        for one in found:
            when = f"{one.last_at.astimezone(UTC):%m-%d %H:%M}"
            told = (one.number, one.operation, one.status, one.last_id, when, one.reason)
            table.add_row(*(Text(as_cell(cell)) for cell in told))
        print_table(table)
    else:
        click.echo("No such row says why.")


def _print_fields(row: Mapping[str, Any], indent: str) -> None:
    for name, value in row.items():
        if value is not None:
            click.echo(f"{indent}{name}: {as_cell(value)}")
