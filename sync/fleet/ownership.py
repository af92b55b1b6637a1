"""Who owns a connection: taken by compare and set on owner and epoch, so that of two who want it one gets it."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import BigInteger, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import CONNECTIONS_CHANNEL
from sync.core.bisection import Bisection
from sync.core.errors import StatementRefused
from sync.fleet.assignment import ENVIRONMENT, STORED, Owned
from sync.fleet.registry import CONNECTION_NAME
from sync.postgres.engine import translate

REFUSED_AT_MOST = 4
"""To find one of a thousand takes a dozen statements, and a beat has seconds."""


async def load_version(tx: AsyncConnection) -> int:
    """A number that is another one once any connection has changed."""
    return int((await tx.execute(_VERSION)).scalar_one())


async def load_owned(tx: AsyncConnection) -> list[Owned]:
    """The connections that are at work, with their owners; `sync.fleet.keys` finds which keys they need."""
    rows = (await tx.execute(_LOAD, {"of_environment": CONNECTION_NAME})).all()
    owners = {row.owner: row.owner for row in rows}  # each row has an object of its own for the same few
    return [
        Owned(sys.intern(row.name), _NEEDS[row.is_of_environment], owners[row.owner], row.epoch, row.version)
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Taken:
    """The new epochs of the connections that were taken, and of others whose row the database refuses to change why."""

    epochs: Mapping[str, int]
    refused: Mapping[str, str]


async def take(tx: AsyncConnection, me: UUID, wanted: Sequence[Owned]) -> Taken:
    """Make `me` the owner of connections that still stand as they were seen.

    What another transaction is about to take, or to write, is left to the next time; what a constraint or trigger of
    somebody's refuses keeps no other out: where more than a few are refused, what was not tried is left to the next
    time too. What the owner before has told of each stands in its row from then on.
    """
    epochs, refused, bisection = dict[str, int](), dict[str, str](), Bisection(wanted)
    while group := bisection.group:
        try:
            async with tx.begin_nested():
                taken = await _take_together(tx, me, group)
        except DBAPIError as error:
            refusal = translate(error)
            if not isinstance(refusal, StatementRefused):
                raise
            refused |= {one.name: str(refusal) for one in group if len(group) == 1}
            if len(refused) == REFUSED_AT_MOST:
                break
            bisection.tell(went_through=False)
        else:
            epochs |= taken
            bisection.tell(went_through=True)
    return Taken(epochs, refused)


async def _take_together(tx: AsyncConnection, me: UUID, wanted: Sequence[Owned]) -> dict[str, int]:
    parameters = {
        "me": me,
        "names": [one.name for one in wanted],
        "owners": [one.owner for one in wanted],
        "epochs": [one.epoch for one in wanted],
    }
    return {row.name: row.epoch for row in await tx.execute(_TAKE, parameters)}


async def release(tx: AsyncConnection, me: UUID, names: Collection[str]) -> None:
    """Give connections back, and tell who may take them."""
    await tx.execute(_RELEASE, {"me": me, "names": list(names)})
    await tell(tx)


async def tell(tx: AsyncConnection) -> None:
    """Tell all replicas that there is something for them. One that never reads must not be in the way of it."""
    await tx.execute(_TELL, {"channel": CONNECTIONS_CHANNEL})


_NEEDS = {True: frozenset({ENVIRONMENT}), False: frozenset({STORED})}

# A row that is written has another xmin or ctid; a server that was promoted may have given both to another change.
_VERSION = text("""
SELECT coalesce(sum(hashtextextended(xmin::text || ctid::text, 0::bigint)), 0)
       + extract(epoch FROM pg_catalog.pg_postmaster_start_time())::bigint::numeric
FROM sync.connections
""")
_LOAD = text("""
SELECT name, origin = 'environment' AS is_of_environment, owner, epoch,
       CASE WHEN access_token IS NOT NULL THEN hashtextextended(
         pg_catalog.concat_ws('|', platform_address, encode(access_token, 'base64'), encode(client_token, 'base64')),
         0::bigint)
       ELSE 0 END AS version
FROM sync.connections
WHERE paused_at IS NULL AND removed_at IS NULL AND (origin <> 'environment' OR name = :of_environment)
""")

_TAKE = text("""
WITH free AS (
  SELECT known.name FROM sync.connections AS known
  JOIN unnest(CAST(:names AS text[]), CAST(:owners AS uuid[]), CAST(:epochs AS bigint[])) AS seen(name, owner, epoch)
    ON seen.name = known.name AND seen.owner IS NOT DISTINCT FROM known.owner AND seen.epoch = known.epoch
  WHERE known.paused_at IS NULL AND known.removed_at IS NULL
  FOR NO KEY UPDATE OF known SKIP LOCKED
)
UPDATE sync.connections AS known
SET owner = :me, epoch = known.epoch + 1, place = NULL, heartbeat_at = told.heartbeat_at,
    caught_up_as_of = told.caught_up_as_of, caught_up_through = told.caught_up_through
FROM free JOIN sync.connection_freshness AS told ON told.name = free.name WHERE known.name = free.name
RETURNING known.name, known.epoch
""").bindparams(
    bindparam("names", type_=ARRAY(Text)),
    bindparam("owners", type_=ARRAY(UUID_TYPE)),
    bindparam("epochs", type_=ARRAY(BigInteger)),
    bindparam("me", type_=UUID_TYPE),
)

_RELEASE = text("""
UPDATE sync.connections SET owner = NULL WHERE owner = :me AND name = ANY(CAST(:names AS text[]))
""").bindparams(bindparam("names", type_=ARRAY(Text)), bindparam("me", type_=UUID_TYPE))

_TELL = text("SELECT CASE WHEN pg_notification_queue_usage() < 0.5::float8 THEN pg_notify(:channel, '') END")
