"""What a daemon has done in the seconds before it is stopped is told as all else is."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation, Status
from tests.fleet.replicas import until_done
from tests.support.daemon import running
from tests.support.flows import numbered
from tests.support.mirror import Mirror


@pytest.mark.long
async def test_what_was_pushed_just_before_a_stop_is_logged_and_in_the_history(mirror: Mirror, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    async with running(mirror, tmp_path, SYNC_LEASE_S="300") as daemon:  # it tells every 100 seconds by itself
        await daemon.event("pulled")
        mirror.simulator.faults.script(Operation.ADD_CODES, Status(429))
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'add', :voucher, unnest(:values)",
            voucher=voucher.id,
            values=numbered(20),
        )
        await until_done(mirror.database_url)
        assert await daemon.stopped(signal.SIGTERM) == 0
    assert [line["done"] for line in daemon.logs if line["event"] == "pushed" and line["done"]] == [20]
    runs = await mirror.rows("SELECT counts ->> 'done' AS done FROM sync.runs WHERE kind = 'push'")
    assert [row["done"] for row in runs if row["done"] != "0"] == ["20"]
    assert await mirror.rows("SELECT operation, count FROM sync.request_failures") == [
        {"operation": "voucherCodes/add", "count": 1}
    ]


async def test_what_was_under_way_at_a_stop_is_logged_and_in_the_history(mirror: Mirror, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    asked, stopped = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.ADD_CODES:
            asked.set()
            await stopped.wait()

    mirror.simulator.on_request = on_request
    async with running(mirror, tmp_path, SYNC_LEASE_S="300") as daemon:
        await daemon.event("pulled")
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, 'LAST')",
            voucher=voucher.id,
        )
        await asked.wait()
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.event("stopping")
        stopped.set()
        await daemon.event("stopped")
    assert [line["done"] for line in daemon.logs if line["event"] == "pushed"] == [1]
    runs = await mirror.rows("SELECT counts ->> 'done' AS done FROM sync.runs WHERE kind = 'push'")
    assert runs == [{"done": "1"}]
