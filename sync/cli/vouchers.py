"""`voucher-sync vouchers`."""

import json
from dataclasses import asdict

import click
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.database import with_database
from sync.cli.terminal import as_cell, for_json, is_shown_to_somebody, plain_table, print_table
from sync.mirror.voucher_names import ListedVoucher, list_vouchers
from sync.postgres.engine import transaction
from sync.settings import load_settings


def vouchers(*, with_deleted: bool, as_json: bool) -> None:
    """Print every voucher with the names of what it belongs to, and how many codes it has."""

    async def load(engine: AsyncEngine) -> list[ListedVoucher]:
        async with transaction(engine) as tx:
            return await list_vouchers(tx, with_deleted=with_deleted)

    found = with_database(load_settings(), load)
    if as_json:
        click.echo(json.dumps({"vouchers": [asdict(one) for one in found]}, default=for_json))
    elif not is_shown_to_somebody():
        for one in found:
            names = (one.id, one.name, one.service_name, one.enterprise_name)
            cells = (*names, one.active_codes, one.codes, one.external_identifier)
            click.echo("\t".join(map(as_cell, cells)))
    elif found:
        _print_table(found)
    else:
        click.echo("No voucher is known yet: start `voucher-sync run`, or `voucher-sync once`.")


def _print_table(found: list[ListedVoucher]) -> None:
    table = plain_table("name", "hotel", "service", "active\ncodes", "id")
    for one in found:
        name = as_cell(one.name) + (f" ({as_cell(one.external_identifier)})" if one.external_identifier else "")
        name += "" if one.is_active else ", deleted"
        cells = (name, one.enterprise_name, one.service_name, f"{one.active_codes:,}", one.id)
        table.add_row(*(Text(as_cell(cell)) for cell in cells))
    print_table(table)
