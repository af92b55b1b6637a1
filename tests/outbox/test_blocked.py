"""What something on the way answers in the API's place proves nothing of a write, and one change stops no other."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from sync.demo.simulator import Operation, Status
from sync.demo.simulator.faults import RawBody
from sync.outbox.lookup_outcomes import MAX_BLOCKS
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox, active, look_again

STATUSES = [200, 204, 400, 401, 403, 404, 409, 410, 413, 418, 429, 502]
DISLIKED = "' OR 1=1"


def values_of(body: Mapping[str, Any]) -> list[str]:
    return [item["Value"] for item in body["VoucherCodeParameters"]]


async def send_and_look(outbox: Outbox) -> None:
    await outbox.be_due()
    await outbox.pusher.push()
    await outbox.be_due()
    await outbox.reconcile()


@pytest.mark.sampled
@pytest.mark.parametrize("is_made", [True, False])
@pytest.mark.parametrize("status", STATUSES)
async def test_what_a_proxy_answers_in_the_api_s_place_is_looked_up_before_anything_is_sent_again(
    mirror: Mirror, outbox: Outbox, status: int, is_made: bool
) -> None:
    voucher = mirror.add_voucher()
    mirror.simulator.behaviour.allow_duplicates = True
    await outbox.refresh()
    await outbox.add(voucher, *numbered(6))
    mirror.simulator.faults.script(
        Operation.ADD_CODES, RawBody(b"<html>No</html>", status, "text/html", processed=is_made)
    )
    await outbox.pusher.push()
    assert set(await outbox.statuses()) == {"uncertain"}
    await look_again(mirror, outbox)
    assert set(await outbox.statuses()) == {"done" if is_made else "pending"}
    await outbox.be_due()
    await outbox.pusher.push()
    assert (len(active(mirror)), set(active(mirror).values())) == (6, {1})


@pytest.mark.sampled
@pytest.mark.parametrize("status", [403, 409, 429])
async def test_the_api_s_words_without_its_name_for_the_call_prove_nothing_either(
    mirror: Mirror, outbox: Outbox, status: int
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(status, named=False, processed=True))
    report = await outbox.pusher.push()
    assert (await outbox.statuses(), [*report.errors]) == (["uncertain"], ["NotFromApi"])
    await look_again(mirror, outbox)
    assert (await outbox.statuses(), set(active(mirror).values())) == (["done"], {1})


@pytest.mark.long
async def test_a_firewall_that_dislikes_one_change_stops_no_other_and_fails_that_one(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(40), DISLIKED)

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES and DISLIKED in values_of(body):
            raise web.HTTPForbidden(text="<html>Request blocked</html>", content_type="text/html")

    mirror.simulator.on_request = on_request
    rounds = 0
    while "failed" not in await outbox.statuses():
        rounds += 1
        assert rounds <= 15
        await send_and_look(outbox)
        await outbox.add(voucher, f"BESIDE-{rounds}")
    (failed,) = [row for row in await outbox.rows() if row["status"] == "failed"]
    assert (failed["value"], "lets all but this change through" in failed["last_error"]) == (DISLIKED, True)
    # Tried again by an operator, it has as many chances as at first.
    await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE status = 'failed'")
    await send_and_look(outbox)
    assert sorted(set(await outbox.statuses())) == ["done", "pending"]
    assert len(active(mirror)) == 40 + rounds


@pytest.mark.sampled
@pytest.mark.parametrize("count", [5, 40, 60])
async def test_a_small_batch_that_is_blocked_is_soon_sent_in_small_parts(
    mirror: Mirror, outbox: Outbox, count: int
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(count - 1), DISLIKED)
    blocked = list[int]()

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES and DISLIKED in values_of(body):
            blocked.append(len(values_of(body)))
            raise web.HTTPForbidden(text="<html>Request blocked</html>", content_type="text/html")

    mirror.simulator.on_request = on_request
    while 1 not in blocked:
        await send_and_look(outbox)
    assert blocked[:2] == [count, count]
    assert len(blocked) <= 5
    assert set(active(mirror).values()) == {1}


@pytest.mark.long
async def test_a_wall_before_everything_fails_nothing_and_is_told_as_one(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(20))
    mirror.simulator.faults.script(Operation.ADD_CODES, *[Status(403, html=True)] * (3 * MAX_BLOCKS))
    told = set[str]()
    for _ in range(3 * MAX_BLOCKS):
        await outbox.be_due()
        told |= (await outbox.pusher.push()).errors.keys()
        await outbox.be_due()
        await outbox.reconcile()
        assert set(await outbox.statuses()) <= {"pending", "uncertain", "done"}
    assert told <= {"NotFromApi", "CircuitOpen"}
    mirror.simulator.faults.stop()
    while set(await outbox.statuses()) != {"done"}:
        await send_and_look(outbox)
    assert set(active(mirror).values()) == {1}


@pytest.mark.long
async def test_an_operation_that_the_vendor_tries_to_end_fails_no_change_and_is_probed_slowly(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(20))
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(410), times=100)
    told = set[str]()
    for _ in range(5):
        await outbox.be_due()
        told |= (await outbox.pusher.push()).errors.keys()
    assert (set(await outbox.statuses()), told, outbox.calls()) == ({"pending"}, {"Discontinued"}, 1)
    mirror.simulator.faults.script(Operation.GET_CODES, Status(410), times=10)
    report = await mirror.pull()
    assert "update voucher-sync" in str(report.errors[0])
