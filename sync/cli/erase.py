"""`voucher-sync erase`."""

import json
import sys
from dataclasses import asdict, fields

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.database import with_database
from sync.cli.options import WORDS
from sync.service.erasure import ERASED, Erasure, erase
from sync.settings import load_settings

TOLD = {
    "changes": "changes in the outbox, which keep their number, outcome and ids",
    "keys": "idempotency keys that hold it: the same INSERT under one would be queued anew",
    "texts": "notes and words of the API that quote it",
    "versions": "earlier versions of codes",
    "rejected_records": "records that could not be stored",
    "missing_codes": "codes in the mirror that Mews has no more",
    "kept": "codes in the mirror that Mews has: these stay, since they would be read again",
}
ELSEWHERE = (
    "It stays in: Mews itself, where a deleted code can be read too; backups, standbys and archived WAL until they are "
    "gone; pages of the database until VACUUM has passed; the database server's log, where that logs statements, this "
    "one's too; your shell's history; files that were imported or exported; and copies that others have made of these "
    "tables."
)


def run_erase(*, value: str, is_meant: bool, as_json: bool) -> None:
    """Erase a code's text, or tell what that would erase, and where it stays."""
    if value == "-":
        value = WORDS.convert(sys.stdin.readline().rstrip("\r\n"), None, None)
    if value in {"", ERASED}:
        raise click.UsageError("name the code's text, or - to have it read from the first line of the standard input")

    async def work(engine: AsyncEngine) -> Erasure:
        return await erase(engine, value, dry_run=not is_meant)

    erasure = with_database(load_settings(), work)
    if as_json:
        click.echo(json.dumps({"erased": is_meant, **asdict(erasure)}))
        return
    for field in fields(erasure):
        if count := getattr(erasure, field.name):
            click.echo(f"{count:>9,}  {TOLD[field.name]}")
    if not erasure.total:
        click.echo("Nothing here holds it." if not erasure.kept else "Nothing beside the mirror holds it.")
    elif is_meant:
        click.echo("It is erased.")
    else:
        click.echo("Nothing is erased yet: this was a dry run; --yes does it.")
    click.echo(ELSEWHERE)
