"""How many codes there are of each voucher and month is known without counting, whatever happens to codes."""

import asyncio
from typing import Any

import pytest
from alembic import command
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.audit.overwrite import mark_missing, overwrite
from sync.mirror import counts
from sync.mirror.counts import COUNTED, correct, merge
from sync.mirror.upsert import note_deleted, store_voucher_codes
from sync.postgres.engine import make_engine, transaction
from sync.postgres.migrations import migrate
from sync.service import app
from tests.migrations.helpers import alembic
from tests.mirror.helpers import NEW, OLD
from tests.support.database import CONNECTION, blocked, code, execute, footprint, make_known, rows, store, uuid
from tests.support.flows import numbered
from tests.support.instants import utc
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox

KEPT = "SELECT voucher_id, created_month, issued, active, deleted FROM mews.voucher_codes_by_month ORDER BY 1, 2"
TABLE = "sync.code_counts"
LONG_BEFORE = utc(2020, 5, 1)
PAGE = [
    code(1, "A", OLD),
    code(2, "B", OLD, is_active=False),
    code(3, "C", OLD, created_utc=utc(2025, 12, 31, 23, 59)),
    code(4, "D", None, created_utc=None),
    code(5, "E", OLD, voucher_id=uuid(1001)),
]


VOUCHERS = f"""
INSERT INTO mews.vouchers (id, service_id, enterprise_id, name, is_active, connection)
SELECT DISTINCT voucher_id, gen_random_uuid(), gen_random_uuid(), 'V', true, '{CONNECTION}' FROM {TABLE}
ON CONFLICT DO NOTHING
"""


async def is_right(engine: AsyncEngine) -> bool:
    """Whether what is kept is what counting finds."""
    return list(await rows(engine, KEPT)) == list(await rows(engine, f"{COUNTED} ORDER BY 1, 2"))


async def test_each_voucher_and_month_is_counted(engine: AsyncEngine) -> None:
    await store(engine, *PAGE)
    found = [(row["created_month"], row["issued"], row["active"], row["deleted"]) for row in await rows(engine, KEPT)]
    december, january = utc(2025, 12, 1).date(), utc(2026, 1, 1).date()
    assert found == [(december, 1, 1, 0), (january, 2, 1, 1), (None, 1, 1, 0), (january, 1, 1, 0)]
    assert await is_right(engine)


async def mirrored_at(tx: AsyncConnection) -> Any:
    return (await tx.exec_driver_sql("SELECT mirrored_at FROM mews.voucher_codes WHERE value = 'A'")).scalar_one()


async def mark(tx: AsyncConnection) -> None:
    await mark_missing(tx, [(uuid(1), await mirrored_at(tx))])


async def mend(tx: AsyncConnection) -> None:
    await overwrite(tx, [(code(1, "A", NEW, voucher_id=uuid(1001), is_active=False), await mirrored_at(tx))])


CHANGES: dict[str, Any] = {
    "a delete": lambda tx: note_deleted(tx, [uuid(1), uuid(3)]),
    "a page": lambda tx: store_voucher_codes(tx, CONNECTION, [code(1, "A", NEW, is_active=False), code(6, "F", NEW)]),
    "another month": lambda tx: store_voucher_codes(tx, CONNECTION, [code(1, "A", NEW, created_utc=LONG_BEFORE)]),
    "an audit's mark": mark,
    "an audit's repair": mend,
    "a delete by hand": lambda tx: tx.exec_driver_sql("DELETE FROM mews.voucher_codes WHERE value IN ('A', 'C')"),
    "an end by hand": lambda tx: tx.exec_driver_sql("TRUNCATE mews.voucher_codes"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_whatever_changes_codes_changes_the_counts(engine: AsyncEngine, change: Any) -> None:
    await store(engine, *PAGE)
    before = await rows(engine, KEPT)
    async with transaction(engine) as tx:
        await change(tx)
    assert list(await rows(engine, KEPT)) != list(before)
    assert await is_right(engine)


async def test_what_is_not_counted_writes_nothing(engine: AsyncEngine) -> None:
    await store(engine, *PAGE)
    before = await footprint(engine, TABLE)
    assert await store(engine, *PAGE) == 0
    assert await store(engine, code(1, "a", NEW)) == 1
    assert await footprint(engine, TABLE) == before


async def test_two_who_store_codes_of_one_voucher_do_not_wait_for_each_other(engine: AsyncEngine) -> None:
    async with transaction(engine) as tx:
        await make_known(tx)
    async with transaction(engine) as tx:
        await store_voucher_codes(tx, CONNECTION, [code(1, "A", OLD)])
        other = asyncio.create_task(store(engine, code(2, "B", OLD)))
        await blocked(engine, other)
        assert other.done()
    assert await is_right(engine)


async def test_many_rows_become_one_of_each_voucher_and_month(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "WORTH_MERGING", 10)
    for number in range(1, 10):
        await store(engine, code(number, "A", OLD), code(100 + number, "A", OLD, created_utc=None))
        async with transaction(engine) as tx:
            await merge(tx)
    assert len(await footprint(engine, TABLE)) < 10
    assert await is_right(engine)
    before = await footprint(engine, TABLE)
    async with transaction(engine) as tx:
        assert await merge(tx) == 0
    assert await footprint(engine, TABLE) == before


async def test_two_who_merge_at_once_count_nothing_twice(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "WORTH_MERGING", 2)
    for number in range(1, 5):
        await store(engine, code(number, "A", OLD))

    async def late() -> None:
        async with transaction(engine) as tx:
            await merge(tx)

    async with transaction(engine) as tx:
        assert await merge(tx) == 1
        other = asyncio.create_task(late())
        await blocked(engine, other)
        assert not other.done()
    await other
    assert await is_right(engine)


async def test_an_end_by_hand_that_meets_a_merge_leaves_no_count(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "WORTH_MERGING", 2)
    await store(engine, code(1, "A", OLD))
    await store(engine, code(2, "B", OLD))
    async with transaction(engine) as tx:
        assert await merge(tx) == 1
        emptying = asyncio.create_task(execute(engine, "TRUNCATE mews.voucher_codes"))
        await blocked(engine, emptying)
    await emptying
    assert await rows(engine, f"SELECT * FROM {TABLE}") == []


async def test_an_end_by_hand_that_waits_for_a_reader_does_not_meet_a_count_anew(engine: AsyncEngine) -> None:
    await store(engine, *PAGE)
    await execute(engine, VOUCHERS)

    async def count_anew() -> None:
        async with transaction(engine) as tx:
            await correct(tx, CONNECTION)

    async with transaction(engine) as reader:
        await reader.exec_driver_sql("SELECT FROM mews.voucher_codes")
        emptying = asyncio.create_task(execute(engine, "TRUNCATE mews.voucher_codes"))
        await blocked(engine, emptying)
        counting = asyncio.create_task(count_anew())
        await blocked(engine, emptying, counting, sessions=2)
    await emptying
    await counting
    assert await rows(engine, f"SELECT * FROM {TABLE}") == []


async def test_what_was_not_counted_is_put_right(engine: AsyncEngine) -> None:
    """As after a restore of data alone, or by who had disabled the triggers."""
    await store(engine, *PAGE)
    await execute(engine, f"INSERT INTO {TABLE} SELECT * FROM {TABLE}")
    await execute(engine, f"INSERT INTO {TABLE} VALUES ('{uuid(7)}', '2020-01-01', 3, 2, 1)")
    await execute(engine, VOUCHERS)
    assert not await is_right(engine)
    async with transaction(engine) as tx:
        assert await correct(tx, "another") == 0
        assert await correct(tx, CONNECTION) == 5
    assert await is_right(engine)
    async with transaction(engine) as tx:
        assert await correct(tx, CONNECTION) == 0


@pytest.mark.long
async def test_a_database_with_codes_has_them_counted_by_its_migration(empty_database_url: str) -> None:
    await asyncio.to_thread(migrate, empty_database_url)
    engine = make_engine(empty_database_url)
    await store(engine, *PAGE)
    with alembic(empty_database_url) as config:
        command.downgrade(config, "0021")
    await asyncio.to_thread(migrate, empty_database_url)
    assert await is_right(engine)
    await engine.dispose()


async def test_what_adds_have_counted_is_made_short_also_where_pulls_bring_nothing(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hotel all of whose codes are queued here: each add leaves a row, and its pull finds the code there."""
    monkeypatch.setattr(counts, "WORTH_MERGING", 5)
    voucher = mirror.add_voucher()
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.discover()
    for value in numbered(5):
        await jobs.pull_turn()
        await outbox.add(voucher, value)
        assert (await jobs.outbox.push_all()).done == 1
        mirror.clock.advance(A_WHILE)
    await jobs.prune()
    assert await mirror.rows("SELECT issued FROM sync.code_counts") == [{"issued": 5}]
