"""Of many connections too, the first screen tells why changes are refused, as of a single one."""

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.status_text import as_text
from sync.postgres.engine import transaction
from sync.service.status import reasons
from sync.service.status.facts import Overview
from sync.service.status.load import load_overview
from sync.service.status.reasons import with_reasons
from sync.service.status.verdict import judge

from .helpers import VOUCHER, queue

TAKEN = "403 voucherCodes/add: a voucher code with this value exists"


async def load(engine: AsyncEngine) -> Overview:
    """As the page and `status` have it."""
    async with transaction(engine) as tx:
        return await with_reasons(tx, await load_overview(tx, (), of_the_only_one=True))


def add_hotel(sql: psycopg.Connection, name: str) -> None:
    sql.execute(
        "INSERT INTO sync.connections (name, state, heartbeat_at, caught_up_as_of, token_fingerprint) "
        "VALUES (%s, 'ok', now(), now(), %s)",
        [name, name],
    )


async def test_why_changes_are_refused_is_told_of_each_of_several(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    add_hotel(sql, "prague")
    for number in range(3):
        queue(sql, f"TAKEN-{number}", "failed", connection="prague", error=TAKEN)
    queue(sql, "ODD", "failed", connection="prague", error="ODD is odd")
    for _ in range(2):
        sql.execute(
            "INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason) "
            "VALUES ('default', gen_random_uuid()::text::bytea, 'VoucherCodes', '{}', 'no Id')"
        )
    overview = await load(engine)
    verdict = judge(overview)
    assert (verdict.cause.partition("longest ")[2], [note.text for note in verdict.notes]) == (
        "default: 2 records of the API cannot be stored; the reason: no Id",
        [f"prague: 4 changes refused for good, so not tried again; most often: {TAKEN}"],
    )
    shown = " ".join(" ".join(as_text(overview, 30, 120)).split())
    assert shown.count(TAKEN) == 2, "once above, and once in its line below"


async def test_of_very_many_the_first_are_explained(
    sql: psycopg.Connection, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        add_hotel(sql, f"hotel-{number}")
        queue(sql, f"CODE-{number}", "failed", connection=f"hotel-{number}", error="no such voucher")
    monkeypatch.setattr(reasons, "EXPLAINED", 2)
    overview = await load(engine)
    explained = [one.name for one in overview.connections if one.details.failed]
    assert explained == ["hotel-0", "hotel-1"]


async def test_what_one_connection_lacks_hides_nothing_of_another(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    add_hotel(sql, "prague")
    for number in range(25):
        sql.execute(
            "INSERT INTO sync.skipped (connection, kind, id, reason) "
            "SELECT 'default', 'service', gen_random_uuid(), %s FROM generate_series(1, 2)",
            [f"reason {number}"],
        )
        sql.execute(
            "INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason) "
            "SELECT 'default', gen_random_uuid()::text::bytea, 'Vouchers', '{}', %s FROM generate_series(1, 2)",
            [f"reason {number}"],
        )
    sql.execute(
        "INSERT INTO sync.skipped (connection, kind, id, reason) VALUES ('prague', 'service', %s, 'no')", [VOUCHER]
    )
    sql.execute(
        "INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason) "
        "VALUES ('prague', 'x', 'Vouchers', '{}', 'no')"
    )
    async with transaction(engine) as tx:
        default, prague = (await load_overview(tx)).connections
    assert [len(default.details.skipped_because), len(default.details.rejected_because)] == [20, 20]
    assert [one.reason for one in (*prague.details.skipped_because, *prague.details.rejected_because)] == ["no", "no"]
