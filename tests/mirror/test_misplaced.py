"""Codes are noted as the connection's that mirrors their voucher, also where a taking over ends in the middle."""

import asyncio

import psycopg
import pytest

from sync.audit.run import audit
from sync.connection.connection import Connection
from sync.demo.simulator import Operation, RequestRecord, Voucher
from sync.mirror import take_over
from sync.mirror.discover import discover
from tests.support.database import PATIENCE_S, blocked
from tests.support.flows import LOOK, later
from tests.support.hostile import FREEZE, FROZEN
from tests.support.mirror import Mirror

WHOSE = "SELECT value, connection FROM mews.voucher_codes ORDER BY value"
PAUSE = "UPDATE sync.connections SET paused_at = now() WHERE name = 'default'"
RESUME = "UPDATE sync.connections SET paused_at = NULL WHERE name = 'default'"


async def whose(mirror: Mirror) -> dict[str, str]:
    return {row["value"]: row["connection"] for row in await mirror.rows(WHOSE)}


async def test_a_voucher_whose_owner_comes_back_in_the_middle_has_its_codes_back(
    mirror: Mirror, group: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take_over, "CODES_AT_ONCE", 2)
    await mirror.execute(PAUSE)
    async with await psycopg.AsyncConnection.connect(mirror.database_url) as user:
        await user.execute("SELECT FROM mews.voucher_codes ORDER BY id DESC LIMIT 1 FOR UPDATE")
        discovering = asyncio.create_task(discover(group))
        await blocked(mirror.connection.engine, discovering)
        await mirror.execute(RESUME)
    await discovering
    assert await mirror.rows("SELECT connection FROM mews.vouchers") == [{"connection": "default"}]
    assert await whose(mirror) == dict.fromkeys("ABC", "default")


async def test_a_voucher_is_taken_over_without_codes_that_a_trigger_leaves_as_they_are(
    mirror: Mirror, group: Connection
) -> None:
    await mirror.execute(FREEZE)
    await mirror.execute(FROZEN.format("mews.voucher_codes"))
    await mirror.execute(PAUSE)
    async with asyncio.timeout(PATIENCE_S):
        await discover(group)
    assert await mirror.rows("SELECT connection FROM mews.vouchers") == [{"connection": "group"}]
    assert await whose(mirror) == dict.fromkeys("ABC", "default")


async def test_what_a_page_brings_that_was_on_its_way_goes_with_its_voucher_too(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    mirror.add_codes(voucher, ["NEW"], days_old=0)

    async def on_answer(record: RequestRecord) -> None:
        if record.operation is Operation.GET_CODES:
            mirror.simulator.on_answer = None
            await mirror.execute(PAUSE)
            await discover(group)

    mirror.simulator.on_answer = on_answer
    await later(mirror)
    assert (await whose(mirror))["NEW"] == "default"
    await audit(group, LOOK)
    assert await whose(mirror) == dict.fromkeys(["A", "B", "C", "NEW"], "group")


async def test_an_audit_gives_codes_to_whose_their_voucher_is(mirror: Mirror, group: Connection) -> None:
    """As where whoever was taking it over died before it had the voucher, and its owner went on."""
    await mirror.execute("UPDATE mews.voucher_codes SET connection = 'group' WHERE value <> 'A'")
    await mirror.execute("ALTER TABLE mews.voucher_codes ADD CONSTRAINT own CHECK (value <> 'B') NOT VALID")
    before = await mirror.rows("SELECT id, mirrored_at FROM mews.voucher_codes ORDER BY id")
    await audit(mirror.connection, LOOK)
    assert await whose(mirror) == {"A": "default", "B": "group", "C": "default"}
    assert await mirror.rows("SELECT id, mirrored_at FROM mews.voucher_codes ORDER BY id") == before
