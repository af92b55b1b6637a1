"""Users take turns, and what has a higher priority goes before all others."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from sync.outbox.claims import Lane, as_daemon, by_index
from sync.outbox.due import Wanted, lock_due
from sync.outbox.rules import Operation
from sync.postgres.engine import make_engine
from tests.support.database import CONNECTION, rows
from tests.support.instants import utc
from tests.support.postgres import new_database
from tests.support.queue import ADDS, OTHER_VOUCHER, VOUCHER, Outbox, emptied, execute

QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, priority)
SELECT 'add', :voucher, :user || number, :priority FROM generate_series(1, CAST(:count AS int)) AS number
"""


async def queue(outbox: Outbox, user: str, count: int, *, priority: int = 0) -> None:
    """Queues rows in the name of somebody."""
    parameters = {"voucher": VOUCHER, "user": user, "count": count, "priority": priority}
    await execute(outbox.engine, QUEUE, **parameters)
    async with as_daemon(outbox.engine) as tx:
        named = text("UPDATE mews.voucher_code_outbox SET queued_by = :user WHERE value LIKE :user || '%'")
        await tx.execute(named, {"user": user})


async def shares(outbox: Outbox, limit: int) -> dict[str, int]:
    """Whose rows go in the next call."""
    async with by_index(outbox.engine) as tx:
        due = await lock_due(tx, Wanted(ADDS, limit))
    assert len(due) == len({row.id for row in due}) <= limit
    return dict(Counter((row.value or "").rstrip("0123456789") for row in due))


async def test_one_row_is_in_the_next_call_whoever_queued_how_many_before(outbox: Outbox) -> None:
    await queue(outbox, "bulk", 500)
    await queue(outbox, "shop", 1)
    assert await shares(outbox, 100) == {"bulk": 99, "shop": 1}


@pytest.mark.parametrize(
    ("queued", "limit", "expected"),
    [
        ({"a": 50, "b": 50}, 20, {"a": 10, "b": 10}),
        ({"a": 50, "b": 50, "c": 50}, 20, {"a": 7, "b": 6, "c": 7}),
        ({"a": 50, "b": 3, "c": 50}, 21, {"a": 9, "b": 3, "c": 9}),
        ({"a": 1, "b": 2, "c": 3}, 100, {"a": 1, "b": 2, "c": 3}),
        ({"a": 1, "b": 2, "c": 30}, 10, {"a": 1, "b": 2, "c": 7}),
        ({"a": 5, "b": 5}, 1, {"b": 1}),
    ],
)
async def test_users_share_a_call_and_leave_nothing_of_it(
    outbox: Outbox, queued: dict[str, int], limit: int, expected: dict[str, int]
) -> None:
    for user, count in queued.items():
        await queue(outbox, user, count)
    assert sum(expected.values()) == min(limit, sum(queued.values()))
    found = await shares(outbox, limit)
    assert sorted(found.values()) == sorted(expected.values())
    assert set(found) <= set(queued)


async def test_what_is_first_of_each_user_is_first_in_the_call(outbox: Outbox) -> None:
    """So that a call which is cut short after some rows leaves nobody out."""
    for user in ("a", "b", "c"):
        await queue(outbox, user, 3)
    async with by_index(outbox.engine) as tx:
        users = [(row.value or "")[0] for row in await lock_due(tx, Wanted(ADDS, 9))]
    assert [set(users[at : at + 3]) for at in (0, 3, 6)] == [{"a", "b", "c"}] * 3


async def test_a_higher_priority_goes_first(outbox: Outbox) -> None:
    await queue(outbox, "bulk", 20)
    await queue(outbox, "late", 5, priority=-1)
    await queue(outbox, "urgent", 4, priority=7)
    await queue(outbox, "soon", 4, priority=1)
    assert await shares(outbox, 3) == {"urgent": 3}
    assert await shares(outbox, 10) == {"urgent": 4, "soon": 4, "bulk": 2}
    assert await shares(outbox, 30) == {"urgent": 4, "soon": 4, "bulk": 20, "late": 2}


async def test_a_priority_that_is_not_due_keeps_nobody_waiting(outbox: Outbox) -> None:
    await outbox.add("later", priority=9, not_before=utc(2099, 1, 1))
    await queue(outbox, "bulk", 2)
    assert await shares(outbox, 10) == {"bulk": 2}


async def test_the_operator_changes_what_is_queued(outbox: Outbox) -> None:
    await queue(outbox, "bulk", 20)
    await outbox.change(await outbox.add("urgent"), priority=3)
    assert await shares(outbox, 1) == {"urgent": 1}


async def test_rows_of_nobody_have_their_turn_too(outbox: Outbox) -> None:
    await queue(outbox, "bulk", 20)
    await outbox.set(await outbox.add("nobody"), queued_by=None)
    assert await shares(outbox, 4) == {"bulk": 3, "nobody": 1}


async def test_a_hotel_without_an_id_is_a_lane_of_turns_too(outbox: Outbox) -> None:
    await outbox.know(OTHER_VOUCHER.int, enterprise_id=None)
    row_ids = [await outbox.add(voucher_id=OTHER_VOUCHER, priority=number) for number in range(3)]
    async with by_index(outbox.engine) as tx:
        due = await lock_due(tx, Wanted(Lane(CONNECTION, Operation.ADD, None), 10))
    assert [row.id for row in due] == row_ids[::-1]


@pytest.fixture
async def unused(server_url: str, template: str) -> AsyncIterator[Outbox]:
    """An empty outbox of its own: what is known of a table outlives its rows."""
    with new_database(server_url, template=template) as url:
        engine = make_engine(url)
        yield await emptied(engine)
        await engine.dispose()


@pytest.mark.parametrize("analysed", ["never", "when empty", "when emptied", "when full"])
async def test_of_a_call_s_rows_few_are_read_however_many_wait(unused: Outbox, analysed: str) -> None:
    outbox = unused
    if analysed == "when emptied":
        await queue(outbox, "bulk", 3000)
        await execute(outbox.engine, "ANALYZE mews.voucher_code_outbox")
        await emptied(outbox.engine)
    if analysed in {"when empty", "when emptied"}:
        await execute(outbox.engine, "ANALYZE mews.voucher_code_outbox")
    await queue(outbox, "bulk", 3000)
    await queue(outbox, "shop", 1)
    if analysed == "when full":
        await execute(outbox.engine, "ANALYZE mews.voucher_code_outbox")
    read = """
        SELECT idx_tup_fetch + seq_tup_read AS read FROM pg_stat_xact_user_tables
        WHERE relname = 'voucher_code_outbox'
    """
    async with by_index(outbox.engine) as tx:
        before = (await tx.execute(text(read))).scalar_one()
        await lock_due(tx, Wanted(ADDS, 20))
        assert (await tx.execute(text(read))).scalar_one() - before < 200
    (row,) = await rows(outbox.engine, "SELECT count(*) AS count FROM mews.voucher_code_outbox")
    assert row["count"] == 3001
