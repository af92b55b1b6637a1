"""What the page calls what is not known yet, and what its words mean."""

import pytest

from tests.support.mirror import Mirror

from .helpers import serving
from .page_states import STATES


@pytest.mark.long
async def test_before_the_first_pull_has_caught_up_nothing_is_called_unknown_or_never(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await mirror.execute("INSERT INTO sync.connections (name, state) VALUES ('default', 'ok')")
        text = (await site.get("/")).body.decode()
    tile = text.split("<dt>Last success</dt>")[1].partition("</div>")[0]
    assert ('">not yet<' in tile, "no pull has caught up so far" in tile) == (True, True)
    assert ("the first once a daemon runs" in text, "or the first look for them goes on" in text) == (True, True)
    async with serving(mirror) as site:
        await mirror.execute("INSERT INTO sync.connections (name, state) VALUES ('lake', 'ok')")
        assert (await site.get("/")).body.decode().count('<td role="cell">not yet</td>') == 2


@pytest.mark.long
async def test_what_complete_through_means_is_said_where_it_stands(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        text = (await site.get("/")).body.decode()
    assert ("complete through " in text, "Complete through an instant: every change before it" in text) == (True, True)


async def test_of_what_is_paused_no_audit_is_announced(mirror: Mirror) -> None:
    async with mirror.opened(), serving(mirror) as site:
        await STATES["paused"](mirror, site)
        text = (await site.get("/")).body.decode()
    assert (text.count("none while it is paused"), "The next begins" in text) == (2, False)
