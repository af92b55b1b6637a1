"""Changes whose voucher or code is not known yet wait for a discovery or a pull, and fail if that knows none."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.demo.simulator import Operation
from sync.outbox import routing
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox


@pytest.mark.long
async def test_an_add_for_a_voucher_that_no_discovery_lists_fails_with_a_clear_error(
    mirror: Mirror, outbox: Outbox
) -> None:
    await outbox.refresh()
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', gen_random_uuid(), 'A')"
    )
    await outbox.pusher.push()
    assert (outbox.pusher.waiting.discovery, await outbox.statuses()) == (True, ["pending"])
    await outbox.refresh()
    report = await outbox.pusher.push()
    assert (report.done, report.failed) == (0, 1)
    (row,) = await outbox.rows()
    assert (row["status"], "no voucher with this voucher_id" in row["last_error"]) == ("failed", True)
    assert outbox.calls() == 0


@pytest.mark.long
async def test_an_add_for_a_voucher_that_the_next_discovery_finds_is_sent(mirror: Mirror, outbox: Outbox) -> None:
    await outbox.refresh()
    voucher = mirror.add_voucher()
    await outbox.add(voucher, "A")
    await outbox.pusher.push()
    await outbox.refresh()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"]


@pytest.mark.long
async def test_a_discovery_that_ends_while_changes_are_sorted_out_fails_none_of_its_vouchers(
    mirror: Mirror, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await outbox.refresh()
    voucher = mirror.add_voucher()
    await outbox.add(voucher, "A")
    assign = routing.assign

    async def adopt_before_a_discovery(tx: AsyncConnection, connection: str) -> bool:
        has_unassigned = await assign(tx, connection)
        monkeypatch.undo()
        await outbox.refresh()
        return has_unassigned

    monkeypatch.setattr(routing, "assign", adopt_before_a_discovery)
    await outbox.pusher.push()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"]


@pytest.mark.long
async def test_a_delete_of_a_code_that_was_added_a_moment_ago_waits_for_the_next_pull(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.world.add_codes(voucher.id, ["A"])
    await outbox.delete(voucher, "A")
    await outbox.pusher.push()
    assert (outbox.pusher.waiting.pull, await outbox.statuses()) == (True, ["pending"])
    mirror.clock.advance(timedelta(seconds=2))
    await outbox.refresh()
    await mirror.execute("UPDATE mews.voucher_code_outbox SET not_before = now()")
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"]


@pytest.mark.long
async def test_a_delete_that_fails_without_a_call_is_counted_as_failed(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["A"])
    mirror.world.delete_code(code.id)
    mirror.clock.advance(timedelta(seconds=2))
    await outbox.delete(voucher, "A", "NEVER")
    await outbox.refresh()
    report = await outbox.pusher.push()
    assert (await outbox.statuses(), report.done, report.failed) == (["done", "failed"], 1, 1)
    assert outbox.calls(Operation.DELETE_CODES) == 0


@pytest.mark.long
async def test_a_pull_that_began_too_soon_after_a_delete_was_queued_proves_nothing(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    (old,) = mirror.add_codes(voucher, ["A"])
    mirror.world.delete_code(old.id)
    mirror.clock.advance(timedelta(seconds=2))
    await outbox.refresh()
    outbox.freshness = replace(outbox.freshness, visible_after=timedelta(seconds=15))
    # Behind what the pull reads, as a code of its present second is, however slow the machine.
    unseen = mirror.clock() + timedelta(hours=1)
    mirror.world.add_codes(voucher.id, ["A"], created_utc=unseen, updated_utc=unseen)
    await outbox.delete(voucher, "A")
    await outbox.refresh()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["pending"]
