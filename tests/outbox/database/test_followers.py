"""A row that is to follow another is due once that one is done, and says until then what it waits for."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import text

from sync.connection.gaps import Gap, Known
from sync.core.errors import DatabaseError
from sync.outbox import followers
from sync.outbox.claims import Lane, as_daemon, by_index
from sync.outbox.followers import move_followers, move_some
from sync.outbox.future_rows import bring_forward, make_due
from sync.outbox.gap import hold_before_gap, release
from sync.outbox.look import due_lanes
from sync.outbox.retention import prune
from sync.outbox.rules import Status
from sync.outbox.tables import PUT_OFF_UNTIL
from sync.postgres.engine import Opened
from tests.support.claims import may_go
from tests.support.database import CONNECTION, code, store, uuid
from tests.support.instants import utc
from tests.support.queue import ADDS, DELETES, KEY, Outbox, as_user, change

NOT_DONE = [status for status in Status if status not in {Status.DONE, Status.CANCELLED}]


async def due(outbox: Outbox, lane: Lane = DELETES) -> list[int]:
    """What could be claimed now."""
    return await may_go(outbox, lane)


async def look(outbox: Outbox) -> None:
    """A look at all rows that wait."""
    async with as_daemon(outbox.engine) as tx:
        assert await move_some(tx, None) is None


async def end(outbox: Outbox, first: int, status: Status) -> None:
    """The first row ends, and the rows behind it are moved, as whoever completes it does."""
    await outbox.bring(first, status)
    async with as_daemon(outbox.engine) as tx:
        await move_followers(tx, [first])


async def told(outbox: Outbox, row_id: int) -> str | None:
    words: str | None = (await outbox.row(row_id))["last_error"]
    return words


async def test_a_row_goes_once_the_one_before_it_is_done(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first)
    assert await due(outbox) == []
    assert await told(outbox, follower) == f"waits until row {first} is done"
    async with as_daemon(outbox.engine) as tx:
        assert await due_lanes(tx, CONNECTION) == [ADDS]
    await end(outbox, first, Status.DONE)
    assert await due(outbox) == [follower]
    assert await told(outbox, follower) is None


@pytest.mark.parametrize("status", NOT_DONE)
async def test_a_row_that_is_made_due_by_anything_else_does_not_go_before(outbox: Outbox, status: Status) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first)
    await outbox.bring(first, status)
    await outbox.set(follower, next_attempt_at=utc(2020, 1, 1))
    assert await due(outbox) == []
    await look(outbox)
    assert (await outbox.row(follower))["next_attempt_at"] == PUT_OFF_UNTIL


async def test_what_waits_for_one_that_failed_says_so_and_goes_once_a_retry_is_done(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first)
    await end(outbox, first, Status.FAILED)
    assert await told(outbox, follower) == f"waits for row {first}, which failed: retry that one, or cancel this one"
    assert await due(outbox) == []
    await outbox.change(first, status="pending")
    await look(outbox)
    assert await told(outbox, follower) == f"waits until row {first} is done"
    await end(outbox, first, Status.DONE)
    assert await due(outbox) == [follower]


async def test_what_waits_for_one_that_is_cancelled_is_cancelled_and_so_on(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    second = await outbox.delete("OLD", after_id=first)
    third = await outbox.add("OLD", after_id=second)
    await outbox.change(first, status="cancelled")
    await look(outbox)
    await look(outbox)
    for row_id, before in ((second, first), (third, second)):
        row = await outbox.row(row_id)
        assert (row["status"], row["attempts"]) == ("cancelled", 0)
        assert row["last_error"] == f"cancelled, since row {before} was, which was to be done before it"
        assert row["finished_at"] is not None


@pytest.mark.parametrize("opened", [as_daemon, by_index])
async def test_a_look_leaves_a_transaction_s_ways_of_reading_as_they_were(outbox: Outbox, opened: Opened) -> None:
    await outbox.delete("OLD", after_id=await outbox.add("NEW"))
    ways = text("SELECT current_setting('enable_seqscan'), current_setting('enable_sort')")
    async with opened(outbox.engine) as tx:
        before = (await tx.execute(ways)).one()
        await move_some(tx, None)
        assert (await tx.execute(ways)).one() == before


async def test_a_look_finds_what_was_queued_while_the_first_was_completed(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    async with as_user(outbox.engine) as tx:
        await tx.exec_driver_sql(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, after_id) "
            f"SELECT 'delete', voucher_id, 'OLD', id FROM mews.voucher_code_outbox WHERE id = {first}"
        )
        await end(outbox, first, Status.DONE)
    assert await due(outbox) == []
    await look(outbox)
    assert len(await due(outbox)) == 1


async def test_a_look_goes_on_where_the_last_one_ended(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "MAX_LOOKED_AT", 2)
    first = await outbox.add("NEW")
    rows = [await outbox.delete(f"OLD-{number}", after_id=first) for number in range(5)]
    await outbox.bring(first, Status.DONE)
    found: list[Sequence[int]] = []
    place: followers.Reached | None = None
    for _ in range(3):
        async with as_daemon(outbox.engine) as tx:
            place = await move_some(tx, place)
        found.append(await due(outbox))
    assert (found, place) == ([rows[:2], rows[:4], rows], None)


async def test_a_row_that_a_user_holds_keeps_nobody_waiting_and_goes_later(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    held, free = [await outbox.delete(value, after_id=first) for value in ("A", "B")]
    async with as_user(outbox.engine) as tx:
        await change(tx, held, note="looked at")
        await end(outbox, first, Status.DONE)
        assert await due(outbox) == [free]
    await look(outbox)
    assert set(await due(outbox)) == {held, free}


async def test_not_before_counts_once_it_need_not_wait(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first, not_before=utc(2099, 1, 1))
    await outbox.change(follower, not_before=utc(2098, 1, 1))
    assert (await outbox.row(follower))["next_attempt_at"] == PUT_OFF_UNTIL
    await end(outbox, first, Status.DONE)
    assert (await outbox.row(follower))["next_attempt_at"] == utc(2098, 1, 1)
    await look(outbox)
    assert (await outbox.row(follower))["next_attempt_at"] == utc(2098, 1, 1)


async def test_a_released_row_goes_on_waiting(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    by_user, by_adopt = [await outbox.delete(value, after_id=first) for value in ("A", "B")]
    for row_id in (by_user, by_adopt):
        await outbox.bring(row_id, Status.HELD)
    await outbox.change(by_user, status="pending")
    assert (await outbox.row(by_user))["next_attempt_at"] == PUT_OFF_UNTIL
    async with as_daemon(outbox.engine) as tx:
        await release(tx, [by_adopt])
    assert await due(outbox) == []
    await end(outbox, first, Status.DONE)
    assert set(await due(outbox)) == {by_user, by_adopt}


async def test_a_row_that_was_sent_and_waits_for_its_next_attempt_is_left_alone(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first)
    await end(outbox, first, Status.DONE)
    await outbox.set(follower, attempts=1, next_attempt_at=utc(2098, 1, 1), last_error="the API is down")
    before = await outbox.row(follower)
    await look(outbox)
    assert await outbox.row(follower) == before


async def test_a_row_that_waits_is_found_before_a_gap_as_any_other(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first)
    await outbox.bring(first, Status.DONE)
    known = Known(uuid(1), 1, None, None, None, None, None, Gap.COPY, utc(2099, 1, 1), follower)
    async with as_daemon(outbox.engine) as tx:
        assert (await hold_before_gap(tx, known)).ids == {follower}


async def test_no_step_of_the_databases_clock_ends_the_wait(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first)
    await outbox.set(follower, created_at=utc(2099, 1, 1))
    before = await outbox.row(follower)
    async with as_daemon(outbox.engine) as tx:
        assert await make_due(tx, CONNECTION) == 0
        await bring_forward(tx, CONNECTION, timedelta(days=1), {})
    assert await outbox.row(follower) == before


async def test_a_first_row_is_kept_as_long_as_one_that_follows_it(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    follower = await outbox.delete("OLD", after_id=first)
    await outbox.bring(first, Status.DONE)
    await outbox.set(first, finished_at=utc(2020, 1, 1))
    with pytest.raises(DatabaseError, match=r"23503.*voucher_code_outbox_after_id_fkey"):
        async with as_user(outbox.engine) as tx:
            await tx.exec_driver_sql(f"DELETE FROM mews.voucher_code_outbox WHERE id = {first}")
    for expected in (0, 1, 1):
        async with as_daemon(outbox.engine) as tx:
            assert (await prune(tx, timedelta(days=90))).count == expected
        if not expected:
            await outbox.bring(follower, Status.DONE)
            await outbox.set(follower, finished_at=utc(2020, 1, 2))


# What an INSERT is refused for.


async def test_a_row_follows_only_one_that_was_queued_before_and_may_be_done(outbox: Outbox) -> None:
    first = await outbox.add("NEW")
    with pytest.raises(DatabaseError, match=r"23514.*after_id: the outbox has no row 0$"):
        await outbox.delete("OLD", after_id=0)
    for later in (first + 4, 2**62):
        with pytest.raises(DatabaseError, match=r"23514.*after_id: must be the number of a row that was queued before"):
            await outbox.delete("OLD", after_id=later)
    await outbox.change(first, status="cancelled")
    with pytest.raises(DatabaseError, match=rf"23514.*after_id: row {first} was cancelled, and is never done"):
        await outbox.delete("OLD", after_id=first)
    assert await outbox.statuses() == ["cancelled"]


async def test_a_row_behind_one_that_is_done_is_due_at_once(outbox: Outbox) -> None:
    add = await outbox.add("A")
    took_back = await outbox.delete("A")
    assert [await outbox.status(one) for one in (add, took_back)] == [Status.CANCELLED] * 2
    done = await outbox.add("B")
    await outbox.bring(done, Status.DONE)
    expected = [await outbox.add(value, after_id=first) for value, first in (("A", took_back), ("C", done))]
    assert await due(outbox, ADDS) == expected
    await look(outbox)
    assert await due(outbox, ADDS) == expected


async def test_a_writer_follows_its_own_rows_and_learns_nothing_of_others(outbox: Outbox, writer: Outbox) -> None:
    theirs, mine = await outbox.add("THEIRS"), await writer.add("MINE")
    follower = await writer.delete("OLD", after_id=mine)
    assert await told(outbox, follower) == f"waits until row {mine} is done"
    for unknown in (theirs, 0):
        with pytest.raises(DatabaseError, match=rf"23514.*after_id: you have queued no row {unknown}$"):
            await writer.delete("OLDER", after_id=unknown)
    assert await told(outbox, await outbox.delete("OLDER", after_id=mine)) == f"waits until row {mine} is done"


async def test_nobody_changes_what_a_row_follows(outbox: Outbox, writer: Outbox) -> None:
    first, other = await writer.add("A"), await writer.add("B")
    follower = await writer.delete("OLD", after_id=first)
    for user in (outbox, writer):
        for value in (None, other):
            with pytest.raises(DatabaseError, match="only status, not_before, note and priority may be changed"):
                await user.change(follower, after_id=value)
    await writer.change(follower, status="cancelled")


async def test_a_delete_that_waits_takes_back_nothing_before(outbox: Outbox) -> None:
    old, new = await outbox.add("OLD"), await outbox.add("NEW")
    delete = await outbox.delete("OLD", after_id=new)
    assert [await outbox.status(one) for one in (old, delete)] == [Status.PENDING] * 2
    await outbox.bring(old, Status.DONE)
    await end(outbox, new, Status.DONE)
    assert await due(outbox) == [delete]


async def test_a_delete_that_waits_keeps_no_other_user_from_its_code(outbox: Outbox, writer: Outbox) -> None:
    await store(outbox.engine, code(1, "OLD"))
    first = await writer.add("NEW")
    await writer.delete("OLD", after_id=first)
    mine, theirs = await writer.delete("OLD"), await outbox.delete("OLD")
    assert await due(outbox) == []
    await outbox.change(mine, status="cancelled")
    assert await due(outbox) == [theirs]


async def test_the_same_key_with_another_row_before_it_asks_for_something_else(outbox: Outbox) -> None:
    first, other = await outbox.add("A"), await outbox.add("B")
    await outbox.delete("OLD", after_id=first, **KEY)
    await outbox.queue_nothing("delete", value="OLD", after_id=first, **KEY)
    for another in (None, other):
        with pytest.raises(DatabaseError, match="asks for something else"):
            await outbox.delete("OLD", after_id=another, **KEY)
