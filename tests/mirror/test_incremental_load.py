"""Whoever copies the mirror bit by bit misses nothing, in whatever order transactions commit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mirror.upsert import note_deleted, store_voucher_codes
from sync.postgres.engine import transaction
from sync.postgres.migrations import migrate
from tests.mirror.helpers import NEW, OLD
from tests.support.database import CONNECTION, PATIENCE_S, code, execute, make_known, rows, store, uuid
from tests.support.hostile import new_login, new_owner
from tests.support.users import login

MARGIN = timedelta(seconds=1)
LONG_AGO = datetime.min.replace(year=2000, tzinfo=NEW.tzinfo)
SINCE = "SELECT id, is_active, mirrored_at FROM mews.voucher_codes WHERE mirrored_at >= :since"


class Loader:
    """A copy of the codes, loaded as it is to be: first the bound, then what was written since the last one."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine, self.copy, self.since = engine, dict[UUID, bool](), LONG_AGO

    async def load(self) -> None:
        (bound,) = await rows(self.engine, "SELECT mews.settled_before() AS before")
        for row in await rows(self.engine, SINCE, since=self.since):
            self.copy[row["id"]] = row["is_active"]
        self.since = bound["before"] or self.since


async def is_complete(loader: Loader) -> bool:
    found = await rows(loader.engine, "SELECT id, is_active FROM mews.voucher_codes")
    return loader.copy == {row["id"]: row["is_active"] for row in found}


async def test_what_is_committed_late_with_an_early_instant_is_loaded(engine: AsyncEngine) -> None:
    loader = Loader(engine)
    await store(engine, code(1, "A", OLD), code(2, "B", OLD))
    async with transaction(engine) as slow:
        await store_voucher_codes(slow, CONNECTION, [code(3, "C", NEW)])
        await note_deleted(slow, [uuid(1)])
        await store(engine, code(2, "B", NEW, is_active=False))
        await loader.load()
        assert loader.copy == {uuid(1): True, uuid(2): False}
        (newest,) = await rows(engine, "SELECT max(mirrored_at) AS instant FROM mews.voucher_codes")
    missed = {row["id"] for row in await rows(engine, SINCE, since=newest["instant"])}
    assert uuid(3) not in missed  # by the newest instant that was seen it would never be loaded
    await loader.load()
    assert await is_complete(loader)


async def bound(engine: AsyncEngine) -> Any:
    (row,) = await rows(engine, "SELECT mews.settled_before() AS before")
    return row["before"]


async def passes(engine: AsyncEngine, instant: datetime) -> None:
    """Waits until the bound is past an instant."""
    async with asyncio.timeout(PATIENCE_S):
        while await bound(engine) <= instant:
            pass


@pytest.mark.long
async def test_the_bound_follows_the_clock_while_nobody_writes(engine: AsyncEngine) -> None:
    (row,) = await rows(engine, "SELECT mews.settled_before() AS before, clock_timestamp() AS now")
    assert row["before"] <= row["now"] - MARGIN
    await passes(engine, row["now"])


async def test_a_transaction_that_has_not_written_yet_holds_it_back(engine: AsyncEngine) -> None:
    async with transaction(engine) as tx:
        began = (await tx.exec_driver_sql("SELECT now()")).scalar_one()
        assert await bound(engine) <= began - MARGIN
        await make_known(tx)
        await store_voucher_codes(tx, CONNECTION, [code(1, "A", OLD)])
    (row,) = await rows(engine, "SELECT mirrored_at FROM mews.voucher_codes")
    assert row["mirrored_at"] == began


@pytest.mark.long
async def test_who_only_reads_holds_nothing_back_and_may_ask(engine: AsyncEngine, database_url: str) -> None:
    with login(database_url, member_of="mews_reader") as url, psycopg.connect(url) as reader:
        found = reader.execute("SELECT now(), mews.settled_before()").fetchone()
        assert found is not None
        assert found[1] is not None
        await passes(engine, found[0])


async def test_where_a_session_cannot_be_seen_there_is_no_bound(engine: AsyncEngine, database_url: str) -> None:
    with psycopg.connect(database_url, options="-c track_activities=off") as unseen:
        unseen.execute("SELECT 1")
        assert await bound(engine) is None
        pid = unseen.info.backend_pid
    # A line that is closed says nothing of the server's process behind it, which is waited for here.
    await rows(engine, f"SELECT pg_terminate_backend({pid}, {PATIENCE_S * 1000:.0f})")
    assert await bound(engine) is not None


async def test_a_login_without_a_bound_still_loads_all(database_url: str, engine: AsyncEngine) -> None:
    loader = Loader(engine)
    await store(engine, code(1, "A", OLD))
    with psycopg.connect(database_url, options="-c track_activities=off") as unseen:
        unseen.execute("SELECT 1")
        await loader.load()
        await store(engine, code(1, "A", NEW, is_active=False))
        await loader.load()
    assert loader.since == LONG_AGO
    assert await is_complete(loader)


async def test_a_login_that_is_the_owner_by_set_role_alone_holds_it_back(
    engine: AsyncEngine, database_url: str
) -> None:
    """As a secrets manager makes them: it inherits nothing, and may write all the same."""
    (owner,) = await rows(engine, "SELECT quote_ident(current_user) AS name")
    with new_login(database_url, f"NOINHERIT IN ROLE {owner['name']}") as url, psycopg.connect(url) as writer:
        writer.execute(f"SET ROLE {owner['name']}".encode())
        (began,) = writer.execute("SELECT now()").fetchone() or (None,)
        assert await bound(engine) <= began - MARGIN


@pytest.mark.long
async def test_who_asks_twice_in_a_transaction_is_told_of_who_has_begun_since(
    engine: AsyncEngine, database_url: str
) -> None:
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT mews.settled_before()")
        async with transaction(engine) as writer:
            began = (await writer.exec_driver_sql("SELECT now()")).scalar_one()
            await passes_by_the_clock(engine, began)
            (found,) = reader.execute("SELECT mews.settled_before()").fetchone() or (None,)
            assert found <= began - MARGIN


async def passes_by_the_clock(engine: AsyncEngine, instant: datetime) -> None:
    """Waits until a bound that nobody holds back would be past an instant."""
    async with asyncio.timeout(PATIENCE_S):
        while (await rows(engine, "SELECT clock_timestamp() AS now"))[0]["now"] - MARGIN <= instant:
            pass


def bound_of(url: str) -> Any:
    with psycopg.connect(url, autocommit=True) as reader:
        (found,) = reader.execute("SELECT mews.settled_before()").fetchone() or (None,)
    return found


def test_what_the_owner_may_not_look_into_is_not_passed(empty_database_url: str) -> None:
    """Of a role that is nobody special, those who act for it are hidden from it, and so are superusers."""
    with new_owner(empty_database_url) as owner:
        name = str(conninfo_to_dict(owner)["user"])
        migrate(owner)
        with new_login(empty_database_url, f"IN ROLE {name}") as actor:
            for hidden in (actor, empty_database_url):
                with psycopg.connect(hidden) as writer:
                    assert bound_of(owner) is not None, "of a session without a transaction nothing can come"
                    writer.execute("SELECT 1")
                    assert bound_of(owner) is None
                    writer.rollback()
                    assert bound_of(owner) is not None
            with psycopg.connect(empty_database_url, autocommit=True) as admin, psycopg.connect(actor) as writer:
                admin.execute(sql.SQL("GRANT pg_read_all_stats TO {}").format(sql.Identifier(name)))
                (began,) = writer.execute("SELECT now()").fetchone() or (None,)
                assert bound_of(owner) <= began - MARGIN


@pytest.fixture
async def subscriber(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncEngine]:
    """The database takes its codes from somewhere else: here from itself, and nothing ever comes."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        (socket, port, name) = admin.execute(
            "SELECT split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), "
            "current_database()"
        ).fetchone() or ("", "", "")
        subscription = sql.Identifier(f"test_{uuid4().hex}")
        way = make_conninfo(host=socket, port=port, dbname=name, user=admin.info.user)
        admin.execute(b"CREATE PUBLICATION everything FOR TABLE mews.voucher_codes")
        admin.execute(
            sql.SQL(
                "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION everything "
                "WITH (enabled = false, create_slot = false, slot_name = NONE, copy_data = false)"
            ).format(subscription, sql.Literal(way))
        )
        yield engine
        admin.execute(sql.SQL("DROP SUBSCRIPTION {}").format(subscription))


async def test_a_subscriber_has_no_bound(subscriber: AsyncEngine) -> None:
    """What comes to it was written elsewhere before, by a time that nobody here can tell."""
    assert await bound(subscriber) is None
    await execute(subscriber, "DROP PUBLICATION everything")
