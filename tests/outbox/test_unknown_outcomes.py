"""What is unknown is looked up until it is known: nothing is sent twice, and nothing that stands is called failed."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from sync.demo.simulator import Close, Operation, RawBody, Status
from sync.outbox import reconcile as flow
from sync.outbox.outcomes import ALONE_AGAIN
from sync.outbox.reconcile import reconcile
from sync.outbox.rules import TOGETHER
from tests.support.flows import add_hotel, add_voucher_to, fail_where, numbered, page_size
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.outbox import A_WHILE, AT_ONCE, Outbox, active, look_again

LOST = Close(processed=True)


async def test_a_delete_by_value_goes_on_to_the_code_that_has_the_value_now(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    (old,) = mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    mirror.world.delete_code(old.id)
    (new,) = mirror.world.add_codes(voucher.id, ["A"])
    await outbox.delete(voucher, "A")
    await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert (row["status"], row["voucher_code_id"]) == ("pending", None)
    mirror.clock.advance(A_WHILE)
    await outbox.refresh()
    await outbox.be_due()
    await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert (row["status"], row["voucher_code_id"], active(mirror)) == ("done", new.id, {})


async def test_a_delete_by_value_of_what_somebody_else_deleted_is_done_once_nothing_has_the_value(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    mirror.world.delete_code(code.id)
    await outbox.delete(voucher, "A")
    await outbox.pusher.push()
    mirror.clock.advance(A_WHILE)
    await outbox.refresh()
    await outbox.be_due()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"]
    assert outbox.calls(Operation.DELETE_CODES) == 1


async def test_a_retried_add_is_not_done_by_what_somebody_else_added_and_deleted(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.simulator.behaviour.refused_values.add("A")
    await outbox.add(voucher, "A")
    await outbox.pusher.push()
    mirror.simulator.behaviour.refused_values.clear()
    mirror.clock.advance(A_WHILE)
    (theirs,) = mirror.world.add_codes(voucher.id, ["A"])
    mirror.world.delete_code(theirs.id)
    mirror.clock.advance(A_WHILE)
    await outbox.refresh()
    await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'pending'")
    await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert (row["status"], row["voucher_code_id"] != theirs.id) == ("done", True)
    assert active(mirror) == {(voucher.id, "A"): 1}


async def test_an_add_is_not_done_by_a_code_that_was_just_deleted_to_make_room_for_it(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.world.add_codes(voucher.id, ["A"])
    mirror.clock.advance(timedelta(seconds=1))
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close())
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done", "uncertain"]
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    assert (await outbox.statuses(), active(mirror)) == (["done", "done"], {(voucher.id, "A"): 1})


async def test_an_add_that_was_made_unseen_and_then_deleted_is_not_made_again(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    await outbox.refresh()
    await outbox.pusher.push()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    assert await outbox.statuses() == ["failed", "uncertain"]
    mirror.clock.advance(timedelta(seconds=2))
    await outbox.refresh()
    await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE operation = 'delete'")
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done", "uncertain"]
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    assert (await outbox.statuses(), active(mirror), outbox.calls()) == (["done", "done"], {}, 1)


async def test_an_add_that_shows_late_and_is_refused_as_its_own_double_is_done(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.simulator.behaviour.hide_writes_for_s = 60
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    (row,) = await outbox.rows()
    assert (row["status"], "already exists" in row["last_error"]) == ("uncertain", True)
    mirror.clock.advance(timedelta(seconds=90))
    await look_again(mirror, outbox)
    (row,) = await outbox.rows()
    assert (row["status"], row["last_error"], active(mirror)) == ("done", None, {(voucher.id, "A"): 1})
    assert (await mirror.compare()).is_equal


async def test_an_add_that_is_the_double_of_somebody_else_s_fails_after_one_more_look(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close())
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain"]
    await look_again(mirror, outbox)
    (row,) = await outbox.rows()
    assert (row["status"], "already exists" in row["last_error"], outbox.calls()) == ("failed", True, 2)


async def test_a_delete_with_an_unknown_past_that_is_refused_fails_after_its_look(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    mirror.simulator.faults.script(Operation.DELETE_CODES, Close(), Status(403, "A rule of the hotel"))
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    assert await outbox.statuses() == ["pending"]
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain"]
    await look_again(mirror, outbox)
    (row,) = await outbox.rows()
    assert (row["status"], row["last_error"]) == ("failed", "A rule of the hotel")
    assert (outbox.calls(Operation.DELETE_CODES), active(mirror)) == (2, {(voucher.id, "A"): 1})


async def test_a_delete_that_something_on_the_way_answers_in_the_api_s_place_is_looked_up(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    mirror.simulator.faults.script(Operation.DELETE_CODES, RawBody(b'{"error": "blocked"}', processed=False))
    await outbox.pusher.push()
    assert (await outbox.statuses(), active(mirror)) == (["uncertain"], {(voucher.id, "A"): 1})
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    assert (await outbox.statuses(), active(mirror)) == (["done"], {})


@pytest.mark.parametrize("others", [0, 1500])
async def test_a_code_in_no_window_is_found_before_it_would_be_sent_again(
    mirror: Mirror, outbox: Outbox, others: int
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    mirror.simulator.behaviour.stamp_added = False
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(others, "OLD"))
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    assert await outbox.statuses() == ["done"]
    assert active(mirror)[voucher.id, "A"] == 1


@pytest.mark.parametrize("slept", [timedelta(seconds=30), timedelta(hours=3)])
async def test_a_look_sees_the_present_though_the_last_answer_told_an_older_time(
    mirror: Mirror, outbox: Outbox, slept: timedelta
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST")
    await outbox.pusher.push()
    mirror.clock.advance(slept)
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    await outbox.settle()
    assert (await outbox.statuses(), active(mirror)[voucher.id, "A"]) == (["done", "done"], 1)


async def test_where_the_api_stamps_what_it_adds_a_look_reads_windows_alone(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    await outbox.pusher.push()
    await outbox.add(voucher, "B")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close())
    await outbox.pusher.push()
    before = len(mirror.requests())
    await look_again(mirror, outbox)
    assert all(record.body and "UpdatedUtc" in record.body for record in mirror.requests()[before:])
    assert await outbox.statuses() == ["done", "pending"]


@pytest.mark.parametrize("operation", [Operation.ADD_CODES, Operation.DELETE_CODES])
async def test_a_voucher_that_the_api_no_longer_shows_keeps_back_only_its_own_rows(
    mirror: Mirror, outbox: Outbox, operation: Operation
) -> None:
    hotel, service = add_hotel(mirror, "Hotel B")
    ours, lost = mirror.add_voucher(), add_voucher_to(mirror, service)
    mirror.add_codes(ours, ["A"])
    mirror.add_codes(lost, ["B"])
    await outbox.refresh()
    for voucher, value in ((ours, "A"), (lost, "B")):
        if operation is Operation.ADD_CODES:
            await outbox.add(voucher, f"NEW-{value}")
        else:
            await outbox.delete(voucher, value)
    mirror.simulator.faults.script(operation, LOST, LOST)
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain", "uncertain"]
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    await look_again(mirror, outbox)
    first, second = await outbox.rows()
    assert (first["status"], second["status"]) == ("done", "uncertain")
    assert "does not show its voucher" in second["last_error"]
    mirror.world.grant(ACCESS_TOKEN, hotel.id)
    await look_again(mirror, outbox)
    assert await outbox.statuses() == ["done", "done"]


async def test_a_look_that_is_too_heavy_asks_for_less(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    before = len(mirror.requests())
    mirror.simulator.faults.script(Operation.GET_CODES, Status(408), times=3)
    await look_again(mirror, outbox)
    looks = mirror.requests()[before:]
    assert [page_size(look) for look in looks] == [1000, 500, 250, 125]
    assert await outbox.statuses() == ["done"]


async def test_a_look_that_is_too_heavy_for_some_vouchers_goes_on_with_fewer(mirror: Mirror, outbox: Outbox) -> None:
    vouchers = [mirror.add_voucher(f"Voucher {number}") for number in range(3)]
    await outbox.refresh()
    for voucher in vouchers:
        await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    fail_where(mirror, lambda body: len(body["VoucherIds"]) > 1, web.HTTPRequestTimeout)
    await look_again(mirror, outbox)
    assert await outbox.statuses() == ["done"] * 3


async def test_thousands_of_unknown_outcomes_of_a_voucher_take_one_look(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST")
    await outbox.pusher.push()
    await outbox.add(voucher, *numbered(3000))
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST, times=9)
    await outbox.pusher.push()
    before = len(mirror.requests())
    mirror.clock.advance(A_WHILE)
    report = await reconcile(mirror.connection, AT_ONCE)
    assert (report.done, report.errors) == (3000, [])
    assert len(mirror.requests()) - before == 4
    assert set(active(mirror).values()) == {1}


async def test_what_cannot_be_looked_up_now_is_looked_up_later(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    mirror.simulator.faults.script(Operation.GET_CODES, Status(401))
    report = await reconcile(mirror.connection, AT_ONCE)
    (row,) = await outbox.rows()
    assert ([type(error).__name__ for error in report.errors], row["status"]) == (["Unauthorized"], "uncertain")
    assert row["next_attempt_at"] - row["sent_at"] >= flow.RECHECK_AFTER
    await look_again(mirror, outbox)
    assert await outbox.statuses() == ["done"]


@pytest.mark.parametrize("count", [20, 1000])
async def test_a_change_at_which_the_api_fails_each_time_ends_up_alone(
    mirror: Mirror, outbox: Outbox, count: int
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    values = numbered(count)

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES and any(one["Value"] == "CODE-7" for one in body["VoucherCodeParameters"]):
            raise web.HTTPInternalServerError(text="{}", content_type="application/json")

    mirror.simulator.on_request = on_request
    await outbox.add(voucher, *values)
    for _ in range(len(TOGETHER) + 1):
        await outbox.pusher.push()
        await look_again(mirror, outbox)
    await outbox.pusher.push()
    await outbox.settle()
    left = [row for row in await outbox.rows() if row["status"] != "done"]
    assert [(row["value"], row["status"]) for row in left] == [("CODE-7", "pending")]
    assert left[0]["next_attempt_at"] - left[0]["sent_at"] >= ALONE_AGAIN
    assert outbox.calls() <= 40
    assert active(mirror) == {(voucher.id, value): 1 for value in values if value != "CODE-7"}
