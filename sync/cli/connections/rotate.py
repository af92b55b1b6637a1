"""`voucher-sync connections rotate`."""

from dataclasses import dataclass
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.connections.given import read_token
from sync.cli.database import with_database
from sync.cli.shapes import RotatedConnection
from sync.cli.terminal import echo_json
from sync.connection import store
from sync.core.errors import AnotherHotel, SettingsError, VoucherSyncError
from sync.core.plurals import plural
from sync.fleet import changes
from sync.fleet.changes import NewConnection
from sync.fleet.registry import StoredConnection
from sync.fleet.tokens import TokenBox
from sync.mews import operations
from sync.mews.client_settings import Credentials, RetryPolicy
from sync.postgres.engine import in_transaction
from sync.service import app
from sync.settings import Settings, load_settings
from sync.signals import Signal

MAX_NAMED = 3


def rotate(
    name: str, access_token_file: str, client_token_file: str | None, *, accept_enterprises: bool, as_json: bool
) -> None:
    """Try a new token, and have it count if it is for the same hotels."""
    access_token = read_token(access_token_file)
    client_token = read_token(client_token_file) if client_token_file else None
    settings = load_settings()
    asked = _Asked(name, access_token, client_token, accept_enterprises)
    hotels = with_database(settings, lambda engine: _rotate(settings, engine, asked))
    if as_json:
        echo_json(RotatedConnection(name, hotels))
        return
    click.echo(f"{name} has its new token, which sees {plural(hotels, 'hotel')}; daemons use it within seconds.")


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    access_token: str
    client_token: str | None
    accept_enterprises: bool


async def _rotate(settings: Settings, engine: AsyncEngine, asked: _Asked) -> int:
    name = asked.name
    stored = await in_transaction(engine, lambda tx: changes.require(tx, name))
    if stored.platform_address is None or stored.access_token is None:
        raise VoucherSyncError(
            f"the tokens of connection {name} are the environment's: set MEWS_ACCESS_TOKEN to the new one, and start "
            f"the daemon anew"
        )
    _refuse_unproven_address(settings, stored)
    new = NewConnection(name, stored.platform_address, asked.access_token, asked.client_token)
    seen = await _hotels_of(settings, engine, stored, new)
    known = (await in_transaction(engine, lambda tx: store.load(tx, name))).enterprises
    unseen = sorted(hotel for one, hotel in known.items() if one not in seen)
    if (unseen or not seen) and not asked.accept_enterprises:
        others = f" and {plural(len(unseen) - MAX_NAMED, 'other')}" if len(unseen) > MAX_NAMED else ""
        lacks = f"does not see {', '.join(unseen[:MAX_NAMED])}{others}" if unseen else "sees no hotel at all"
        raise AnotherHotel(
            f"the new token of connection {name} {lacks}, so the one before stays: ask Mews which hotel it is for; if "
            f"that is meant, give --accept-enterprises"
        )
    box = TokenBox(settings.secret_keys)
    await in_transaction(engine, lambda tx: changes.rotate(tx, box, stored, new))
    return len(seen)


def _refuse_unproven_address(settings: Settings, stored: StoredConnection) -> None:
    """Raise `SettingsError` for an address that is not the environment's, and that the token before was not given for.

    Whoever may write to the database, and no more, could have the new token sent to themselves.
    """
    if stored.platform_address == settings.mews_platform_address:
        return
    try:
        changes.access_token_of(TokenBox(settings.secret_keys), stored)
    except SettingsError as error:
        raise SettingsError(
            f"{error}; but first see that {stored.platform_address} is its address, to which the new token would be "
            f"sent: if it is, set MEWS_PLATFORM_ADDRESS to it for this command, else correct it in sync.connections"
        ) from None


async def _hotels_of(
    settings: Settings, engine: AsyncEngine, stored: StoredConnection, new: NewConnection
) -> set[UUID]:
    """The ids of the hotels that the API shows for the new token. Raises `ApiError` where it refuses it."""
    client_token = new.client_token or app.client_token_of(settings, stored)
    given = Credentials(new.platform_address, client_token, new.access_token, settings.mews_client)
    policy = RetryPolicy(max_attempts=2)  # somebody waits for the answer
    ledger = app.new_ledger(settings, engine, given)
    client = app.make_client(settings, Signal(), given, ledger, retry_policy=policy)
    try:
        return {one.id async for page in operations.enterprises(client) for one in page.records}
    finally:
        await client.aclose()
