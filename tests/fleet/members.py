"""Replicas of a fleet without their work: what they own, and the clock that they watch each other by."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.incarnation import Incarnation
from sync.connection.witness import Witness
from sync.fleet.assignment import STORED
from sync.fleet.membership import Membership
from sync.fleet.replicas import Replica
from sync.fleet.tokens import TokenBox
from sync.postgres.engine import in_transaction

HOTELS = 10


class Time:
    """The clock that replicas watch each other by."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def joining(engine: AsyncEngine, pid_space: str = "", keys: Sequence[str] = ()) -> Membership:
    replica = Replica(uuid4(), "host", 1, "1", "0031", {}, pid_space)
    return Membership(engine, replica, [STORED], Incarnation(Witness(None)), TokenBox(keys))


async def owners(engine: AsyncEngine) -> Counter[UUID | None]:
    async def load(tx: AsyncConnection) -> Counter[UUID | None]:
        return Counter((await tx.execute(text("SELECT owner FROM sync.connections"))).scalars())

    return await in_transaction(engine, load)


async def share(*members: Membership, rounds: int = 3) -> None:
    """Lets replicas beat, and give back at once what they are to."""
    for _ in range(rounds):
        for one in members:
            await one.release((await one.beat()).give_back)
