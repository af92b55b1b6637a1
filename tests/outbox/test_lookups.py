"""What is unknown is looked up whatever shows it, with few calls, and less is asked for where that is too much."""

from datetime import timedelta

import pytest
from aiohttp import web

from sync.demo.simulator import Close, Operation, Status
from sync.outbox import reconcile as flow
from sync.outbox.reconcile import reconcile
from tests.support.flows import add_hotel, add_voucher_to, fail_where, numbered, page_size
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.outbox import A_WHILE, AT_ONCE, Outbox, active, look_again

LOST = Close(processed=True)


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize(
    "search",
    [None, Status(400, message="Invalid VoucherCodeValues"), Status(408), Status(413)],
    ids=["found", "refused", "too heavy", "too large"],
)
async def test_a_code_in_no_window_is_found_though_the_api_stamped_what_it_made_before(
    mirror: Mirror, outbox: Outbox, search: Status | None
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "STAMPED")
    await outbox.pusher.push()
    mirror.simulator.behaviour.stamp_added = False
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    mirror.simulator.faults.script(Operation.GET_VOUCHERS, search)
    await look_again(mirror, outbox)
    assert (await outbox.statuses(), active(mirror)[voucher.id, "A"]) == (["done", "done"], 1)


@pytest.mark.long
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
    await outbox.reconcile()
    assert (await outbox.statuses(), active(mirror)[voucher.id, "A"]) == (["done", "done"], 1)


@pytest.mark.long
async def test_where_the_api_stamps_what_it_adds_a_look_reads_windows_and_asks_once_by_value(
    mirror: Mirror, outbox: Outbox
) -> None:
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
    bodies = [record.body or {} for record in mirror.requests(Operation.GET_VOUCHERS)]
    assert [body["VoucherCodeValues"] for body in bodies if "VoucherCodeValues" in body] == [["B"]]
    assert await outbox.statuses() == ["done", "pending"]


@pytest.mark.long
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


async def test_what_was_refused_says_so_also_where_its_voucher_was_hidden_meanwhile(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_voucher("another")
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(), Status(403, "Not this one"))
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    hidden = mirror.world.vouchers.pop(voucher.id)
    await look_again(mirror, outbox)
    (row,) = await outbox.rows()
    assert (row["status"], "does not show its voucher" in row["last_error"]) == ("uncertain", True)
    mirror.world.vouchers[voucher.id] = hidden
    await look_again(mirror, outbox)
    assert [(row["status"], row["last_error"]) for row in await outbox.rows()] == [("failed", "Not this one")]


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
    report = await reconcile(mirror.connection, outbox.pusher.watch, AT_ONCE)
    assert (report.done, report.errors) == (3000, [])
    assert len(mirror.requests()) - before == 4
    assert set(active(mirror).values()) == {1}


@pytest.mark.long
async def test_what_cannot_be_looked_up_now_is_looked_up_later(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, LOST)
    await outbox.pusher.push()
    mirror.simulator.faults.script(Operation.GET_CODES, Status(401))
    report = await reconcile(mirror.connection, outbox.pusher.watch, AT_ONCE)
    (row,) = await outbox.rows()
    assert ([type(error).__name__ for error in report.errors], row["status"]) == (["Unauthorized"], "uncertain")
    assert row["next_attempt_at"] - row["sent_at"] >= flow.RECHECK_AFTER
    await look_again(mirror, outbox)
    assert await outbox.statuses() == ["done"]
