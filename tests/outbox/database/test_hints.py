"""What will come to nothing is said at once, and costs no row."""

from typing import Any

import psycopg
import pytest

from tests.support.database import code, store, uuid
from tests.support.queue import VOUCHER, Outbox

INSERT = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, validity_end_utc) "


async def told(database_url: str, statement: str) -> list[str]:
    """What an INSERT of a user is told."""
    heard: list[str] = []
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        connection.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary or ""))
        await connection.execute(statement.encode())
    return heard


@pytest.mark.parametrize(
    ("end", "number"), [("now() - interval '1 second'", 500), ("NULL", 0), ("now() + interval '1 hour'", 0)]
)
async def test_a_validity_that_is_over_is_said_once(outbox: Outbox, database_url: str, end: str, number: int) -> None:
    rows = f"SELECT 'add', '{VOUCHER}'::uuid, number, {end} FROM generate_series(1, 500) AS number"
    heard = await told(database_url, INSERT + rows)
    assert [one.partition(" of the")[0] for one in heard] == (
        [f"validity_end_utc has passed: {number}"] if number else []
    )
    assert await outbox.statuses() == ["pending"] * 500


KNOWN: list[dict[str, Any]] = [{"value": "KNOWN"}, {"voucher_code_id": uuid(1)}, {"value": "QUEUED"}]
UNKNOWN: list[dict[str, Any]] = [{"value": "UNKNOWN"}, {"voucher_code_id": uuid(9)}, {"value": "DELETED"}]


async def test_a_delete_of_a_code_that_nobody_knows_says_so_in_its_row(outbox: Outbox, database_url: str) -> None:
    await store(outbox.engine, code(1, "KNOWN"), code(2, "DELETED", is_active=False))
    await outbox.set(await outbox.add("QUEUED"), attempts=1)
    for change in (*KNOWN, *UNKNOWN):
        row = await outbox.row(await outbox.queue("delete", **change))
        assert (row["status"], row["last_error"] is not None) == ("pending", change in UNKNOWN)
    heard = await told(
        database_url, INSERT + f"VALUES ('delete', '{VOUCHER}', 'A', NULL), ('delete', '{VOUCHER}', 'B', NULL)"
    )
    assert [one.partition(" of the")[0] for one in heard] == ["the mirror shows no code for 2"]


async def test_a_delete_that_takes_back_an_add_says_nothing_else(outbox: Outbox, database_url: str) -> None:
    await outbox.add("SUMMER")
    assert await told(database_url, INSERT + f"VALUES ('delete', '{VOUCHER}', 'SUMMER', NULL)") == []
