"""What the page calls what is not known yet, and what its words mean."""

import pytest

from sync.web.page.view import Asked, make_view
from tests.service.status.helpers import connection, daemon, overview
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


async def test_what_waits_for_no_connection_is_told_beside_what_waits_for_each(mirror: Mirror) -> None:
    async with mirror.opened(), serving(mirror) as site:
        await mirror.execute("INSERT INTO sync.connections (name, state) VALUES ('lake', 'ok'), ('hill', 'ok')")
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'add', gen_random_uuid(), n::text FROM generate_series(1, 3) AS n"
        )
        text = (await site.get("/")).body.decode()
    assert ('<dt>Waiting</dt><dd class="value">3</dd>' in text, "no connection knows: 3 pending." in text) == (
        True,
        True,
    )


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


async def test_what_was_audited_but_for_a_new_voucher_is_not_called_never_audited(mirror: Mirror) -> None:
    async with mirror.opened(), serving(mirror) as site:
        await STATES["working"](mirror, site)
        text = (await site.get("/")).body.decode()
    assert ("0 had drifted, 0 mended" in text, "never audited" in text, "not all vouchers yet, next" in text) == (
        True,
        False,
        True,
    )


def test_of_many_the_first_figure_counts_what_the_headline_does() -> None:
    nobody_s = connection(name="lake", origin="command", heartbeat_age_s=None)
    facts = overview(nobody_s, connection(), daemons=(daemon(takes=["environment"]),))
    view = make_view(facts, Asked(), lease_s=30.0, settings={})
    assert (view.verdict.headline, view.tiles[0].value) == ("1 of 2 connections: failing", "1 of 2")
