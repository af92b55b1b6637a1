"""Whoever looks at the page keeps no pull or push waiting: what the loop does for many of them at once is short."""

import asyncio
import time

import pytest

from tests.support.mirror import Mirror

from .helpers import Site, serving
from .page_states import STATES

CLIENTS, ROUNDS, MOST_ROUNDS = 20, 5, 100
MOST_MS = 50.0
MORE = """
INSERT INTO sync.connections (name, state, error, error_kind)
SELECT 'another ' || n, 'failing', 'the API cannot be reached', 'NotConnected' FROM generate_series(1, 3000) AS n
"""


async def longest_turn_ms(site: Site) -> float:
    """Processor time of the longest turn of the loop while all ask at once: how busy the machine is does not count."""
    longest_s = 0.0
    asking = asyncio.gather(*(site.get("/fragment") for _ in range(CLIENTS)))
    while not asking.done():
        began_s = time.thread_time()
        await asyncio.sleep(0)
        longest_s = max(longest_s, time.thread_time() - began_s)
    assert {answer.status for answer in await asking} == {200}
    return longest_s * 1000


@pytest.mark.long
@pytest.mark.usefixtures("never_kept")
async def test_twenty_who_look_at_thousands_of_connections_hold_the_loop_up_for_less_than_50_ms(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["many"](mirror, site)
        await mirror.execute(MORE)
        assert (await site.get("/fragment")).status == 200
        turns_ms = [await longest_turn_ms(site) for _ in range(ROUNDS)]
        # Others share the processor's caches, and a machine may be slow for some seconds.
        while min(turns_ms) >= MOST_MS and len(turns_ms) < MOST_ROUNDS:
            turns_ms.append(await longest_turn_ms(site))
    assert min(turns_ms) < MOST_MS, turns_ms
