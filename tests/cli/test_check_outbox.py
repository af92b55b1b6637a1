"""`voucher-sync check`: changes that wait for somebody."""

import json

import pytest

from sync.outbox.each_row import KEPT
from tests.support.mirror import Mirror

from .conftest import Cli
from .outbox.helpers import add_row
from .test_check import findings


@pytest.mark.long
async def test_what_is_held_is_counted_by_why_it_is(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await cli("once", settings=mirror.environment)
        for value, because in (("A", "too_many_deletes"), ("B", "before_a_gap"), ("C", "before_a_gap")):
            add_row(mirror.database_url, value, "held", held_because=because)
        found = await findings(cli, mirror.environment)
        (status,) = json.loads((await cli("status", "--json", settings=mirror.environment)).stdout)
        told = await cli("status", settings=mirror.environment)
        listed = json.loads((await cli("outbox", "list", "--json", settings=mirror.environment)).stdout)["rows"]
    assert found["outbox"].detail == (
        "1 delete is held, since too many came at once; 2 changes from before a gap held still"
    )
    assert (status["outbox"], status["held"]) == ({"held": 3}, {"too_many_deletes": 1, "before_a_gap": 2})
    shown = " ".join(told.stdout.replace("│", " ").split())
    assert "3 changes held until somebody looks" in shown
    assert [row["held_because"] for row in listed] == ["before_a_gap", "before_a_gap", "too_many_deletes"]


@pytest.mark.long
async def test_what_is_held_or_stuck_is_wrong_whosever_it_is(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await cli("once", settings=mirror.environment)
        await mirror.execute("INSERT INTO sync.connections (name, state, paused_at) VALUES ('lake', 'ok', now())")
        add_row(mirror.database_url, "A", connection="default", last_error=KEPT)
        stuck = await findings(cli, mirror.environment)
        add_row(mirror.database_url, "B", "held", held_because="too_many_deletes")
        held = await findings(cli, mirror.environment)
    assert (stuck["outbox"].verdict, held["outbox"].verdict) == ("WRONG", "WRONG")
    assert stuck["outbox"].detail == "1 change stuck until somebody mends what keeps them"
    assert held["outbox"].detail == "1 change held of vouchers that no connection knows"
