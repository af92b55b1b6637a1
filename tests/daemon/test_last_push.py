"""What a daemon has done in the seconds before it is stopped is told as all else is."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation, Status, Voucher
from tests.fleet.replicas import until_done
from tests.support.daemon import running
from tests.support.flows import numbered
from tests.support.mirror import Mirror

PUSHED = "SELECT counts ->> 'done' AS done FROM sync.runs WHERE kind = 'push'"


async def queue(mirror: Mirror, voucher: Voucher, *values: str) -> None:
    """Queues adds."""
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :voucher, unnest(:values)",
        voucher=voucher.id,
        values=list(values),
    )


@pytest.mark.long
async def test_what_was_pushed_just_before_a_stop_is_logged_and_in_the_history(mirror: Mirror, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    async with running(mirror, tmp_path, SYNC_LEASE_S="300") as daemon:  # it tells every 100 seconds by itself
        await daemon.event("pulled")
        mirror.simulator.faults.script(Operation.ADD_CODES, Status(429))
        await queue(mirror, voucher, *numbered(20))
        await until_done(mirror.database_url)
        assert await daemon.stopped(signal.SIGTERM) == 0
    assert [line["done"] for line in daemon.logs if line["event"] == "pushed" and line["done"]] == [20]
    runs = await mirror.rows(PUSHED)
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
        await queue(mirror, voucher, "LAST")
        await asked.wait()
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.event("stopping")
        stopped.set()
        await daemon.event("stopped")
    assert [line["done"] for line in daemon.logs if line["event"] == "pushed"] == [1]
    assert await mirror.rows(PUSHED) == [{"done": "1"}]


@pytest.mark.long
async def test_what_was_pushed_before_a_stop_is_told_also_where_something_else_does_not_end(
    mirror: Mirror, tmp_path: Path
) -> None:
    voucher = mirror.add_voucher()
    asked, answered = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES:
            asked.set()
            await answered.wait()

    async with running(mirror, tmp_path, SYNC_LEASE_S="300", SYNC_REQUEST_TIMEOUT_S="300") as daemon:
        await daemon.event("pulled")
        await queue(mirror, voucher, "LAST")
        await until_done(mirror.database_url)
        mirror.simulator.on_request = on_request
        await asked.wait()
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.event("stopping_in_the_middle")
        await daemon.event("stopped")
        answered.set()
    assert [line["done"] for line in daemon.logs if line["event"] == "pushed"] == [1]
    assert await mirror.rows(PUSHED) == [{"done": "1"}]
