"""The push of a whole cycle: what it leaves behind is told."""

from typing import Any

import pytest

from sync.demo.simulator import Operation
from sync.service import app
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox


@pytest.mark.parametrize("is_queued", [True, False])
async def test_what_a_push_leaves_behind_since_the_server_became_another_is_told(
    mirror: Mirror, outbox: Outbox, is_queued: bool
) -> None:
    """As where a database fails over between the pull and the push of a `once`."""
    voucher = mirror.add_voucher()
    await mirror.once()
    async with mirror.connected():
        jobs, incarnation = app.make_jobs(mirror.connection, mirror.settings()), mirror.connection.incarnation
        assert await jobs.discover()
        assert await jobs.pull_turn()
        if is_queued:
            await outbox.add(voucher, "NEW")
        incarnation.known = None  # as where a transaction has found it to be another server
        pushed = await jobs.outbox.push_all()
        assert (list(pushed.errors), mirror.requests(Operation.ADD_CODES)) == (["IncarnationChanged"] * is_queued, [])
        assert await jobs.pull_turn()
        assert not (await jobs.outbox.push_all()).errors
    assert len(mirror.requests(Operation.ADD_CODES)) == is_queued


@pytest.mark.parametrize("is_queued", [True, False])
async def test_what_is_due_when_it_is_told_to_end_before_is_told(
    mirror: Mirror, outbox: Outbox, is_queued: bool
) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    if is_queued:
        await outbox.add(voucher, "NEW")
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        mirror.stop.set()
        errors = [str(error) for error in (await jobs.outbox.push_all()).errors.values()]
    assert [error.partition(":")[0] for error in errors] == ["it was told to end before all was sent"] * is_queued


@pytest.mark.parametrize(("number", "left"), [(900, 0), (9001, 8001)])
async def test_what_is_under_way_when_it_is_told_to_end_is_done_and_the_rest_is_told(
    mirror: Mirror, outbox: Outbox, number: int, left: int
) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.add(voucher, *(f"NEW-{number}" for number in range(number)))

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is Operation.ADD_CODES:
            mirror.stop.set()

    mirror.simulator.on_request = on_request
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        assert await jobs.discover()
        assert await jobs.pull_turn()
        pushed = await jobs.outbox.push_all()
    assert (pushed.done >= number - left, list(pushed.errors)) == (True, ["Stopped"] * bool(left))
