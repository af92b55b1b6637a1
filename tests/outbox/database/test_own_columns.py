"""Columns that users add to the outbox and to the codes stop nobody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from sync.outbox.listing import Wanted, reasons
from tests.support.claims import claim_due_now, sent
from tests.support.database import code, store
from tests.support.queue import ADDS, DELETES, Outbox, as_user, execute
from tests.support.users import user


@asynccontextmanager
async def own_columns(database_url: str, *columns: str, table: str = "mews.voucher_code_outbox") -> AsyncIterator[None]:
    """A user's columns on a table, for one test."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for column in columns:
            await connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}".encode())
        yield
        for column in columns:
            await connection.execute(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}".encode())


OWN = [
    "length int GENERATED ALWAYS AS (char_length(value)) STORED",
    "cost_centre text NOT NULL DEFAULT 'none'",
    "seen_at timestamptz DEFAULT now()",
    "refusal text",
    "move text",
    "other_id bigint",
    "is_known boolean",
    "queued text",
]


async def test_own_columns_stop_nobody(outbox: Outbox, database_url: str) -> None:
    async with own_columns(database_url, *OWN), user(database_url, "mews_writer") as writer:
        mine = await writer.add("MINE", idempotency_key="k")
        await writer.queue_nothing(value="MINE", idempotency_key="k")
        await writer.change(mine, status="cancelled")
        await writer.add("TAKEN BACK")
        await writer.delete("TAKEN BACK")
        pending = await writer.add("PENDING")
        assert sent(await claim_due_now(outbox, ADDS)) == [pending]
        assert await outbox.statuses() == ["cancelled", "cancelled", "cancelled", "sending"]
        await execute(outbox.engine, "UPDATE mews.voucher_code_outbox SET move = 'mine', cost_centre = 'x'")


async def test_own_columns_of_codes_stop_no_delete(outbox: Outbox, database_url: str) -> None:
    await store(outbox.engine, code(1))
    async with own_columns(database_url, "row_id bigint", "is_usable boolean", table="mews.voucher_codes"):
        delete = await outbox.delete("SUMMER")
        assert sent(await claim_due_now(outbox, DELETES)) == [delete]


async def test_a_column_of_reasons_is_none_of_ours(outbox: Outbox, database_url: str) -> None:
    await outbox.delete("GONE")
    async with own_columns(database_url, "reason text", "number int"):
        await execute(outbox.engine, "UPDATE mews.voucher_code_outbox SET reason = 'mine'")
        async with as_user(outbox.engine) as tx:
            (why,) = await reasons(tx, Wanted())
    assert (why.number, why.reason.partition(":")[0]) == (1, "the mirror shows no such code")
