"""Which connections a replica may own, and what makes a connection another one to its owner."""

from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection import store
from sync.connection.incarnation import Incarnation
from sync.connection.witness import Witness
from sync.fleet import registry
from sync.fleet.assignment import ENVIRONMENT
from sync.fleet.membership import Membership
from sync.fleet.replicas import Replica
from sync.postgres.engine import in_transaction
from tests.fleet.members import HOTELS, Time, joining


async def test_without_the_key_what_is_stored_is_left_to_others(engines: list[AsyncEngine], time: Time) -> None:
    without = Membership(
        engines[0], Replica(uuid4(), "h", 1, "1", "0031", {}), [ENVIRONMENT], Incarnation(Witness(None))
    )
    assert (await without.beat()).owned == {}
    other = joining(engines[1])
    assert len((await other.beat()).owned) == HOTELS


async def test_what_is_paused_or_removed_is_nobodys_work(engines: list[AsyncEngine], time: Time) -> None:
    async def change(tx: AsyncConnection) -> None:
        await tx.execute(text("UPDATE sync.connections SET paused_at = now() WHERE name = 'hotel 1'"))
        await tx.execute(
            text("UPDATE sync.connections SET removed_at = now(), access_token = NULL WHERE name = 'hotel 2'")
        )

    await in_transaction(engines[0], change)
    assert len((await joining(engines[0]).beat()).owned) == HOTELS - 2


async def test_another_token_is_another_version(engines: list[AsyncEngine], time: Time) -> None:
    one = joining(engines[0])
    before = (await one.beat()).owned["hotel 1"].version

    async def rotate(tx: AsyncConnection) -> None:
        await tx.execute(text("UPDATE sync.connections SET access_token = 'y' WHERE name = 'hotel 1'"))

    await in_transaction(engines[1], rotate)
    assert (await one.beat()).owned["hotel 1"].version != before


async def test_what_a_process_notes_of_the_environment_s_connection_is_no_other_token(
    engines: list[AsyncEngine], time: Time
) -> None:
    async def note(tx: AsyncConnection) -> None:
        await registry.register_environment(tx)

    async def remember(tx: AsyncConnection) -> None:
        await store.remember(tx, "default", "https://api.mews.com", b"token", [], is_stored=False)

    one = Membership(engines[0], Replica(uuid4(), "h", 1, "1", "0031", {}), [ENVIRONMENT], Incarnation(Witness(None)))
    await in_transaction(engines[0], note)
    before = (await one.beat()).owned["default"]
    await in_transaction(engines[0], remember)
    assert (await one.beat()).owned["default"] == before
