"""A replica that is stopped at the worst moment, and wakes up: what it was about to do is another's work by then."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import Fleet, served, until_done
from tests.support.daemon import PATIENCE_S
from tests.support.proxy import Proxy

HOTELS = 2
CLAIM = b"INSERT INTO sync.attempts"
QUICK = {"SYNC_LEASE_S": "10", "SYNC_SETTLE_AFTER_S": "1"}


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Some hotels, served, where whatever is sent twice is added twice."""
    async with served(database_url, tmp_path, HOTELS, takes_doubles=True) as fleet:
        yield fleet


@pytest.mark.long
@pytest.mark.direct
async def test_what_was_claimed_and_not_sent_before_a_stop_is_sent_once_by_another(fleet: Fleet) -> None:
    """Stopped when its claim is committed and before it knows that, it goes on towards the call as soon as it wakes."""
    calls, database_url = Calls(fleet.mirror.simulator), fleet.mirror.database_url
    async with Proxy(database_url).served() as way:
        victims = {"DATABASE_URL": way.url, "SYNC_LISTEN_URL": way.url, "MEWS_CLIENT": "zombie", **QUICK}
        async with fleet.replica(**victims) as zombie, fleet.replica(MEWS_CLIENT="heir", **QUICK):
            await fleet.until_shared(1, 1)
            await calls.until_pulled(fleet.vouchers, now_s())
            (hotel,) = await fleet.hotels_of(zombie)
            way.hold_at_commit(CLAIM, is_committed=True)
            fleet.queue(hotel, "CLAIMED")
            async with asyncio.timeout(PATIENCE_S):
                await way.was_held.wait()
            zombie.process.send_signal(signal.SIGSTOP)
            way.let_be()
            try:
                await until_done(database_url)
            finally:
                woken_s = now_s()
                zombie.process.send_signal(signal.SIGCONT)
            await fleet.until_shared(1, 1)
            fleet.queue(hotel, "AFTER")
            await until_done(database_url)
    assert fleet.made() == {"CLAIMED": 1, "AFTER": 1}
    assert calls.taken_twice("zombie", woken_s) == []
    assert [call.client for call in calls.seen if "CLAIMED" in call.values] == ["heir"]
