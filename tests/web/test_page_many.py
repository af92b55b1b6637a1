"""Of many connections the page keeps no more than it shows, and tells what is not counted to its end."""

import gc
import re

import pytest

from sync.service.status.facts import COUNTED_TO, ConnectionStatus
from tests.support.mirror import Mirror

from .helpers import serving
from .page_states import STATES, queued


def kept() -> int:
    """How many connections' facts there are in this process."""
    gc.collect()
    return sum(isinstance(one, ConnectionStatus) for one in gc.get_objects())


@pytest.mark.usefixtures("never_kept")
async def test_of_each_connection_that_is_looked_at_that_one_alone_is_kept(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        before = kept()
        asked = [*(f"/?connection=hotel-{number:04}" for number in range(1, 9)), "/?connection=nobody"]
        assert {(await site.get(path)).status for path in asked} == {200, 404}
        assert kept() - before <= len(asked)


@pytest.mark.usefixtures("never_kept")
async def test_of_all_connections_what_was_found_last_alone_is_kept(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        before = kept()
        asked = [f"/?{query}" for query in ("find=hotel", "find=1", "find=2", "page=2", "page=3")]
        assert {(await site.get(path)).status for path in asked} == {200}
        assert kept() - before == 21


@pytest.mark.usefixtures("never_kept")
async def test_of_many_what_is_more_than_is_counted_is_told_as_such(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        for status in ("pending", "failed"):
            await queued(mirror, status, COUNTED_TO + 1, "NULL")
        text = " ".join(re.sub("<[^>]+>", " ", (await site.get("/")).body.decode()).split())
    assert re.search(r"Waiting more than 10,000 changes in the outbox", text)
    assert re.search(r"Held or refused more than 10,420 420 held, more than 10,000 refused", text)
