"""A look is of one instant, and only reads, whatever a session brings along; nothing of it is left in that."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import DatabaseError, DatabaseUnavailable
from sync.postgres.engine import make_engine, transaction
from sync.postgres.migrations import migrate
from sync.postgres.snapshot import snapshot, snapshot_within
from tests.support.clusters import clusters
from tests.support.hostile import make_database_hostile
from tests.support.pooler import needs_pgbouncer, pooled

Look = Callable[[AsyncEngine], AbstractAsyncContextManager[AsyncConnection]]

WITHIN = partial(snapshot_within, seconds=2.5)
LOOKS = pytest.mark.parametrize(("look", "longest"), [(snapshot, "0"), (WITHIN, "2500ms")], ids=["by-hand", "daemon"])
NAMES = ("transaction_isolation", "transaction_read_only", "transaction_deferrable", "statement_timeout")
OF_WORK = ["read committed", "off", "off", "0"]
COUNT, MAKE = "SELECT count(*) FROM one", "CREATE TABLE one (n int)"


async def stands(tx: AsyncConnection) -> list[str]:
    """How a transaction is."""
    return [(await tx.execute(text(f"SHOW {name}"))).scalar_one() for name in NAMES]


@LOOKS
async def test_no_setting_of_a_database_changes_how_it_looks(database_url: str, look: Look, longest: str) -> None:
    make_database_hostile(database_url)
    engine = make_engine(database_url, pool_size=1)
    async with look(engine) as tx:
        shown = await stands(tx)
        assert shown[:3] == ["repeatable read", "on", "off"]
        assert longest in {shown[3], shown[3].replace("s", "000ms")}
    async with transaction(engine) as tx:
        assert await stands(tx) == OF_WORK
    await engine.dispose()


@LOOKS
async def test_it_sees_nothing_that_is_committed_meanwhile_and_writes_nothing(
    database_url: str, engine: AsyncEngine, look: Look, longest: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(MAKE)
        async with look(engine) as tx:
            other.execute("INSERT INTO one VALUES (1)")
            for number in (2, 3):
                assert (await tx.execute(text(COUNT))).scalar_one() == 0
                other.execute("INSERT INTO one VALUES (%s)", [number])
        with pytest.raises(DatabaseError, match="25006"):
            async with look(engine) as tx:
                await tx.execute(text("INSERT INTO one VALUES (4)"))
        async with look(engine) as tx:
            assert (await tx.execute(text(COUNT))).scalar_one() == 3


@needs_pgbouncer
@LOOKS
async def test_behind_a_pooler_it_leaves_nothing_to_the_next(database_url: str, look: Look, longest: str) -> None:
    with pooled(database_url, pool_size=1) as url, psycopg.connect(url, autocommit=True) as other:
        before = [other.execute(f"SHOW {name}").fetchone() for name in NAMES]
        engine = make_engine(url)
        async with look(engine) as tx:
            assert (await stands(tx))[:2] == ["repeatable read", "on"]
        await engine.dispose()
        assert [other.execute(f"SHOW {name}").fetchone() for name in NAMES] == before


@pytest.mark.long
async def test_a_standby_is_looked_at_by_hand_and_refused_by_who_works() -> None:
    with clusters() as made:
        primary = made.initialised("primary")
        primary.start()
        migrate(primary.url)
        standby = primary.base_backup("standby", "-R")
        standby.start()
        engine = make_engine(standby.url.replace("target_session_attrs=read-write", "target_session_attrs=any"))
        async with snapshot(engine) as tx:
            assert (await tx.execute(text("SELECT pg_is_in_recovery()"))).scalar_one()
        with pytest.raises(DatabaseUnavailable, match=r"can only be read \(25006\)"):
            async with WITHIN(engine):
                pass
        await engine.dispose()
