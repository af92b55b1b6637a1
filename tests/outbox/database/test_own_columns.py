"""Columns that users add to the outbox stop nobody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from tests.support.claims import claim_due_now, sent
from tests.support.queue import ADDS, Outbox, execute
from tests.support.users import user


@asynccontextmanager
async def own_columns(database_url: str, *columns: str) -> AsyncIterator[None]:
    """A user's columns on the table, for one test."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for column in columns:
            await connection.execute(f"ALTER TABLE mews.voucher_code_outbox ADD COLUMN {column}".encode())
        yield
        for column in columns:
            await connection.execute(f"ALTER TABLE mews.voucher_code_outbox DROP COLUMN {column.split()[0]}".encode())


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
