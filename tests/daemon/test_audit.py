"""The daemon audits by itself, and goes on with what another process has left."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation
from tests.support.daemon import PATIENCE_S, running
from tests.support.flows import numbered
from tests.support.mirror import Mirror


@pytest.mark.long
async def test_an_audit_that_was_left_is_finished_and_what_has_drifted_is_mended(
    database_url: str, tmp_path: Path
) -> None:
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), numbered(50))
    async with mirror.opened():
        await mirror.once()
        await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE value = 'CODE-7'")
        await mirror.execute(
            "INSERT INTO sync.audits (connection, owner, alive_until) VALUES ('default', gen_random_uuid(), now())"
        )
        async with running(mirror, tmp_path) as daemon:
            audited = await daemon.event("audited")
        assert (audited["level"], audited["drift"], audited["repaired"], audited["errors"]) == ("warning", 1, 1, 0)
        assert (await mirror.compare()).is_equal
        assert await mirror.rows("SELECT FROM sync.audits WHERE finished_at IS NULL") == []
    assert mirror.simulator.violations == []


@pytest.mark.long
async def test_the_audit_begins_when_its_cron_line_says(database_url: str, tmp_path: Path) -> None:
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), numbered(50))
    async with mirror.opened():
        await mirror.once()
        await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE value = 'CODE-7'")
        async with running(mirror, tmp_path, SYNC_AUDIT_CRON="* * * * *") as daemon:
            # Cron knows no smaller unit than the minute.
            audited = await daemon.event("audited", patience_s=60 + PATIENCE_S)
        assert (audited["drift"], audited["repaired"]) == (1, 1)
        assert (await mirror.compare()).is_equal


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_audit_of_a_daemon_that_is_dead_is_gone_on_with_by_who_has_its_connection_next(
    database_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    """Its owner is dead when the connection is another's: nobody waits until it has been silent for minutes."""
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), numbered(50))
    is_auditing, is_dead = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, body: Any) -> None:
        if operation is Operation.GET_CODES and "UpdatedUtc" not in body and not is_dead.is_set():
            is_auditing.set()
            await is_dead.wait()

    async with mirror.opened():
        await mirror.once()
        await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE value = 'CODE-7'")
        await mirror.execute(
            "INSERT INTO sync.audits (connection, owner, alive_until) VALUES ('default', gen_random_uuid(), now())"
        )
        mirror.simulator.on_request = on_request
        async with running(mirror, tmp_path) as first:
            await is_auditing.wait()
            first.process.send_signal(how)
            is_dead.set()
            async with running(mirror, tmp_path) as second:
                assert (await second.event("audited"))["repaired"] == 1
                if how is signal.SIGSTOP:
                    first.process.send_signal(signal.SIGCONT)
                    await first.event("standing_by")
        assert len(await mirror.rows("SELECT FROM sync.audits WHERE finished_at IS NOT NULL")) == 1
        assert (await mirror.compare()).is_equal
