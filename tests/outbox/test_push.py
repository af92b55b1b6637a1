"""What is queued reaches the API once, and `done` means that its effect stands in the mirror."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from sync.demo.simulator import Close, Operation, PartialAdd, RawBody, RetryAfter, Status
from sync.outbox import claims as outbox_claims
from sync.postgres.engine import transaction
from tests.support.database import PATIENCE_S
from tests.support.flows import add_hotel, add_voucher_to, later, numbered, page_of
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.outbox import Outbox, active


async def test_an_add_stands_in_the_api_and_in_the_mirror_with_its_id(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "SUMMER-2027")
    report = await outbox.pusher.push()
    assert (report.calls, report.done, report.errors) == (1, 1, {})
    (row,) = await outbox.rows()
    (code,) = mirror.world.codes.truth.values()
    assert (row["status"], row["voucher_code_id"], row["attempts"], row["last_error"]) == ("done", code.id, 1, None)
    assert (await mirror.compare()).is_equal
    (attempt,) = await mirror.rows("SELECT * FROM mews.voucher_code_outbox_attempts")
    assert (attempt["outcome"], attempt["http_status"]) == ("done", 200)
    assert await mirror.rows("SELECT FROM sync.attempts") == []


async def test_a_delete_by_value_stands_in_the_mirror_before_any_pull(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A", "B"])
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    assert (await outbox.pusher.push()).done == 1
    assert await mirror.rows("SELECT value FROM mews.voucher_codes WHERE is_active") == [{"value": "B"}]
    await later(mirror)
    assert (await mirror.compare()).is_equal


async def test_thousands_go_a_thousand_a_call(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(3500))
    assert (await outbox.pusher.push()).done == 3500
    assert outbox.calls() <= 6  # the three that claim at once may share what is left after three thousands
    assert set(active(mirror).values()) == {1}
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_seven_refused_of_a_thousand_fail_alone(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    values = numbered(1000)
    bad = set(Random(3).sample(values, 7))
    mirror.simulator.behaviour.refused_values |= bad
    await outbox.add(voucher, *values)
    report = await outbox.pusher.push()
    assert (report.done, report.failed) == (993, 7)
    assert outbox.calls() <= 80
    failed = [row for row in await outbox.rows() if row["status"] == "failed"]
    assert {row["value"] for row in failed} == bad
    assert {row["last_error"] for row in failed} == {"A voucher code cannot be used because of its value"}
    assert all(row["request_id"] for row in failed)


@pytest.mark.sampled
@pytest.mark.parametrize("fault", [Close(processed=True), Close(), Status(500), PartialAdd(stored=2), Status(408)])
async def test_an_unknown_outcome_is_looked_up_before_anything_is_sent_again(
    mirror: Mirror, outbox: Outbox, fault: Any
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(5))
    mirror.simulator.faults.script(Operation.ADD_CODES, fault)
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain"] * 5
    mirror.clock.advance(timedelta(seconds=2))
    await outbox.refresh()
    await outbox.reconcile()
    assert set(await outbox.statuses()) <= {"done", "pending"}
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 5
    assert set(active(mirror).values()) == {1}
    assert len(active(mirror)) == 5


async def test_hotels_of_a_portfolio_never_share_a_call(mirror: Mirror, outbox: Outbox) -> None:
    _, service = add_hotel(mirror, "Hotel B")
    here, there = mirror.add_voucher(), add_voucher_to(mirror, service)
    await outbox.refresh()
    await outbox.add(here, *numbered(3, "HERE"))
    await outbox.add(there, *numbered(3, "THERE"))
    assert (await outbox.pusher.push()).done == 6
    assert outbox.calls() == 2


@pytest.mark.long
async def test_an_add_behind_a_delete_of_its_code_goes_after_it(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    await outbox.pusher.push()
    await outbox.delete(voucher, "A")
    await outbox.add(voucher, "A")
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 3
    assert active(mirror) == {(voucher.id, "A"): 1}


@pytest.mark.long
async def test_what_was_added_in_the_present_second_is_found(mirror: Mirror, outbox: Outbox) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    for number in range(5):
        await outbox.add(voucher, f"A-{number}")
        mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
        await outbox.pusher.push()
        await outbox.reconcile()
        assert (await outbox.statuses())[-1] == "done"
    assert set(active(mirror).values()) == {1}


@pytest.mark.long
@pytest.mark.parametrize("fault", [None, Status(500), Status(403), Status(409)])
async def test_a_change_that_a_user_holds_in_an_open_transaction_keeps_no_other_back(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, fault: Status | None
) -> None:
    monkeypatch.setattr(outbox_claims, "LOCK_TIMEOUT", "100ms")
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(5))
    mirror.simulator.faults.script(Operation.ADD_CODES, fault)
    async with asyncio.timeout(PATIENCE_S), transaction(mirror.connection.engine) as tx:

        async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
            if operation is Operation.ADD_CODES:
                await tx.execute(text("SELECT FROM mews.voucher_code_outbox WHERE value = 'CODE-3' FOR UPDATE"))

        mirror.simulator.on_request = on_request
        await outbox.pusher.push()
        mirror.simulator.on_request = None
        others = await outbox.statuses()
        assert (others.pop(3), "sending" in others) == ("sending", False)
        mirror.clock.advance(timedelta(seconds=2))
        await outbox.outlive_claims()
        await outbox.reconcile()
        statuses = await outbox.statuses()
        assert statuses.pop(3) == "sending"
        assert set(statuses) <= {"pending", "done"}
    await outbox.reconcile()
    await outbox.reconcile()
    await outbox.be_due()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 5
    assert set(active(mirror).values()) == {1}


@pytest.mark.long
async def test_a_change_that_somebody_holds_for_a_moment_is_done_with_the_others(
    mirror: Mirror, outbox: Outbox
) -> None:
    # As a claim does that began before this one: it passes over the rows, and holds them until it commits.
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(5))
    async with AsyncExitStack() as held:

        async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
            if operation is Operation.ADD_CODES:
                tx = await held.enter_async_context(transaction(mirror.connection.engine))
                await tx.execute(text("SELECT FROM mews.voucher_code_outbox WHERE value = 'CODE-3' FOR UPDATE"))

        mirror.simulator.on_request = on_request
        pushing = asyncio.create_task(outbox.pusher.push())
        while "done" not in await outbox.statuses():
            pass
        await held.aclose()
        report = await pushing
    assert (report.done, await outbox.statuses()) == (5, ["done"] * 5)


async def test_a_token_that_may_not_write_stops_the_push_and_keeps_the_rows(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.ADD_CODES})
    report = await outbox.pusher.push()
    assert ([*report.errors], await outbox.statuses()) == (["Unauthorized"], ["pending"])
    await outbox.pusher.push()
    assert outbox.calls() == 1


@pytest.mark.parametrize("status", [409, 429])
async def test_what_the_api_has_not_processed_stays_pending_and_is_put_off(
    mirror: Mirror, outbox: Outbox, status: int
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(status))
    await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert row["next_attempt_at"] > row["sent_at"]


@pytest.mark.parametrize("seconds", [1e8, 1e13, 1e20])
async def test_a_retry_after_of_ages_puts_a_change_off_by_an_hour(
    mirror: Mirror, outbox: Outbox, seconds: float
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(429, retry_after=RetryAfter(seconds)))
    await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert row["status"] == "pending"
    assert timedelta(hours=1) <= row["next_attempt_at"] - row["sent_at"] < timedelta(hours=2)


async def test_a_code_that_somebody_else_deleted_just_before_counts_as_deleted(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    mirror.world.delete_code(code.id)
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', :id)", id=code.id
    )
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"]
    assert (await mirror.compare()).is_equal


async def test_a_refused_delete_whose_voucher_is_shown_no_more_fails_with_the_api_s_words(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    mirror.simulator.faults.script(Operation.DELETE_CODES, Status(400, "Invalid VoucherCodeIds"))
    mirror.simulator.faults.script(Operation.GET_CODES, Status(400, "Invalid VoucherIds"))
    report = await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert (row["status"], row["last_error"], report.failed) == ("failed", "Invalid VoucherCodeIds", 1)


async def test_an_answer_in_another_order_is_matched_by_voucher_and_value(mirror: Mirror, outbox: Outbox) -> None:
    mirror.simulator.behaviour.shuffle_added = True
    vouchers = [mirror.add_voucher("One"), mirror.add_voucher("Two")]
    await outbox.refresh()
    for voucher in vouchers:
        await outbox.add(voucher, *numbered(50))
    await outbox.pusher.push()
    for row in await outbox.rows():
        code = mirror.world.codes.truth[row["voucher_code_id"]]
        assert (code.voucher_id, code.value) == (row["voucher_id"], row["value"])


@pytest.mark.long
async def test_a_value_that_the_api_changes_is_never_sent_again(mirror: Mirror, outbox: Outbox) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    (made,) = mirror.world.add_codes(voucher.id, ["SUMMER"])
    await outbox.add(voucher, "summer")
    mirror.simulator.faults.script(Operation.ADD_CODES, RawBody(page_of([made])))
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain"]
    (stored,) = [code for code in mirror.world.codes.truth.values() if code.value == "summer"]
    mirror.world.edit_code(stored.id, value="SUMMER")
    await outbox.reconcile()
    await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert (row["status"], outbox.calls()) == ("failed", 1)
    assert "look at the voucher's codes before you retry" in row["last_error"]
