"""The daemon audits by itself, and goes on with what another process has left."""

from pathlib import Path

import pytest

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
