"""A look finds what is due, and reads nothing again of what was done before."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox import expired_claims, followers, look, routing, uncertain
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claims import Lane, Position, as_daemon, by_index
from sync.outbox.delete_guard import DeleteGuardRule, hold_suspicious
from sync.outbox.due import Wanted, lock_due
from sync.outbox.look import COMMITTED_WITHIN, FEW, NOTHING, Seen, has_earlier, look_and_lock
from sync.outbox.rules import Operation, Status
from sync.postgres.engine import make_engine
from tests.support.claims import Lock, as_few, by_the_look, claim_due_now, in_turn, sent
from tests.support.database import CONNECTION, code, store, uuid
from tests.support.instants import utc
from tests.support.queue import ADDS, DELETES, LEASE, OTHER_VOUCHER, VOUCHER, Outbox, execute

OLD = utc(2026, 1, 2)
OLDER = utc(2026, 1, 1)


async def seen(outbox: Outbox, before: Seen = NOTHING) -> Seen:
    """What a look sees."""
    async with by_index(outbox.engine) as tx:
        return await look.look(tx, CONNECTION, before)


async def earlier(outbox: Outbox, since: Position) -> bool:
    async with by_index(outbox.engine) as tx:
        return await has_earlier(tx, CONNECTION, since)


async def due_at(outbox: Outbox, instant: object) -> int:
    """Queues a row that is due since then."""
    row_id = await outbox.add()
    await outbox.set(row_id, next_attempt_at=instant)
    return row_id


async def test_it_goes_on_at_the_first_row_that_was_due(outbox: Outbox) -> None:
    first, second = await due_at(outbox, OLDER), await due_at(outbox, OLD)
    before = await seen(outbox)
    assert (before.lanes, before.since, before.are_few) == ([ADDS], Position(OLDER, first), True)
    await outbox.bring(first, Status.DONE)
    after = await seen(outbox, before)
    assert (after.lanes, after.since) == ([ADDS], Position(OLD, second))


async def test_where_nothing_is_due_it_goes_on_a_while_before_the_present(outbox: Outbox) -> None:
    await due_at(outbox, utc(2099, 1, 1))
    none = await seen(outbox)
    assert (none.lanes, none.since) == ([], Position(none.now - COMMITTED_WITHIN, 0))
    row_id = await outbox.add()
    later = await seen(outbox, none)
    assert later.lanes == [ADDS]
    claimed = await claim_due_now(outbox, ADDS, seen=later)
    assert sent(claimed) == [row_id]


async def test_what_comes_to_lie_before_it_is_told_and_found_by_a_look_at_all(outbox: Outbox) -> None:
    row_id = await due_at(outbox, OLD)
    before = await seen(outbox)
    assert not await earlier(outbox, before.since)
    missed = await due_at(outbox, OLDER)
    await outbox.bring(row_id, Status.DONE)
    after = await seen(outbox, before)
    assert after.lanes == []
    assert await earlier(outbox, after.since)
    assert (await seen(outbox)).since == Position(OLDER, missed)


async def test_a_row_that_is_not_due_is_not_told_as_earlier(outbox: Outbox) -> None:
    await due_at(outbox, utc(2099, 1, 1))
    assert not await earlier(outbox, Position(utc(2100, 1, 1), 0))


async def test_a_clock_that_was_put_back_has_all_looked_at(outbox: Outbox) -> None:
    row_id = await outbox.add()
    now = await outbox.now()
    hour = timedelta(hours=1)
    after_a_step = Seen([], Position(now + hour, 0), are_few=True, now=now + hour)
    found = await seen(outbox, after_a_step)
    assert found.lanes == [ADDS]
    assert found.since < Position(now, row_id)


@pytest.mark.parametrize(("rows", "are_few"), [(FEW - 1, True), (FEW, False), (FEW + 1, False)])
async def test_every_lane_is_found_however_much_is_due(outbox: Outbox, rows: int, are_few: bool) -> None:
    await outbox.know(OTHER_VOUCHER.int, enterprise_id=uuid(3001))
    await execute(
        outbox.engine,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        "SELECT 'add', :voucher, generate_series(1, CAST(:rows AS int) - 2)",
        voucher=VOUCHER, rows=rows,
    )  # fmt: skip
    await outbox.delete("X")
    await outbox.add(voucher_id=OTHER_VOUCHER)
    found = await seen(outbox)
    assert found.are_few == are_few
    assert set(found.lanes) == {ADDS, DELETES, Lane(CONNECTION, Operation.ADD, uuid(3001))}


@pytest.mark.parametrize("lock", [as_few, by_the_look])
async def test_of_few_rows_what_has_a_higher_priority_goes_first(outbox: Outbox, lock: Lock) -> None:
    row_ids = [await outbox.add(priority=priority) for priority in (0, 2, 1, 2)]
    async with by_index(outbox.engine) as tx:
        due = await lock(tx)
    assert [row.id for row in due] == [row_ids[number] for number in (1, 3, 2, 0)]


async def test_of_few_rows_it_is_told_of_which_the_mirror_may_have_a_code(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER", is_active=False))
    row_ids = [await outbox.add(value) for value in ("SUMMER", "WINTER")]
    for lock, expected in ((as_few, [True, False]), (by_the_look, [True, False]), (in_turn, [True, True])):
        async with by_index(outbox.engine) as tx:
            due = await lock(tx)
        assert {row.id: row.may_be_mirrored for row in due} == dict(zip(row_ids, expected, strict=True))


async def test_what_was_taken_for_few_and_is_more_goes_in_turn(outbox: Outbox) -> None:
    row_ids = [await outbox.add(priority=priority) for priority in (0, 0, 1)]
    async with by_index(outbox.engine) as tx:
        due = await lock_due(tx, Wanted(ADDS, 2), are_few=True)
    assert [row.id for row in due] == [row_ids[2], row_ids[0]]


@pytest.mark.parametrize("lock", [in_turn, as_few, by_the_look])
async def test_a_claim_takes_nothing_that_lies_before(outbox: Outbox, lock: Lock) -> None:
    older, old = await due_at(outbox, OLDER), await due_at(outbox, OLD)
    for since, expected in ((Position(OLDER, older), [older, old]), (Position(OLDER, older + 1), [old])):
        async with by_index(outbox.engine) as tx:
            due = await lock(tx, since)
        assert [row.id for row in due] == expected


async def test_a_row_whose_voucher_becomes_known_is_due_from_then_on(outbox: Outbox) -> None:
    row_id = await outbox.add(voucher_id=uuid(1500))
    await outbox.set(row_id, next_attempt_at=OLD)
    before = await seen(outbox)
    await outbox.know(1500)
    async with as_daemon(outbox.engine) as tx:
        await routing.assign(tx, CONNECTION)
    assert (await seen(outbox, before)).lanes == [ADDS]


SENT = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
SELECT :operation, :voucher, generate_series(1, CAST(:rows AS int))
"""
CLAIMED = "UPDATE mews.voucher_code_outbox SET status = 'sending', attempts = 1, attempt_id = gen_random_uuid()"
DONE = "UPDATE mews.voucher_code_outbox SET status = 'done', finished_at = now(), voucher_code_id = gen_random_uuid()"
READ = """
SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index
WHERE indrelid = 'mews.voucher_code_outbox'::regclass
"""
ANALYZE = "ANALYZE mews.voucher_code_outbox"


async def read_by(outbox: Outbox, act: Callable[[AsyncConnection], Awaitable[object]]) -> int:
    """How many entries of indexes of the outbox are read, by a session that has read nothing before."""
    await outbox.engine.dispose()
    async with by_index(outbox.engine) as tx:
        await act(tx)
        return int((await tx.execute(text(READ))).scalar_one())


async def everything_that_is_done_for_a_row(tx: AsyncConnection, before: Seen, row_id: int) -> None:
    """What runs for each change, and every few seconds, of which one can be claimed."""
    await followers.move_some(tx, None)
    await routing.assign(tx, CONNECTION)
    await routing.fail_unknown(tx, CONNECTION, discovered_as_of=None, caught_up_as_of=None)
    found = await look.look(tx, CONNECTION, before)
    assert found.lanes == [ADDS]
    watch = ClaimWatch(LEASE)
    await expired_claims.expire_claims(tx, CONNECTION, watch, LEASE, with_orphans=False)
    await uncertain.load_uncertain(tx, CONNECTION, with_orphans=False)
    due = await as_few(tx, found.since)
    assert await by_the_look(tx, found.since) == due
    await lock_due(tx, Wanted(ADDS, 1, since=found.since))  # as with a backlog
    assert [row.id for row in due] == [row_id]
    await followers.move_followers(tx, [row_id])


@asynccontextmanager
async def kept_open(url: str) -> AsyncIterator[None]:
    """A transaction that sees the outbox as it is now until its end."""
    engine = make_engine(url)
    async with engine.connect() as reader:
        await reader.exec_driver_sql("DECLARE kept CURSOR FOR SELECT FROM mews.voucher_code_outbox")
        yield
    await engine.dispose()


@pytest.mark.sampled
@pytest.mark.parametrize("analysed", ["never", "when empty", "before they are sent", "when they are done"])
async def test_what_was_sent_beside_an_open_transaction_is_not_read_again(
    unused: Outbox, unused_url: str, analysed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "COMMITTED_WITHIN", timedelta())  # as a while later
    outbox, rows = unused, 3000
    if analysed == "when empty":
        await execute(outbox.engine, ANALYZE)
    async with kept_open(unused_url):
        await execute(outbox.engine, SENT, operation="add", voucher=VOUCHER, rows=rows)
        if analysed == "before they are sent":
            await execute(outbox.engine, ANALYZE)
        async with as_daemon(outbox.engine) as tx:
            for statement in (CLAIMED, DONE):
                await tx.execute(text(statement))
        if analysed == "when they are done":
            await execute(outbox.engine, ANALYZE)
        before = await seen(outbox)
        row_id = await outbox.add()
        assert await read_by(outbox, partial(everything_that_is_done_for_a_row, before=before, row_id=row_id)) < 100
        assert await read_by(outbox, partial(look.look, connection=CONNECTION, before=NOTHING)) > rows


@pytest.mark.sampled
@pytest.mark.parametrize("analysed", ["never", "when empty", "when they are done"])
async def test_deletes_that_were_sent_beside_an_open_transaction_are_not_counted_again(
    unused: Outbox, unused_url: str, analysed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "COMMITTED_WITHIN", timedelta())  # as a while later
    outbox, rows = unused, 3000
    if analysed == "when empty":
        await execute(outbox.engine, ANALYZE)
    async with kept_open(unused_url):
        await execute(outbox.engine, SENT, operation="delete", voucher=VOUCHER, rows=rows)
        async with as_daemon(outbox.engine) as tx:
            for statement in (CLAIMED, DONE):
                await tx.execute(text(statement))
        if analysed == "when they are done":
            await execute(outbox.engine, ANALYZE)
        since = (await seen(outbox)).since
        await outbox.delete("ANOTHER")
        rule = DeleteGuardRule(share=0, at_least=2, window=timedelta())
        count = partial(hold_suspicious, connection=CONNECTION, rules=[rule])
        assert await read_by(outbox, partial(count, since=since)) < 100
        assert await read_by(outbox, partial(count, rules=[replace(rule, at_least=1)], since=since)) > rows, "held"
        assert (await outbox.statuses()).count("held") == 1


async def test_what_becomes_anothers_between_being_seen_and_being_locked_is_not_locked(outbox: Outbox) -> None:
    """As where one that mirrors its voucher too takes that over from a connection that is paused."""
    first, second = await outbox.add(), await outbox.add()
    found: list[Any] = []
    event.listen(outbox.engine.sync_engine, "before_execute", lambda *given: found.append(given[1:4]), once=True)
    async with by_index(outbox.engine) as tx:
        await look_and_lock(tx, CONNECTION, NOTHING, without=[])
    ((statement, _, parameters),) = found
    async with by_index(outbox.engine) as tx:
        rows = (await tx.stream(statement, parameters, execution_options={"yield_per": 1})).mappings()
        assert (await anext(rows))["id"] == first
        await outbox.set(second, connection="another")  # which is seen by now, and not locked
        assert [(row["due_id"], row["id"]) async for row in rows] == [(second, None)]
