"""Whatever is due is pushed, also where a look has passed it before."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from sync.demo.simulator import Operation, Status, Voucher
from sync.outbox.claims import as_daemon
from tests.support.flows import footprint
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox


async def add_before(outbox: Outbox, voucher: Voucher, value: str) -> None:
    """Queues an add that is due since an hour ago, as of a transaction that was open for so long."""
    await outbox.add(voucher, value)
    async with as_daemon(outbox.mirror.connection.engine) as tx:
        hour = "next_attempt_at = next_attempt_at - interval '1 hour'"
        await tx.execute(text(f"UPDATE mews.voucher_code_outbox SET {hour} WHERE value = :value"), {"value": value})


async def push_what_a_look_finds(outbox: Outbox) -> None:
    """As the daemon does when it is woken."""
    async with asyncio.TaskGroup() as calls:
        while await outbox.pusher.start_due(calls):
            pass


@pytest.mark.long
async def test_what_a_long_transaction_has_queued_is_found_by_the_poll(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST")
    await outbox.pusher.push()
    assert not await outbox.pusher.find_earlier()
    await add_before(outbox, voucher, "LATE")
    await push_what_a_look_finds(outbox)
    assert await outbox.statuses() == ["done", "pending"]
    assert await outbox.pusher.find_earlier()
    await push_what_a_look_finds(outbox)
    assert await outbox.statuses() == ["done", "done"]
    assert not await outbox.pusher.find_earlier()


@pytest.mark.long
async def test_a_cycle_leaves_nothing_that_came_to_be_due_meanwhile(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST")

    async def on_request(operation: Operation, body: object) -> None:
        if operation is Operation.ADD_CODES and mirror.simulator.on_request:
            mirror.simulator.on_request = None
            await add_before(outbox, voucher, "LATE")

    mirror.simulator.on_request = on_request
    assert (await outbox.pusher.push()).done == 2


@pytest.mark.long
async def test_a_database_that_may_be_another_one_is_looked_at_from_the_beginning(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST")
    await outbox.pusher.push()
    await add_before(outbox, voucher, "RESTORED")
    await outbox.add(voucher, "SECOND")
    incarnation = mirror.connection.incarnation
    assert incarnation.known
    assert incarnation.known.started_at
    incarnation.known = replace(incarnation.known, started_at=incarnation.known.started_at - timedelta(days=1))
    await push_what_a_look_finds(outbox)
    await outbox.refresh()
    await push_what_a_look_finds(outbox)
    assert await outbox.statuses() == ["done"] * 3


async def test_while_nothing_may_be_sent_a_look_leaves_no_trace(mirror: Mirror, outbox: Outbox) -> None:
    """It is taken every few seconds for as long as an outage lasts, and finds a hundred rows of each hotel."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST", "SECOND")
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(401))
    await outbox.pusher.push()
    await outbox.be_due()
    before = await footprint(mirror)
    await push_what_a_look_finds(outbox)
    assert await footprint(mirror) == before
