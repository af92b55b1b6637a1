"""Rows are claimed by whoever owns their connection at that moment, and by nobody who did before."""

import math
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from sync.connection.tenure import Tenure, Trust
from sync.core.errors import Stopped
from sync.outbox import claims
from sync.outbox.claims import as_daemon
from tests.support.claims import attempt_of
from tests.support.database import CONNECTION
from tests.support.queue import Outbox, execute

EPOCH = 7
OWNED = """
INSERT INTO sync.connections (name, state, owner, epoch) VALUES (:name, 'ok', :owner, :epoch)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch
"""


@pytest.fixture
async def owner(outbox: Outbox) -> AsyncIterator[UUID]:
    """Who owns the connection of the rows."""
    owner = uuid4()
    await execute(outbox.engine, OWNED, name=CONNECTION, owner=owner, epoch=EPOCH)
    yield owner
    await execute(outbox.engine, "UPDATE sync.connections SET owner = NULL, epoch = 0")


async def claim(outbox: Outbox, row_id: int, tenure: Tenure) -> set[int]:
    async with as_daemon(outbox.engine) as tx:
        claimed = await claims.claim(tx, attempt_of(), {row_id: None}, tenure)
    return set(claimed.ids)


@pytest.mark.parametrize("lost", ["to another", "and taken again since"])
async def test_who_has_lost_the_connection_claims_nothing_of_it(outbox: Outbox, owner: UUID, lost: str) -> None:
    row_id = await outbox.add()
    before = (uuid4(), EPOCH) if lost == "to another" else (owner, EPOCH - 1)
    tenure = Tenure(*before, Trust(math.inf))
    with pytest.raises(Stopped, match="another process"):
        await claim(outbox, row_id, tenure)
    assert (await outbox.status(row_id), await outbox.open_attempts()) == ("pending", {})
    assert not tenure.is_trusted()


async def test_its_owner_claims_it(outbox: Outbox, owner: UUID) -> None:
    row_id = await outbox.add()
    assert await claim(outbox, row_id, Tenure(owner, EPOCH, Trust(math.inf))) == {row_id}


async def test_who_works_without_owning_it_claims_it_too(outbox: Outbox, owner: UUID) -> None:
    row_id = await outbox.add()
    assert await claim(outbox, row_id, Tenure()) == {row_id}
