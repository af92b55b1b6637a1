"""A second connection to the mirror's API, whose token may see hotels that the first one sees."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

from sync.connection.connection import Connection
from sync.connection.incarnation import Incarnation
from sync.connection.witness import Witness
from sync.fleet import changes
from sync.fleet.changes import NewConnection
from sync.fleet.tokens import TokenBox
from sync.mews.client_settings import Credentials
from sync.mews.transport import HttpPools
from sync.postgres.engine import in_transaction
from sync.service import app
from tests.support.mirror import CLIENT_TOKEN, IMPATIENT, Mirror

KEY = "ZmVybmV0IGtleXMgYXJlIDMyIGJ5dGVzIG9mIGl0Li4="
"""A key of SYNC_SECRET_KEY for tests."""
MAX_BYTES = 2**26


@asynccontextmanager
async def second(mirror: Mirror, name: str, hotel_ids: Sequence[UUID]) -> AsyncIterator[Connection]:
    """Adds a stored connection of a token of these hotels, and opens it."""
    token = f"the-token-of-{name}"
    mirror.world.add_token(token, name=name, enterprise_ids=list(hotel_ids), portfolio=len(hotel_ids) > 1)
    new = NewConnection(name, mirror.address, token)
    box, first = TokenBox([KEY]), mirror.connection
    await in_transaction(first.engine, lambda tx: changes.add(tx, box, [new], "command"))
    incarnation, pools = Incarnation(Witness(None)), HttpPools(MAX_BYTES)
    place = app.Workplace(mirror.settings(), first.engine, mirror.stop, incarnation, uuid4(), IMPATIENT, pools)
    given = Credentials(mirror.address, CLIENT_TOKEN, token, "voucher-sync tests")
    connection = app.make_connection(place, name, given)
    try:
        yield connection
    finally:
        await connection.client.aclose()
        await pools.aclose()
