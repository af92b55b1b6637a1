"""A user who keeps a table of ours locked is named in the log and by `status`, within a minute."""

from pathlib import Path

import psycopg
import pytest

from tests.support.daemon import running
from tests.support.loaded import run
from tests.support.mirror import Mirror


@pytest.mark.long
async def test_who_holds_the_lock_is_named(database_url: str, tmp_path: Path) -> None:
    mirror = Mirror(database_url)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD"])
    async with (
        mirror.served(),
        running(mirror, tmp_path) as daemon,
        await psycopg.AsyncConnection.connect(database_url) as user,
    ):
        await daemon.event("pulled")
        # It lets others read.
        await user.execute("LOCK TABLE mews.voucher_codes IN EXCLUSIVE MODE")
        mirror.add_codes(voucher, ["NEW"], days_old=0)
        told = (await daemon.event("failing"))["error"]
        assert f"Held by pid {user.info.backend_pid} (user {user.info.user}, " in told
        shown = await run("status", "--json", settings=mirror.environment, directory=tmp_path)
        assert f"Held by pid {user.info.backend_pid} " in shown.stdout
        await user.rollback()
        await daemon.event("recovered")
