"""Replicas behind a pooler of transactions with two sessions for all of them; each listens past it."""

import signal
from pathlib import Path

import pytest

from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import Fleet, until_done
from tests.support.mirror import Mirror
from tests.support.pooler import needs_pgbouncer, pooled

HOTELS = 6
ADDS = 5


@needs_pgbouncer
@pytest.mark.long
@pytest.mark.direct
async def test_replicas_behind_a_pooler_share_their_hotels_and_follow_one_that_is_killed(
    database_url: str, tmp_path: Path
) -> None:
    mirror = Mirror(database_url)
    mirror.simulator.behaviour.allow_duplicates = True
    with pooled(database_url, pool_size=2) as way:
        async with mirror.served():
            fleet, calls = Fleet(mirror, tmp_path), Calls(mirror.simulator)
            fleet.add_hotels(HOTELS)
            behind = {"DATABASE_URL": way, "SYNC_LISTEN_URL": database_url}
            async with fleet.replica(**behind, MEWS_CLIENT="first") as first, fleet.replica(**behind) as second:
                await fleet.until_shared(HOTELS // 2, HOTELS // 2)
                await calls.until_pulled(fleet.vouchers, now_s())
                for name in fleet.vouchers:
                    fleet.queue(name, *(f"{name}-{number}" for number in range(ADDS)))
                first.process.kill()
                await first.process.wait()
                killed_s = now_s()
                await fleet.until_shared(HOTELS)
                await calls.until_pulled(fleet.vouchers, killed_s, but="first")
                await until_done(database_url)
                assert await second.stopped(signal.SIGTERM) == 0
            assert set((await fleet.owners()).values()) == {None}
    assert fleet.made() == {f"{name}-{number}": 1 for name in fleet.vouchers for number in range(ADDS)}
    assert mirror.simulator.violations == []
