"""No step of the database's clock ends a call that is under way, or keeps a row waiting."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from sync.demo.simulator import Close, Operation, Status
from sync.outbox.claims import as_daemon
from sync.outbox.reconcile import reconcile
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox, active

STEPPED = "UPDATE sync.attempts SET until = until - interval '1 day', started_at = started_at - interval '1 day'"
"""What stands in the database is a day older then, as after a step forward of its clock."""

PUT_OFF = "UPDATE mews.voucher_code_outbox SET next_attempt_at = now() + interval '1 hour'"
HELD = "UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'before_a_gap'"
RELEASED_AN_HOUR_AHEAD = """
UPDATE mews.voucher_code_outbox
SET status = 'pending', held_because = NULL, released_at = now() + interval '1 hour',
    next_attempt_at = now() + interval '1 hour'
"""


@pytest.mark.long
async def test_a_database_clock_stepped_twice_while_an_answer_is_on_its_way_sends_nothing_again(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *(f"CODE-{number}" for number in range(20)))
    is_sent, may_answer = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is Operation.ADD_CODES and not is_sent.is_set():
            is_sent.set()
            await may_answer.wait()

    mirror.simulator.on_request = on_request
    pushing = asyncio.create_task(outbox.pusher.push())
    await is_sent.wait()
    for _ in range(2):
        await mirror.execute(STEPPED)
        await outbox.reconcile()
        await outbox.outlive_claims()
        await outbox.reconcile()
    assert await outbox.statuses() == ["sending"] * 20
    may_answer.set()
    await pushing
    await outbox.reconcile()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 20
    assert set(active(mirror).values()) == {1}
    assert outbox.calls() == 1


@pytest.mark.long
@pytest.mark.parametrize("step", ["1 hour", "1 day"])
async def test_a_row_queued_just_before_the_databases_clock_goes_back_is_not_kept_waiting(
    mirror: Mirror, outbox: Outbox, step: str
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.reconcile()  # between two looks the clock goes there and back: no step is seen
    await outbox.add(voucher, "NOW", "LATER")
    await mirror.execute(
        "UPDATE mews.voucher_code_outbox SET not_before = now() + interval '1 week' WHERE value = 'LATER'"
    )
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(
            text(
                "UPDATE mews.voucher_code_outbox SET created_at = created_at + CAST(:step AS text)::interval, "
                "next_attempt_at = next_attempt_at + CAST(:step AS text)::interval"
            ),
            {"step": step},
        )
    await outbox.pusher.push()
    assert await outbox.statuses() == ["pending"] * 2
    await outbox.reconcile()
    await outbox.pusher.push()
    now, later = await outbox.rows()
    assert (now["status"], later["status"]) == ("done", "pending")
    assert later["next_attempt_at"] == later["not_before"]


async def test_a_row_released_before_the_databases_clock_went_back_is_due_to_a_process_that_begins_then(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "RELEASED")
    async with as_daemon(mirror.connection.engine) as tx:
        for statement in (HELD, RELEASED_AN_HOUR_AHEAD):
            await tx.execute(text(statement))
    await outbox.reconcile()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"]


async def test_a_row_that_somebody_had_locked_when_the_clock_went_back_waits_no_longer_once_it_is_free(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FREE", "LOCKED", "PUT OFF ANEW")
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text(PUT_OFF))
    await outbox.reconcile()
    async with mirror.connection.engine.begin() as user:
        await user.execute(text("SELECT FROM mews.voucher_code_outbox WHERE value <> 'FREE' FOR UPDATE"))
        outbox.later_s += 3600  # the clock of the process goes on, and that of the database is where it was
        await outbox.reconcile()
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text(f"{PUT_OFF} WHERE value = 'PUT OFF ANEW'"))
    await outbox.reconcile()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done", "done", "pending"]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("went_back_s", [100.0, 3600.0, 86_400.0])
async def test_a_row_that_was_put_off_before_the_databases_clock_went_back_waits_as_long_as_was_meant(
    mirror: Mirror, outbox: Outbox, went_back_s: float, is_known: bool
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "PUT OFF", "NEXT WEEK")
    await mirror.execute(
        "UPDATE mews.voucher_code_outbox SET not_before = now() + interval '1 week' WHERE value = 'NEXT WEEK'"
    )
    fault = Status(429) if is_known else Close()
    mirror.simulator.faults.script(Operation.ADD_CODES, fault)
    await outbox.reconcile()
    await outbox.pusher.push()
    put_off_by = timedelta(seconds=400)
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(
            text(
                "UPDATE mews.voucher_code_outbox SET next_attempt_at = now() + interval '400 s' WHERE value = 'PUT OFF'"
            )
        )
    before = {row["value"]: row["next_attempt_at"] for row in await outbox.rows()}
    # The clock of the process goes on, and that of the database is where it was.
    outbox.later_s += went_back_s
    for _ in range(3):
        await reconcile(mirror.connection, outbox.pusher.watch, timedelta(hours=1))
    assert await outbox.statuses() == ["pending" if is_known else "uncertain", "pending"]
    now, next_week = await outbox.rows()
    by = before["PUT OFF"] - now["next_attempt_at"]
    meant = min(timedelta(seconds=went_back_s), put_off_by)
    assert meant - timedelta(seconds=30) < by < meant + timedelta(seconds=2)
    assert next_week["next_attempt_at"] >= next_week["not_before"]


@pytest.mark.sampled
@pytest.mark.parametrize("step_s", [-86_400.0, -3600.0, 3600.0])
async def test_a_step_of_the_databases_clock_brings_no_lookup_before_the_api_must_show_what_it_was_sent(
    mirror: Mirror, outbox: Outbox, step_s: float
) -> None:
    voucher = mirror.add_voucher()
    mirror.simulator.behaviour.allow_duplicates = True
    await outbox.refresh()
    await outbox.add(voucher, "A")
    delay = timedelta(seconds=15)
    await reconcile(mirror.connection, outbox.pusher.watch, delay)
    mirror.simulator.behaviour.hide_writes_for_s = 10
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    await outbox.pusher.push()
    # Of two clocks that part, it is one whichever was stepped; that of the process is the one that can be here.
    outbox.later_s += step_s
    await outbox.be_due()
    for _ in range(2):
        await reconcile(mirror.connection, outbox.pusher.watch, delay)
    assert await outbox.statuses() == ["uncertain"]
    mirror.clock.advance(delay)
    outbox.later_s += delay.total_seconds()
    for _ in range(2):  # the wait for the API is a step too, of the kind that this test makes
        await reconcile(mirror.connection, outbox.pusher.watch, timedelta())
    assert (await outbox.statuses(), set(active(mirror).values())) == (["done"], {1})
