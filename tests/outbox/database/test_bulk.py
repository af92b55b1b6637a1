"""Queueing a row reads a few others, however many there are and whatever was analysed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.claims import as_daemon, claim
from sync.outbox.rules import Status
from tests.support.claims import DONE, attempt_of, complete_rows
from tests.support.database import code, store
from tests.support.queue import VOUCHER, Outbox, as_user, execute, queue

ROWS = 300
READ = """
SELECT sum(seq_tup_read)::int AS by_reading_all, sum(idx_tup_fetch)::int AS by_index
FROM pg_stat_xact_user_tables WHERE schemaname = 'mews'
"""
SEVERAL = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, idempotency_key)
SELECT :operation, :voucher, 'CODE ' || number, :operation || number
FROM generate_series(CAST(:first AS int), :last) AS number
"""


async def queue_all(tx: AsyncConnection, operation: str, first: int = 1, last: int = ROWS) -> None:
    parameters = {"operation": operation, "voucher": VOUCHER, "first": first, "last": last}
    await tx.execute(text(SEVERAL), parameters)


@asynccontextmanager
async def reading_few(outbox: Outbox) -> AsyncIterator[AsyncConnection]:
    """A transaction in which no table is read from end to end, and few rows by an index."""
    async with as_user(outbox.engine) as tx:
        before = (await tx.execute(text(READ))).one()
        yield tx
        after = (await tx.execute(text(READ))).one()
        assert after.by_reading_all == before.by_reading_all
        assert after.by_index - before.by_index < 10 * ROWS


@pytest.fixture(autouse=True)
async def analysed_when_empty(outbox: Outbox, database_url: str) -> None:
    """As autovacuum may have done: then a plan for these tables is to read all of them, which are nothing."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE mews.voucher_code_outbox, mews.voucher_codes, mews.vouchers")


@pytest.mark.long
async def test_in_one_statement(outbox: Outbox) -> None:
    async with reading_few(outbox) as tx:
        for operation in ("delete", "add", "delete"):
            await queue_all(tx, operation)
            await execute(outbox.engine, "ANALYZE mews.vouchers")


@pytest.mark.long
async def test_row_by_row(outbox: Outbox) -> None:
    async with reading_few(outbox) as tx:
        for number in range(ROWS):
            await queue(tx, value=f"CODE {number}", idempotency_key=f"{number}")
        for number in range(ROWS):
            await queue(tx, "delete", value=f"CODE {number}")


async def test_in_a_session_that_has_planned_for_an_empty_mirror(outbox: Outbox) -> None:
    async with reading_few(outbox) as tx:
        await queue_all(tx, "delete", 1, 10)
        await store(outbox.engine, *(code(number, f"CODE {number}") for number in range(1, ROWS)))
        await queue_all(tx, "add")
        await queue_all(tx, "delete", 11)


@pytest.mark.long
async def test_completing_in_a_session_that_has_done_so_when_the_outbox_was_empty(outbox: Outbox) -> None:
    """The foreign key of the attempts has plans of its own, which are kept for the session."""
    read = 0
    for count in (*[1] * 10, ROWS):
        async with as_user(outbox.engine) as tx:
            row_ids = [await queue(tx, value=f"{uuid4()}") or 0 for _ in range(count)]
        async with as_daemon(outbox.engine) as tx:
            before = (await tx.execute(text(READ))).one()
            attempt = attempt_of(uuid4())
            await claim(tx, attempt, dict.fromkeys(row_ids))
            completed = await complete_rows(tx, attempt.id, row_ids, DONE, {one: uuid4() for one in row_ids})
            read = (await tx.execute(text(READ))).one().by_reading_all - before.by_reading_all
        assert completed.counts == {Status.DONE: len(row_ids)}
    assert read < ROWS
