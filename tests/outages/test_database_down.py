"""The database is stopped while the daemon runs and an add is under way, and started again long after."""

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from sync.demo.simulator import Operation
from sync.postgres.embedded import embedded_postgres
from sync.postgres.migrations import migrate
from tests.daemon.test_daemon import mirrored
from tests.daemon.test_outbox import listeners
from tests.outages.helpers import queue_add, statuses, until
from tests.support.daemon import running
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import active
from tests.support.postgres import NOT_DURABLE

QUICK = {"SYNC_PUSH_POLL_S": "0.3", "SYNC_SETTLE_AFTER_S": "0.5"}
RECONNECTIONS = 2


def postmaster(directory: str) -> psutil.Process:
    """The server's process."""
    return psutil.Process(int((Path(directory) / "data/postmaster.pid").read_text().partition("\n")[0]))


@pytest.mark.long
async def test_a_database_that_is_away_for_long_is_outlasted(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name, embedded_postgres(Path(name), options=NOT_DURABLE) as url:
        migrate(url)
        mirror = Mirror(url)
        voucher = mirror.add_voucher()
        mirror.add_codes(voucher, numbered(20))
        async with mirror.opened(), running(mirror, tmp_path, **QUICK) as daemon:
            await mirrored(mirror, daemon)
            server, asked, answer = postmaster(name), asyncio.Event(), asyncio.Event()

            async def on_request(operation: Operation, _body: Any) -> None:
                if operation is Operation.ADD_CODES:
                    asked.set()
                    await answer.wait()

            mirror.simulator.on_request = on_request
            await queue_add(mirror, voucher, "IN-FLIGHT")
            await asked.wait()
            server.send_signal(signal.SIGINT)
            await asyncio.to_thread(server.wait)
            answer.set()
            mirror.world.add_codes(voucher.id, numbered(5, "THEIRS"))
            for _ in range(RECONNECTIONS):
                await daemon.event("not_listening")
            told = [line["event"] for line in daemon.logs if line["level"] not in {"debug", "info"}]
            assert (told, daemon.process.returncode) == (["failing"], None)
            with embedded_postgres(Path(name), options=NOT_DURABLE):
                await daemon.event("recovered")
                await until(mirror, "EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status = 'done')")
                while not await listeners(mirror):
                    await daemon.event("listening")
                await queue_add(mirror, voucher, "AFTER")
                await until(mirror, "NOT EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status <> 'done')")
                await mirrored(mirror, daemon)
                assert len(mirror.requests(Operation.ADD_CODES)) == len(await statuses(mirror)) == 2
                assert set(active(mirror).values()) == {1}
                assert await mirror.rows("SELECT state FROM sync.connections") == [{"state": "ok"}]
                assert await daemon.stopped(signal.SIGTERM) == 0
                assert daemon.count("failing") == daemon.count("recovered") == 1
    assert mirror.simulator.violations == []
