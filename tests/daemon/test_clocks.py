"""The daemon as a process on a machine whose wall clock is stepped."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.daemon import running
from tests.support.mirror import Mirror
from tests.support.wall_clock import DAY, ProcessClock, needs_libfaketime

PATIENCE_S = 60
LONG = pytest.mark.long
PAIRS = [pytest.param((-DAY, -DAY), marks=LONG), pytest.param((DAY, DAY), marks=LONG), (DAY, -DAY)]


@pytest.mark.long
@needs_libfaketime
@pytest.mark.parametrize("steps", PAIRS, ids=str)
async def test_codes_are_mirrored_and_changes_made_once_whatever_the_machines_clock_does(
    database_url: str, tmp_path: Path, steps: tuple[timedelta, ...]
) -> None:
    mirror, clock = Mirror(database_url), ProcessClock(tmp_path)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    async with mirror.opened(), running(mirror, tmp_path, **clock.environment) as daemon:
        while not (await mirror.compare()).is_equal:
            await daemon.event("pulled")
        for number, step in enumerate(steps):
            clock.step(step)
            mirror.add_codes(voucher, [f"NEW-{number}"], days_old=0)
            await mirror.execute(
                "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :id, :value)",
                id=voucher.id, value=f"ADD-{number}",
            )  # fmt: skip
            async with asyncio.timeout(PATIENCE_S):
                before = await heard_at(mirror)
                while not await is_through(mirror, pushed=number + 1):
                    await daemon.event("pulled")
                while await heard_at(mirror) == before:
                    await daemon.event("pulled")
    values = [code.value for code in mirror.world.codes.truth.values()]
    assert sorted(map(str, values)) == ["A", "ADD-0", "ADD-1", "NEW-0", "NEW-1"]


async def heard_at(mirror: Mirror) -> datetime:
    """When the daemon last reported for the connection, by the database's clock."""
    (row,) = await mirror.rows("SELECT heartbeat_at FROM sync.connection_freshness")
    instant: datetime = row["heartbeat_at"]
    return instant


async def is_through(mirror: Mirror, *, pushed: int) -> bool:
    """Whether the mirror is equal, and so many changes were made."""
    done = await mirror.rows("SELECT FROM mews.voucher_code_outbox WHERE status = 'done'")
    return len(done) == pushed and (await mirror.compare()).is_equal
