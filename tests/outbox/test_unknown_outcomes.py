"""What is unknown is looked up until it is known: nothing is sent twice, and nothing that stands is called failed."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from sync.demo.simulator import Close, Operation, RawBody, Status
from sync.outbox.lookup_outcomes import ALONE_AGAIN
from sync.outbox.rules import TOGETHER
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox, active, look_again

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


@pytest.mark.parametrize("is_made_before", [True, False])
async def test_an_add_is_not_made_again_where_the_api_s_clock_is_put_back(
    mirror: Mirror, outbox: Outbox, is_made_before: bool
) -> None:
    """Its code lies ahead of that clock then, or behind where it was when the add was sent: in no window that is read.
    Nor does the API find it by its value, since it cannot be used yet.
    """
    mirror.simulator.behaviour.allow_duplicates = mirror.simulator.behaviour.values_usable_only = True

    async def put_back(operation: Operation, _body: object) -> None:
        if operation is Operation.ADD_CODES:
            mirror.simulator.on_request = None
            mirror.clock.advance(timedelta(minutes=-1))

    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "FIRST")
    await outbox.pusher.push()
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, validity_start_utc) "
        "VALUES ('add', :voucher, 'A', '2030-01-01')",
        voucher=voucher.id,
    )  # fmt: skip
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    mirror.simulator.on_request = None if is_made_before else put_back
    await outbox.pusher.push()
    if is_made_before:
        mirror.clock.advance(timedelta(minutes=-1))
        await outbox.refresh()
    for step in (outbox.reconcile, outbox.pusher.push):
        await outbox.be_due()
        await step()
    assert await outbox.statuses() == ["done", "done"]
    assert active(mirror) == {(voucher.id, "FIRST"): 1, (voucher.id, "A"): 1}


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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
    await outbox.reconcile()
    left = [row for row in await outbox.rows() if row["status"] != "done"]
    assert [(row["value"], row["status"]) for row in left] == [("CODE-7", "pending")]
    assert left[0]["next_attempt_at"] - left[0]["sent_at"] >= ALONE_AGAIN
    assert outbox.calls() <= 40
    assert active(mirror) == {(voucher.id, value): 1 for value in values if value != "CODE-7"}
