"""Of many connections the page keeps no more than it shows, and tells what is not counted to its end."""

import gc
import re

import pytest

from sync.service.status.facts import COUNTED_TO, ConnectionStatus
from tests.support.mirror import Mirror

from .helpers import serving
from .page_states import STATES, queued


@pytest.mark.usefixtures("never_kept")
async def test_of_each_connection_that_is_looked_at_that_one_alone_is_kept(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        asked = [*(f"/?connection=hotel-{number:04}" for number in range(1, 9)), "/?connection=nobody"]
        assert {(await site.get(path)).status for path in asked} == {200, 404}
        gc.collect()
        assert sum(isinstance(one, ConnectionStatus) for one in gc.get_objects()) <= len(asked)


@pytest.mark.usefixtures("never_kept")
async def test_of_many_what_is_more_than_is_counted_is_told_as_such(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        for status in ("pending", "failed"):
            await queued(mirror, status, COUNTED_TO + 1, "NULL")
        text = " ".join(re.sub("<[^>]+>", " ", (await site.get("/")).body.decode()).split())
    assert re.search(r"Waiting more than 10,000 changes in the outbox", text)
    assert re.search(r"Held or refused more than 10,420 420 held, 10,000 refused", text)
