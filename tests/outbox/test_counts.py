"""A push reports what the database says that rows became, whatever they were to become."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from sync.demo.simulator import Operation, RetryAfter, Status
from sync.outbox.claims import as_daemon
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox

BUSY = Status(429, retry_after=RetryAfter(3600.0))
TAKEN = "UPDATE mews.voucher_code_outbox SET attempt_id = gen_random_uuid() WHERE value IN ('CODE-1', 'CODE-3')"


@pytest.mark.sampled
@pytest.mark.parametrize(("fault", "status"), [(BUSY, "pending"), (Status(500), "uncertain"), (None, "done")])
async def test_rows_whose_claim_was_lost_meanwhile_are_not_counted(
    mirror: Mirror, outbox: Outbox, fault: Status | None, status: str
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(5))

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES:
            async with as_daemon(mirror.connection.engine) as tx:
                await tx.execute(text(TAKEN))

    mirror.simulator.on_request = on_request
    mirror.simulator.faults.script(Operation.ADD_CODES, fault)
    report = await outbox.pusher.push()
    assert await outbox.statuses() == [status, "sending", status, "sending", status]
    counted = {"pending": report.given_back, "uncertain": report.uncertain, "done": report.done}
    assert counted == {"pending": 0, "uncertain": 0, "done": 0} | {status: 3}


@pytest.mark.long
async def test_a_refused_change_whose_claim_was_lost_meanwhile_is_not_counted(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.simulator.behaviour.refused_values.add("CODE-1")
    await outbox.add(voucher, "CODE-1")

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES:
            async with as_daemon(mirror.connection.engine) as tx:
                await tx.execute(text(TAKEN))

    mirror.simulator.on_request = on_request
    report = await outbox.pusher.push()
    assert (await outbox.statuses(), report.failed) == (["sending"], 0)
