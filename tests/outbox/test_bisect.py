"""A refused batch costs its neighbours nothing: what is refused stands alone, and others get their turn meanwhile."""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from sync.demo.simulator import Close, Operation, Status
from sync.outbox.claims import as_daemon
from sync.outbox.outcomes import MAX_REFUSED
from sync.outbox.push import CALLS_IN_FLIGHT
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import SETTINGS, Outbox, active


@pytest.mark.long
async def test_a_change_that_was_sent_often_keeps_none_beside_it_waiting(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "OFTEN", "NEW")
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET attempts = 30 WHERE value = 'OFTEN'"))
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(409))
    await outbox.pusher.push()
    rows = await mirror.rows("SELECT status, next_attempt_at - sent_at AS pause FROM mews.voucher_code_outbox")
    assert {row["status"] for row in rows} == {"pending"}
    # A first pause, and what passed between the sending and the answer.
    assert max(row["pause"] for row in rows) < timedelta(seconds=2 * SETTINGS.retry.base_s)


@pytest.mark.long
async def test_a_voucher_that_is_refused_takes_its_other_changes_along(mirror: Mirror, outbox: Outbox) -> None:
    good, gone = mirror.add_voucher("Good"), mirror.add_voucher("Gone")
    await outbox.refresh()
    for number in range(100):
        await outbox.add(good, f"G-{number}")
        await outbox.add(gone, f"X-{number}")
    mirror.world.deactivate_voucher(gone.id)
    report = await outbox.pusher.push()
    assert (report.done, report.failed) == (100, 100)
    assert outbox.calls() <= 40
    failed = [row for row in await outbox.rows() if row["status"] == "failed"]
    assert {(row["voucher_id"], row["last_error"]) for row in failed} == {(gone.id, "Invalid VoucherId")}


@pytest.mark.long
async def test_a_batch_of_refused_changes_lets_others_have_their_turn(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    bad = numbered(300, "BAD")
    mirror.simulator.behaviour.refused_values |= set(bad)
    await outbox.add(voucher, *bad, *numbered(100))
    report = await outbox.pusher.push()
    assert report.failed == MAX_REFUSED
    assert report.failed + report.done + report.given_back == 400
    while "pending" in await outbox.statuses():
        await outbox.be_due()
        await outbox.pusher.push()
    rows = await outbox.rows()
    assert {row["value"] for row in rows if row["status"] == "failed"} == set(bad)
    assert len(active(mirror)) == 100


async def test_a_search_leaves_no_attempt_behind(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.simulator.behaviour.refused_values.add("CODE-3")
    await outbox.add(voucher, *numbered(10))
    mirror.simulator.faults.script(Operation.ADD_CODES, None, None, Status(429))
    await outbox.pusher.push()
    assert await mirror.rows("SELECT FROM sync.attempts") == []


@pytest.mark.long
async def test_what_is_queued_during_a_bulk_push_does_not_wait_for_its_end(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["X"])
    await outbox.refresh()
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        "SELECT 'add', :voucher, 'W-' || number FROM generate_series(1, 60000) AS number",
        voucher=voucher.id,
    )
    calls: list[Operation] = []

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation in {Operation.ADD_CODES, Operation.DELETE_CODES}:
            calls.append(operation)
            if len(calls) == 3:
                await outbox.delete(voucher, "X")

    mirror.simulator.on_request = on_request
    report = await outbox.pusher.push()
    assert (report.done, calls.count(Operation.DELETE_CODES)) == (60_001, 1)
    assert calls.index(Operation.DELETE_CODES) < len(calls) - 5


@pytest.mark.long
async def test_a_push_that_is_cancelled_again_and_again_leaves_room_for_the_next(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    arrived = asyncio.Event()

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES:
            arrived.set()

    mirror.simulator.on_request = on_request
    for number in range(2 * CALLS_IN_FLIGHT):
        await outbox.add(voucher, f"A-{number}")
        arrived.clear()
        pushing = asyncio.create_task(outbox.pusher.push())
        if number % 2:
            await arrived.wait()
        pushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pushing
    mirror.simulator.on_request = None
    mirror.simulator.faults.script(Operation.ADD_CODES, Close())
    await outbox.add(voucher, "LAST")
    await outbox.pusher.push()
    assert (await outbox.statuses())[-1] == "uncertain"


@pytest.mark.long
async def test_a_search_whose_process_dies_fails_nothing_but_what_is_refused_alone(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.simulator.behaviour.refused_values.add("CODE-3")
    await outbox.add(voucher, *numbered(20))
    third = asyncio.Event()

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES and outbox.calls() == 3:
            third.set()
            await asyncio.Event().wait()

    mirror.simulator.on_request = on_request
    pushing = asyncio.create_task(outbox.pusher.push())
    await third.wait()
    pushing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pushing
    mirror.simulator.on_request = None
    await outbox.outlive_claims()
    for _ in range(2):
        await outbox.reconcile()
    assert (
        await mirror.rows(
            "SELECT FROM sync.attempts WHERE id NOT IN (SELECT attempt_id "
            "FROM mews.voucher_code_outbox WHERE attempt_id IS NOT NULL)"
        )
        == []
    )
    assert "failed" not in await outbox.statuses()
    await outbox.pusher.push()
    (failed,) = [row for row in await outbox.rows() if row["status"] != "done"]
    assert (failed["value"], failed["status"]) in {("CODE-3", "failed"), ("CODE-3", "uncertain")}
    assert len(active(mirror)) == 19
