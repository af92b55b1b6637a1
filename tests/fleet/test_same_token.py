"""A token is one connection's, whoever gives it to another one, and when."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import VoucherSyncError
from sync.fleet import changes
from sync.fleet.changes import NewConnection
from sync.fleet.registry import load_present
from sync.fleet.tokens import TokenBox
from sync.postgres.engine import in_transaction
from tests.support.two_tokens import KEY

ADDRESS, BOX = "https://api.mews.com", TokenBox([KEY])
NAMES = ("lake", "pond", "hill")


async def add(engine: AsyncEngine, name: str, token: str, address: str = ADDRESS) -> None:
    new = NewConnection(name, address, token)
    await in_transaction(engine, lambda tx: changes.add(tx, BOX, [new], "command"))


async def rotate(engine: AsyncEngine, name: str, token: str) -> None:
    present = {one.name: one for one in await in_transaction(engine, load_present)}
    new = NewConnection(name, ADDRESS, token)
    await in_transaction(engine, lambda tx: changes.rotate(tx, BOX, present[name], new))


async def test_of_those_that_add_it_at_the_same_moment_one_does(engine: AsyncEngine) -> None:
    ends = await asyncio.gather(*(add(engine, name, "token") for name in NAMES), return_exceptions=True)
    assert [type(one) for one in ends if one is not None] == [VoucherSyncError] * (len(NAMES) - 1), ends
    assert len(await in_transaction(engine, load_present)) == 1


async def test_of_those_that_rotate_to_it_at_the_same_moment_one_does(engine: AsyncEngine) -> None:
    for name in NAMES:
        await add(engine, name, f"token of {name}")
    ends = await asyncio.gather(*(rotate(engine, name, "token") for name in NAMES), return_exceptions=True)
    assert [type(one) for one in ends if one is not None] == [VoucherSyncError] * (len(NAMES) - 1), ends


async def test_a_connection_is_not_given_the_token_of_another_one(engine: AsyncEngine) -> None:
    await add(engine, "lake", "token")
    await add(engine, "pond", "another")
    with pytest.raises(VoucherSyncError, match="connection pond: lake has the same access token"):
        await rotate(engine, "pond", "token")
    with pytest.raises(VoucherSyncError, match="connection hill: lake has the same access token"):
        await add(engine, "hill", "token", "https://API.mews.com:443")
    await rotate(engine, "pond", "another")  # its own one again
