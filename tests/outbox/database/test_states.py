"""The table of states: the database lets users and the daemon make their moves, and no others."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Integer, RowMapping, Text
from sqlalchemy.dialects.postgresql import UUID

from sync.connection.gaps import Gap, Known
from sync.core.errors import DatabaseError
from sync.outbox import gap
from sync.outbox.claims import as_daemon
from sync.outbox.rules import MOVES, USER_MOVES, Status
from sync.outbox.tables import outbox as outbox_table
from sync.postgres.metadata import TIMESTAMP
from tests.support.instants import utc
from tests.support.queue import SENT_UTC, Outbox, execute, is_allowed, move

PAIRS = list(product(Status, Status))


async def test_users_can_make_their_moves_and_no_others(outbox: Outbox) -> None:
    for old, new in PAIRS:
        row_id = await outbox.add()
        await outbox.bring(row_id, old)
        if is_allowed(USER_MOVES, old, new):
            await outbox.change(row_id, status=new.value)
            assert await outbox.status(row_id) is new
            continue
        rule = (
            f"only voucher-sync itself makes a {old} change {new}"
            if is_allowed(MOVES, old, new)
            else f"a {old} change cannot become {new}"
        )
        with pytest.raises(DatabaseError, match=f"23514.*row {row_id}: {rule}$"):
            await outbox.change(row_id, status=new.value)
        assert await outbox.status(row_id) is old


async def test_the_daemon_can_make_every_move_and_no_others(outbox: Outbox) -> None:
    for old, new in PAIRS:
        row_id = await outbox.add()
        await outbox.bring(row_id, old)
        async with as_daemon(outbox.engine) as tx:
            if is_allowed(MOVES, old, new):
                await move(tx, row_id, new)
            else:
                with pytest.raises(Exception, match=f"row {row_id}: a {old} change cannot become {new}"):
                    async with tx.begin_nested():
                        await move(tx, row_id, new)
        assert await outbox.status(row_id) is (new if is_allowed(MOVES, old, new) else old)


@pytest.mark.parametrize("status", ["lost", "", "PENDING", None])
async def test_there_are_no_other_states(outbox: Outbox, status: str | None) -> None:
    row_id = await outbox.add()
    with pytest.raises(DatabaseError, match=r"cannot become|not-null"):
        await outbox.change(row_id, status=status)
    with pytest.raises(DatabaseError, match=r"cannot become|NotNull"):
        await outbox.set(row_id, status=status)
    assert await outbox.status(row_id) is Status.PENDING


async def test_the_daemon_is_one_for_its_transaction_only(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await outbox.set(row_id, last_error="some words")
    for _ in range(5):
        with pytest.raises(DatabaseError, match="only status, not_before, note and priority"):
            await outbox.change(row_id, last_error="other words")


def another_value(name: str) -> str:
    """An expression that differs from what the column holds."""
    match outbox_table.c[name].type:
        case Text():
            return f"coalesce({name}, '') || 'x'"
        case Integer():
            return f"coalesce({name}, 0) + 1"
        case UUID():
            return "gen_random_uuid()"
        case kind:
            assert kind == TIMESTAMP or isinstance(kind, type(TIMESTAMP))
            return "timestamptz '2020-02-02'"


async def test_users_can_change_no_other_column(outbox: Outbox) -> None:
    row_id = await outbox.add(validity_start_utc=utc(2019, 1, 1), idempotency_key="a key")
    before = await outbox.row(row_id)
    users = {"status", "not_before", "note", "priority"}
    for name in set(outbox_table.c.keys()) - users:
        for also in ("", ", status = 'cancelled'", ", note = 'n'"):
            with pytest.raises(DatabaseError, match=r"only status, not_before, note and priority|updated to DEFAULT"):
                await execute(
                    outbox.engine, f"UPDATE mews.voucher_code_outbox SET {name} = {another_value(name)}{also}"
                )
    assert await outbox.row(row_id) == before


async def test_what_this_release_holds_and_moves_on_needs_nothing_filled_in(outbox: Outbox) -> None:
    released, cancelled, ours, theirs = [await outbox.add() for _ in range(4)]
    taken_back = await outbox.add("SUMMER")
    known = Known(None, 0, None, None, None, None, None, Gap.BEHIND, await outbox.now(), taken_back)
    table = "ALTER TABLE mews.voucher_code_outbox"
    await execute(outbox.engine, f"{table} DISABLE TRIGGER fill_in_state")
    try:
        async with as_daemon(outbox.engine) as tx:
            assert len((await gap.hold_before_gap(tx, known)).ids) == 5
            await gap.release(tx, [ours])
            await gap.cancel(tx, [theirs])
        await outbox.change(released, status="pending")
        await outbox.change(cancelled, status="cancelled")
        await outbox.delete("SUMMER")
        # The delete goes, since the add from before the gap may have been made.
        assert await outbox.statuses() == ["pending", "cancelled", "pending", "cancelled", "cancelled", "pending"]
    finally:
        await execute(outbox.engine, f"{table} ENABLE TRIGGER fill_in_state")


def unsigned(row: RowMapping) -> dict[str, Any]:
    """A row without what says who changed it, which must say it."""
    assert (row["changed_by"], row["changed_how"]) == ("postgres", "edited")
    return {**row, **dict.fromkeys(("changed_by", "changed_at", "changed_how"))}


async def test_users_may_change_the_note_whenever_they_like(outbox: Outbox) -> None:
    for status in Status:
        row_id = await outbox.add()
        await outbox.bring(row_id, status)
        before = await outbox.row(row_id)
        await outbox.change(row_id, note="for people")
        assert {**before, "note": "for people"} == unsigned(await outbox.row(row_id))


async def test_users_may_delay_what_is_not_sent_yet(outbox: Outbox) -> None:
    for status in Status:
        row_id, later = await outbox.add(), utc(2099, 1, 1)
        await outbox.bring(row_id, status)
        before = await outbox.row(row_id)
        if status in {Status.PENDING, Status.HELD}:
            await outbox.change(row_id, not_before=later)
            assert {**before, "not_before": later, "next_attempt_at": later} == unsigned(await outbox.row(row_id))
            await outbox.change(row_id, not_before=None)
            now = await outbox.now()
            assert now - timedelta(minutes=1) < (await outbox.row(row_id))["next_attempt_at"] <= now
            with pytest.raises(DatabaseError, match="not_before may be changed before the row is sent, to an instant"):
                await outbox.change(row_id, not_before="infinity")
        else:
            with pytest.raises(DatabaseError, match=f"row {row_id}: not_before may be changed before the row is sent"):
                await outbox.change(row_id, not_before=later)


async def test_a_cancelled_row_is_finished(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await outbox.change(row_id, status="cancelled")
    assert (await outbox.row(row_id))["finished_at"] is not None


async def test_a_released_row_is_due_and_counts_as_released(outbox: Outbox) -> None:
    row_id, delayed = await outbox.add(), await outbox.add(not_before=utc(2099, 1, 1))
    for one in (row_id, delayed):
        await outbox.bring(one, Status.HELD)
        await outbox.set(one, next_attempt_at=utc(2098, 1, 1))
        await outbox.change(one, status="pending")
        assert (await outbox.row(one))["released_at"] is not None
    assert (await outbox.row(row_id))["next_attempt_at"] <= await outbox.now()
    assert (await outbox.row(delayed))["next_attempt_at"] == utc(2099, 1, 1)


async def test_a_retried_row_is_due_with_what_was_known_of_it(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await outbox.set(row_id, attempts=3, first_sent_utc=SENT_UTC, next_attempt_at=utc(2098, 1, 1))
    await outbox.bring(row_id, Status.FAILED)
    await outbox.change(row_id, status="pending")
    row = await outbox.row(row_id)
    assert (row["finished_at"], row["released_at"]) == (None, None)
    assert (row["attempts"], row["first_sent_utc"]) == (3, SENT_UTC)
    assert row["next_attempt_at"] <= await outbox.now()
