"""What wakes the daemon, and what wakes nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import DatabaseError
from sync.outbox.claims import as_daemon
from sync.outbox.rules import Status
from sync.postgres.listen import ANYBODY, CHANNEL, word_of
from tests.support.database import CONNECTION, PATIENCE_S, rows
from tests.support.instants import utc
from tests.support.queue import ADD, OTHER_VOUCHER, UNKNOWN_VOUCHER, VOUCHER, Outbox, as_user, execute, move, queue

MINE = word_of(CONNECTION)
INSERT = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, %s)"


class Listener:
    """Hears what is notified; `upto` sends a word of its own behind everything that was committed, and waits for it."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], engine: AsyncEngine) -> None:
        self._connection, self._engine = connection, engine

    async def upto(self, word: str) -> list[str]:
        await execute(self._engine, "SELECT pg_notify(:channel, :word)", channel=CHANNEL, word=word)
        heard: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while word not in heard:
                heard += [one.payload async for one in self._connection.notifies(timeout=PATIENCE_S, stop_after=1)]
        return heard[:-1]


@pytest.fixture
async def listener(outbox: Outbox, database_url: str) -> AsyncIterator[Listener]:
    """Who listens as the daemon does."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield Listener(connection, outbox.engine)


async def test_an_insert_wakes_the_daemon_once_it_is_committed(outbox: Outbox, listener: Listener) -> None:
    async with as_user(outbox.engine) as tx:
        await queue(tx, value="A")
        assert await listener.upto("not yet") == []
    assert await listener.upto("now") == [MINE]
    async with as_user(outbox.engine) as tx:
        await queue(tx, value="B")
        await tx.rollback()
    assert await listener.upto("never") == []


async def test_many_rows_wake_it_once(outbox: Outbox, listener: Listener) -> None:
    await execute(
        outbox.engine,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :v, generate_series(1, 500)",
        v=VOUCHER,
    )
    assert await listener.upto("end") == [MINE]


async def test_the_word_of_a_name_is_the_same_here_and_there(outbox: Outbox, listener: Listener) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="Hôtel Zürich 東京")
    await outbox.queue(**ADD | {"voucher_id": OTHER_VOUCHER})
    assert await listener.upto("end") == [word_of("Hôtel Zürich 東京")]


async def test_changes_of_several_connections_or_of_one_that_is_not_known_yet_may_be_anybody_s(
    outbox: Outbox, listener: Listener
) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="another")
    several = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', unnest(:ids), :value"
    await execute(outbox.engine, several, ids=[VOUCHER, OTHER_VOUCHER], value="A")
    assert await listener.upto("several") == [ANYBODY]
    await execute(outbox.engine, several, ids=[OTHER_VOUCHER, UNKNOWN_VOUCHER], value="B")
    assert await listener.upto("unknown") == [ANYBODY]
    await outbox.queue("delete", voucher_code_id=VOUCHER)
    assert await listener.upto("no voucher") == [ANYBODY]


async def test_a_transaction_that_queues_for_others_too_says_so_in_one_word_more(
    outbox: Outbox, listener: Listener
) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="another")
    async with as_user(outbox.engine) as tx:
        for voucher_id in (OTHER_VOUCHER, OTHER_VOUCHER, VOUCHER, OTHER_VOUCHER, UNKNOWN_VOUCHER):
            await queue(tx, voucher_id=voucher_id, value=f"B-{uuid4()}")
    assert await listener.upto("end") == [word_of("another"), ANYBODY]


@asynccontextmanager
async def many_queueing(outbox: Outbox, database_url: str) -> AsyncIterator[list[psycopg.AsyncConnection[Any]]]:
    """Three transactions that have queued something and are open still."""
    async with AsyncExitStack() as stack:
        writers = []
        for number in range(3):
            writer = await stack.enter_async_context(await psycopg.AsyncConnection.connect(database_url))
            for value in ("FIRST", "SECOND"):  # a transaction counts once, however much it queues
                await writer.execute(INSERT, [VOUCHER, f"{value}-{number}"])
            writers.append(writer)
        yield writers


async def test_of_many_who_queue_at_once_only_three_notify_since_they_commit_one_after_another(
    outbox: Outbox, listener: Listener, database_url: str
) -> None:
    async with many_queueing(outbox, database_url) as (one, *others):
        await outbox.queue(**ADD)
        assert await listener.upto("too many") == []
        await one.commit()
        assert await listener.upto("one fewer") == [MINE]
        for number, other in enumerate(others):
            await other.execute(INSERT, [VOUCHER, f"MORE-{number}"])
        await outbox.queue(**ADD | {"value": "THIRD"})
        assert await listener.upto("in its place") == [MINE]
        for other in others:
            await other.rollback()
        assert await listener.upto("never") == []


async def test_what_a_transaction_takes_back_to_a_savepoint_does_not_keep_it_from_notifying(
    outbox: Outbox, listener: Listener, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as writer:
        async with writer.transaction():
            with suppress(psycopg.Rollback):
                async with writer.transaction():
                    await writer.execute(INSERT, [VOUCHER, "TAKEN BACK"])
                    raise psycopg.Rollback
            await writer.execute(INSERT, [VOUCHER, "QUEUED"])
    assert await listener.upto("end") == [MINE]


async def test_a_session_s_next_transaction_notifies_too(outbox: Outbox, listener: Listener, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as writer:
        for value in ("FIRST", "SECOND"):
            await writer.execute(INSERT, [VOUCHER, value])
            await writer.commit()
            assert await listener.upto(value) == [MINE]


async def test_a_retry_a_release_and_an_earlier_instant_wake_it(outbox: Outbox, listener: Listener) -> None:
    failed, held, delayed = await outbox.add(), await outbox.add(), await outbox.add(not_before=utc(2099, 1, 1))
    await outbox.bring(failed, Status.FAILED)
    await outbox.bring(held, Status.HELD)
    await listener.upto("queued")
    for row_id in (failed, held):
        await outbox.change(row_id, status="pending")
        assert await listener.upto(f"changed {row_id}") == [ANYBODY]
    await outbox.change(delayed, not_before=None)
    assert await listener.upto("end") == [ANYBODY]


async def test_a_cancel_and_the_daemon_s_own_moves_wake_nobody(outbox: Outbox, listener: Listener) -> None:
    row_ids = {status: await outbox.add() for status in Status}
    cancelled, given_back = await outbox.add(), [await outbox.add() for _ in range(3)]
    await listener.upto("queued")
    for status, row_id in row_ids.items():
        await outbox.bring(row_id, status)
    for row_id, status in zip(given_back, (Status.SENDING, Status.UNCERTAIN, Status.HELD), strict=True):
        await outbox.bring(row_id, status)
        await outbox.bring(row_id, Status.PENDING)
        async with as_daemon(outbox.engine) as tx:
            await move(tx, row_id, Status.PENDING)
    await outbox.change(cancelled, status="cancelled")
    assert await listener.upto("end") == []


# What cannot be notified is queued all the same: the daemon looks every few seconds anyway.


@pytest.fixture
async def short_queue(outbox: Outbox) -> None:
    """A server on which the queue of notifications can be filled."""
    (row,) = await rows(outbox.engine, "SELECT current_setting('max_notify_queue_pages', true) AS pages")
    if row["pages"] != "256":
        pytest.skip("this server's queue of notifications is too long to be filled")


async def filled(outbox: Outbox) -> bool:
    """Fills the queue until it takes no more."""
    flood = "SELECT pg_notify('other_things', repeat('x', 7000) || number) FROM generate_series(1, 8) AS number"
    try:
        while True:
            await execute(outbox.engine, flood)
    except DatabaseError as error:
        return "too many notifications" in str(error)


@pytest.mark.usefixtures("short_queue")
async def test_a_full_queue_of_notifications_costs_no_change(outbox: Outbox, database_url: str) -> None:
    held, failed = await outbox.add(), await outbox.add()
    await outbox.bring(held, Status.HELD)
    await outbox.bring(failed, Status.FAILED)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as stranger:
        await stranger.execute("LISTEN other_things")
        await stranger.execute("BEGIN")
        await stranger.execute("SELECT 1")
        assert await filled(outbox)
        await outbox.queue(**ADD)
        await outbox.change(held, status="pending")
        await outbox.change(failed, status="pending")
    await execute(outbox.engine, "SELECT pg_notification_queue_usage()")  # which empties it
    assert await outbox.statuses() == ["pending"] * 3


async def test_a_transaction_that_is_to_be_prepared_switches_notifying_off(
    outbox: Outbox, listener: Listener, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        if (await (await connection.execute("SHOW max_prepared_transactions")).fetchone()) == ("0",):
            pytest.skip("this server prepares no transactions")
        await connection.rollback()
        await connection.tpc_begin(connection.xid(1, "queueing", "branch"))
        await connection.execute("SET LOCAL voucher_sync.notify = off")
        await connection.execute(INSERT, [VOUCHER, "A"])
        await connection.execute("UPDATE mews.voucher_code_outbox SET not_before = now()")
        await connection.tpc_prepare()
        await connection.tpc_commit()
    assert await outbox.statuses() == ["pending"]
    assert await listener.upto("end") == []
