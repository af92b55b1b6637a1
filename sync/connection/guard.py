"""The guard against another hotel's tokens: before it has agreed, nothing is mirrored and nothing sent."""

from collections.abc import Iterable
from functools import partial
from shlex import quote

from sync.connection import store
from sync.connection.connection import Connection
from sync.connection.hotels import why_foreign
from sync.core.errors import AnotherHotel
from sync.mews import operations
from sync.mews.records import Enterprise
from sync.postgres.engine import in_transaction

NEXT_STEP = (
    "check MEWS_PLATFORM_ADDRESS, MEWS_ACCESS_TOKEN and DATABASE_URL; if this database is to "
    "mirror these hotels from now on, run `voucher-sync once --accept-enterprises`"
)


def next_step(name: str, *, is_stored: bool) -> str:
    """What to do about tokens that are for other hotels."""
    if not is_stored:
        return NEXT_STEP
    argument = quote(name)
    return (
        f"give it a token of its own hotels with `voucher-sync connections rotate {argument}`; if it is to mirror "
        f"these from now on, run `voucher-sync once --connection {argument} --accept-enterprises`"
    )


async def verify(connection: Connection) -> None:
    """Make sure that the tokens are for this connection's hotels; asks the API only for a token that is new here.

    Raises `AnotherHotel`, and `ApiError` and `DatabaseError` in their variants.
    """
    identity = connection.identity
    async with identity.verifying:
        if identity.is_verified:
            return
        known = await in_transaction(connection.engine, partial(store.load, connection=connection.name))
        if known.token == identity.token:
            identity.is_verified = True
            return
        seen = [one async for page in operations.enterprises(connection.client) for one in page.records]
        await admit(connection, seen)


async def admit(connection: Connection, enterprises: Iterable[Enterprise]) -> None:
    """Take the hotels that a token sees for this connection's, or raise `AnotherHotel`."""
    identity, engine = connection.identity, connection.engine
    known = await in_transaction(engine, partial(store.load, connection=connection.name))
    foreign = why_foreign(
        identity.platform_address,
        seen := {one.id: one.name for one in enterprises},
        known_address=known.platform_address,
        known_enterprises=known.enterprises,
        stored_as=connection.name if identity.is_stored else None,
    )
    if foreign and not identity.is_accepted:
        identity.is_verified = False
        to_do = next_step(connection.name, is_stored=identity.is_stored)
        raise AnotherHotel(f"{foreign}: nothing was read or sent; {to_do}")
    identity.is_verified = True
    now = (identity.platform_address, identity.token, frozenset(seen))
    if seen and (known.platform_address, known.token, known.seen) != now:
        remember = partial(
            store.remember,
            connection=connection.name,
            platform_address=identity.platform_address,
            token=identity.token,
            seen=seen,
            is_stored=identity.is_stored,
        )
        await in_transaction(engine, remember)
    elif not (seen or identity.is_stored):  # what hangs on hotels that cannot be read is mirrored all the same
        await in_transaction(engine, partial(store.is_there, connection=connection.name, is_stored=False))
