"""What a process finds that stood still, until another one took its audit over and ended it, counts for nothing."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from sync.audit.run import audit
from sync.core.errors import AuditRunning
from sync.demo.simulator import Operation
from tests.support.flows import REPAIR, later, numbered
from tests.support.mirror import Mirror

LEFT = "UPDATE sync.audits SET alive_until = now() - interval '1 s', owner_process = NULL WHERE finished_at IS NULL"


async def test_what_was_confirmed_before_by_another_is_not_counted_once_more(mirror: Mirror) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(20))
    await later(mirror)
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'DRIFTED' WHERE id = :id", id=codes[0].id)
    stands_still, goes_on = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES and "VoucherCodeIds" in body and not stands_still.is_set():
            stands_still.set()
            await goes_on.wait()

    mirror.simulator.on_request = on_request
    first = asyncio.create_task(audit(mirror.connection, REPAIR))
    await asyncio.wait([first, asyncio.create_task(stands_still.wait())], return_when=asyncio.FIRST_COMPLETED)
    await mirror.execute(LEFT)
    async with mirror.connected():
        report = await audit(mirror.connection, REPAIR)
    goes_on.set()
    with pytest.raises(AuditRunning):
        await first
    assert (report.drift, report.repaired) == (1, 1)
    assert await mirror.rows("SELECT differing, repaired FROM sync.voucher_audits") == [{"differing": 1, "repaired": 1}]
