"""Deletes by value of vouchers that the API does not show at present: no pull tells which codes they have."""

from sync.connection.connection import Connection
from sync.demo.simulator import Voucher
from sync.mirror.discover import discover
from tests.mirror.test_late_changes import lose, push_all, stand
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.outbox import A_WHILE, Outbox, active


async def queue_delete(mirror: Mirror, outbox: Outbox, voucher: Voucher) -> None:
    """Queues the delete of a code that was made since its voucher is hidden, which a deleted one was called like."""
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    await outbox.pusher.push()
    await lose(mirror)
    mirror.add_codes(voucher, ["A"], days_old=0)
    await outbox.delete(voucher, "A")
    mirror.clock.advance(A_WHILE)
    await outbox.refresh()
    await outbox.pusher.push()


async def test_it_is_not_done_by_an_older_code_and_says_why(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await queue_delete(mirror, outbox, voucher)
    assert await outbox.statuses() == ["done", "failed"]
    assert "the API does not show its voucher" in (await outbox.rows())[1]["last_error"]
    assert active(mirror)[voucher.id, "A"] == 1


async def test_it_is_made_by_whoever_sees_its_voucher(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await discover(group)
    await queue_delete(mirror, outbox, voucher)
    assert await stand(mirror) == [("done", "default"), ("pending", "default")]
    await discover(group)
    await outbox.be_due()
    assert await push_all(mirror, group) == (1, 0)
    assert (voucher.id, "A") not in active(mirror)


async def test_once_its_voucher_is_shown_again_it_waits_for_a_pull_that_reads_it(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await discover(group)
    await queue_delete(mirror, outbox, voucher)
    mirror.world.grant(ACCESS_TOKEN, mirror.hotel.id)
    await mirror.discover()
    await outbox.be_due()
    await outbox.pusher.push()
    assert await stand(mirror) == [("done", "default"), ("pending", "default")]
    await outbox.refresh()
    await outbox.be_due()
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 2
    assert (voucher.id, "A") not in active(mirror)
