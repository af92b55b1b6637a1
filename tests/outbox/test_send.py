"""What is sent is claimed and counted before, goes only in the time that its claim has left, and is looked up late."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from sync.connection.tenure import now_s
from sync.demo.simulator import Close, Hang, Operation
from sync.mirror.freshness import MirrorFreshness
from sync.outbox.claims import Attempt, Lane, as_daemon
from sync.outbox.dispatch import Batch, Terms, claim_due
from sync.outbox.rules import Operation as Change
from sync.outbox.rules import Verdict
from sync.outbox.send import BlockedAlone, Sender
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import SETTINGS, Outbox


async def test_a_change_is_claimed_for_all_to_see_before_it_is_sent(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A", "B")
    seen: list[str] = []

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES:
            seen.extend(await outbox.statuses())

    mirror.simulator.on_request = on_request
    assert (await outbox.pusher.push()).done == 2
    assert seen == ["sending", "sending"]


@pytest.mark.long
async def test_an_unknown_outcome_is_not_looked_up_before_the_api_must_show_it(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    later = replace(SETTINGS, read_after_write_delay=timedelta(hours=1))
    await outbox.make_pusher(later).push()
    await outbox.reconcile()
    assert await outbox.statuses() == ["uncertain"]
    await outbox.be_due()
    await outbox.reconcile()
    assert await outbox.statuses() == ["done"]


@pytest.mark.long
async def test_every_write_takes_a_place_of_the_budget(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD"])
    mirror.simulator.behaviour.refused_values.add("CODE-3")
    async with mirror.connected(sync_rate_limit_window_s=3600):
        outbox = Outbox(mirror)
        await outbox.refresh()
        await outbox.add(voucher, *numbered(5))
        await outbox.delete(voucher, "OLD")
        report = await outbox.pusher.push()
        assert (report.done, report.failed) == (5, 1)
        assert mirror.connection.client.rate_limiter.spent() == len(mirror.simulator.requests)


async def claimed_add(mirror: Mirror, outbox: Outbox) -> Batch:
    """An add that is claimed, and not sent yet."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    lane, incarnation = Lane(mirror.connection.name, Change.ADD, mirror.hotel.id), mirror.connection.incarnation
    await incarnation.check(mirror.connection.engine)
    async with as_daemon(mirror.connection.engine) as tx:
        terms = Terms(1, MirrorFreshness(), incarnation, SETTINGS.delete_guards)
        return (await claim_due(tx, Attempt(uuid4(), lane, SETTINGS.lease, mirror.clock()), terms)).batch


@pytest.mark.parametrize("how", ["its connection is another's", "it was not heard for long"])
async def test_who_is_trusted_no_longer_sends_nothing_that_it_has_claimed(
    mirror: Mirror, outbox: Outbox, how: str
) -> None:
    batch, tenure = await claimed_add(mirror, outbox), mirror.connection.tenure
    sender = Sender(mirror.connection, SETTINGS)
    tenure.is_over, tenure.trust.until_s = how == "its connection is another's", now_s() + 3600
    if not tenure.is_over:
        tenure.trust.until_s = now_s()
    lost = await sender.send(batch, now_s())
    assert (lost.verdict, outbox.calls(), sender.may_send()) == (Verdict.NOT_PROCESSED, 0, False)
    tenure.is_over, tenure.trust.until_s = False, math.inf
    assert ((await sender.send(batch, now_s())).verdict, outbox.calls()) == (None, 1)


async def test_a_claim_that_has_too_little_time_left_is_not_sent(mirror: Mirror, outbox: Outbox) -> None:
    batch = await claimed_add(mirror, outbox)
    sender, half_a_lease_s = Sender(mirror.connection, SETTINGS), SETTINGS.lease.total_seconds() / 2
    too_late = await sender.send(batch, now_s() - half_a_lease_s)
    assert (too_late.verdict, outbox.calls()) == (Verdict.NOT_PROCESSED, 0)
    in_time = await sender.send(batch, now_s())
    assert (in_time.verdict, outbox.calls()) == (None, 1)


async def test_a_machine_that_sleeps_behind_its_claim_sends_nothing_when_it_wakes(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take its claim for expired meanwhile. A clock that stands still in a sleep tells nothing of it."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    slept_s = SETTINGS.lease.total_seconds()
    monkeypatch.setattr("sync.outbox.send.now_s", lambda: now_s() + slept_s)
    report = await outbox.pusher.push()
    assert (report.given_back, outbox.calls()) == (1, 0)


@pytest.mark.long
async def test_a_write_without_an_answer_is_given_up_within_its_lease(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Hang())
    pusher = outbox.make_pusher(replace(SETTINGS, lease=timedelta(seconds=4)))
    async with asyncio.timeout(SETTINGS.request_timeout_s / 2):
        await pusher.push()
        while not outbox.calls():  # a claim that took a slow machine long is given back unsent
            await outbox.be_due()
            await pusher.push()
    assert await outbox.statuses() == ["uncertain"]


def test_a_change_is_blocked_for_itself_if_others_were_answered_since_and_the_oldest_are_forgotten() -> None:
    blocked = BlockedAlone(most=2)
    assert [blocked.note(1, answered=5), blocked.note(1, answered=5), blocked.note(1, answered=6)] == [
        False,
        False,
        True,
    ]
    blocked.note(2, answered=6)
    assert blocked.note(1, answered=7)
    blocked.note(3, answered=7)  # 2 was blocked longest ago
    assert [blocked.note(1, answered=8), blocked.note(2, answered=8)] == [True, False]
    blocked.forget([1, 2])
    assert not blocked.note(1, answered=9)
