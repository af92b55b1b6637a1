"""A replica that is stopped between its last check and the kernel's send: what it may do then, as is documented."""

import asyncio
from pathlib import Path

import pytest

from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import served, until_done
from tests.support.daemon import PATIENCE_S
from tests.support.debugger import held_at_send, needs_debugger

pytestmark = [pytest.mark.long, pytest.mark.direct, needs_debugger]

BODY = b'{"ClientToken":'
SELDOM = {"SYNC_PULL_INTERVAL_S": "3600", "SYNC_DISCOVERY_INTERVAL_S": "3600"}
"""The next call is the one that makes the change."""
QUICK = {"SYNC_LEASE_S": "10", "SYNC_SETTLE_AFTER_S": "1"}


def senders(calls: Calls) -> list[str]:
    """Whose calls asked for the change, in the order of their answers."""
    return [call.client for call in calls.seen if "HELD" in call.values]


@pytest.mark.parametrize("takes_doubles", [False, True])
async def test_what_it_sends_then_is_made_again_only_by_an_api_that_takes_a_value_twice(
    database_url: str, tmp_path: Path, *, takes_doubles: bool
) -> None:
    """No check can be later than the last one, and the API knows no key by which it could tell.

    Whether the API still takes the call depends on which comes first there: its body, or that the replica gives it up.
    """
    async with served(database_url, tmp_path, 2, takes_doubles=takes_doubles) as fleet:
        calls, began_s = Calls(fleet.mirror.simulator), now_s()
        settings = SELDOM | QUICK
        async with (
            fleet.replica(MEWS_CLIENT="zombie", **settings) as zombie,
            fleet.replica(MEWS_CLIENT="heir", **settings),
        ):
            await fleet.until_shared(1, 1)
            await calls.until_pulled(fleet.vouchers, began_s)
            (hotel,) = await fleet.hotels_of(zombie)
            async with asyncio.timeout(2 * PATIENCE_S), held_at_send(zombie.process.pid, BODY, tmp_path) as held:
                fleet.queue(hotel, "HELD")
                await held.is_stopped()
                await until_done(database_url)
                assert senders(calls) == ["heir"]
                await held.go_on()
            await until_done(database_url)
            await fleet.until_shared(1, 1)
            fleet.queue(hotel, "AFTER")
            await until_done(database_url)
    first, *later = senders(calls)
    assert first == "heir"
    assert later in ([], ["zombie"])
    assert fleet.made() == {"HELD": 1 + (takes_doubles and bool(later)), "AFTER": 1}
