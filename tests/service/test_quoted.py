"""What the API says of a call that carried codes' values may quote them, and is told nowhere."""

from datetime import timedelta

import pytest
import structlog

from sync.demo.simulator import Close, Operation, Status
from sync.service.app import make_jobs
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox

MARK = "MARKED-VALUE"


@pytest.mark.parametrize("status", [401, 403, 418])
async def test_a_search_by_value_that_is_refused_quotes_none(mirror: Mirror, outbox: Outbox, status: int) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "STAMPED")
    await outbox.pusher.push()  # so the API is known to stamp what it adds, and is asked for others by their value
    mirror.simulator.behaviour.stamp_added = False
    await outbox.add(voucher, MARK)
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    await outbox.pusher.push()
    jobs = make_jobs(mirror.connection, mirror.settings(sync_settle_after_s=0.001))
    jobs.outbox.watch = outbox.pusher.watch
    mirror.simulator.faults.script(Operation.GET_VOUCHERS, Status(status, message=f"Not so for {MARK}"))
    mirror.clock.advance(A_WHILE)
    with structlog.testing.capture_logs() as logs:
        while not logs:
            mirror.clock.advance(timedelta(seconds=1))
            await outbox.be_due()
            await jobs.outbox.look_up()
    (told,) = await mirror.rows("SELECT state, error FROM sync.connections")
    assert (logs[0]["event"], told["state"]) == ("failing", "failing")
    assert f"({status})" in told["error"]
    assert MARK not in f"{logs} {told} {jobs.health.errors}"
