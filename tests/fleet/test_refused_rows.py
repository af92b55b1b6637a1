"""What the database refuses of one connection keeps a replica from no other."""

from collections import Counter

import psycopg
import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.fleet.assignment import STORED as STORED_KIND
from sync.fleet.assignment import Member, Owned, plan
from sync.fleet.membership import Membership
from tests.fleet.members import HOTELS, joining
from tests.fleet.test_registry import STORED


async def test_a_connection_whose_row_is_refused_keeps_no_other_out_and_is_named_once(
    engine: AsyncEngine, hotels: None, database_url: str
) -> None:
    one, guard = joining(engine), "ALTER TABLE sync.connections {} CONSTRAINT guard"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"{guard.format('ADD')} CHECK (owner IS NULL OR name <> 'hotel 3')".encode())
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                assert (await one.beat()).owned.keys() == {f"hotel {n}" for n in range(HOTELS)} - {"hotel 3"}
        (told,) = logs
        assert (told["event"], told["connection"]) == ("not_taken", "hotel 3")
        assert "constraint guard of sync.connections" in told["error"]
        owner.execute(guard.format("DROP").encode())
    assert len((await one.beat()).owned) == HOTELS


async def test_one_that_is_refused_again_after_it_was_away_is_named_again(
    engine: AsyncEngine, hotels: None, database_url: str
) -> None:
    one = joining(engine)
    with psycopg.connect(database_url, autocommit=True) as owner, structlog.testing.capture_logs() as logs:
        guard = "CHECK (owner IS NULL OR name <> 'hotel 3')"
        owner.execute(f"ALTER TABLE sync.connections ADD CONSTRAINT guard {guard}".encode())
        for paused_at in ("NULL", "now()", "NULL"):
            owner.execute(f"UPDATE sync.connections SET paused_at = {paused_at} WHERE name = 'hotel 3'".encode())
            await one.beat()
    assert [told["connection"] for told in logs if told["event"] == "not_taken"] == ["hotel 3"] * 2


@pytest.mark.parametrize("refused", [6, HOTELS])
async def test_however_many_are_refused_all_others_are_taken_and_each_is_named(
    engine: AsyncEngine, hotels: None, database_url: str, refused: int
) -> None:
    one = joining(engine)
    with psycopg.connect(database_url, autocommit=True) as owner:
        guard = f"CHECK (owner IS NULL OR right(name, 1)::int >= {refused})"
        owner.execute(f"ALTER TABLE sync.connections ADD CONSTRAINT guard {guard}".encode())
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await one.beat()
        found = await one.beat()
    assert found.owned.keys() == {f"hotel {n}" for n in range(refused, HOTELS)}
    named = Counter(told["connection"] for told in logs if told["event"] == "not_taken")
    assert named == {f"hotel {n}": 1 for n in range(refused)}


async def test_what_is_refused_stands_in_no_other_s_place(engine: AsyncEngine, database_url: str) -> None:
    """Each of two has room for two of four, and would have taken the refused one first."""
    names = [f"hotel {n}" for n in range(4)]
    replicas = [joining_that_takes_first(engine, "hotel 0", names) for _ in range(2)]
    for one in replicas:
        await one.beat()
    with psycopg.connect(database_url, autocommit=True) as owner:
        for name in names:
            owner.execute(STORED.replace("lake", name).encode())
        guard = "CHECK (owner IS NULL OR name <> 'hotel 0')"
        owner.execute(f"ALTER TABLE sync.connections ADD CONSTRAINT guard {guard}".encode())
    for one in replicas * 2:
        await one.beat()
    first, second = [await one.beat() for one in replicas]
    assert sorted([*first.owned, *second.owned]) == names[1:]


def joining_that_takes_first(engine: AsyncEngine, name: str, names: list[str]) -> Membership:
    """A replica of such an id that of connections that are free it takes this one first."""
    free = [Owned(one, frozenset([STORED_KIND]), None, 0) for one in names]
    while True:
        one = joining(engine)
        me = Member(one.replica.process, frozenset([STORED_KIND]))
        if plan(me, [me], free, []).take[0].name == name:
            return one
