"""A discovery that finds all as before asks the API alone, and misses nothing for that."""

from collections import Counter
from typing import Any

import pytest

from sync.demo.simulator import Operation
from sync.mirror.quiet import QuietPulls, mirror_look
from sync.mirror.quiet_discovery import WHOLE_S, Discoveries
from tests.mews.helpers import StopWatch
from tests.support.mirror import Mirror
from tests.support.statements import statements


class Discovering:
    """Discoveries of a hotel that has been discovered, and a clock for them."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.clock = StopWatch()
        self.asked = Counter[Operation]()
        look = mirror_look(mirror.connection.engine)
        quiet = QuietPulls(mirror.connection, look)
        self.discoveries = Discoveries(mirror.connection, look, quiet, self.clock)
        mirror.simulator.on_request = self._on_request

    async def _on_request(self, operation: Operation, _body: Any) -> None:
        self.asked[operation] += 1

    async def discover(self) -> int:
        """One discovery; how many statements it was."""
        with statements(self.mirror.connection.shared_engine) as said:
            await self.discoveries.discover()
        return len(said)


@pytest.fixture
async def discovering(mirror: Mirror) -> Discovering:
    """A hotel with two vouchers, in which nothing happens."""
    for name in ("Summer", "Winter"):
        mirror.add_voucher(name)
    one = Discovering(mirror)
    for _ in range(2):  # the first one changes what it looked at before
        await one.discover()
    one.asked.clear()
    return one


async def test_it_asks_the_database_one_thing_and_the_api_each_thing_once(discovering: Discovering) -> None:
    assert await discovering.discover() == 1
    assert set(discovering.asked.values()) == {1}


async def test_it_tells_what_stands_as_of_when_it_began(discovering: Discovering) -> None:
    [clock] = await discovering.mirror.rows("SELECT clock_timestamp() AS now")
    report = await discovering.discoveries.discover()
    assert report.as_of >= clock["now"]
    assert (report.enterprises, report.services, report.vouchers, report.written) == (1, 1, 2, 0)


async def test_a_voucher_that_the_api_lists_from_now_on_is_mirrored(discovering: Discovering) -> None:
    discovering.mirror.add_voucher("Spring")
    assert await discovering.discover() > 1
    assert await discovering.mirror.rows("SELECT count(*) FROM mews.vouchers") == [{"count": 3}]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM mews.voucher_codes; DELETE FROM sync.watermarks; DELETE FROM mews.vouchers WHERE name = 'Summer'",
        "INSERT INTO sync.skipped (connection, kind, id, reason) SELECT connection, 'voucher', id, 'no longer listed' "
        "FROM mews.vouchers WHERE name = 'Summer'",
        "UPDATE sync.connections SET paused_at = now() WHERE name = 'other'",
    ],
    ids=["a row is gone", "a voucher is left out", "another connection is paused"],
)
async def test_whatever_it_goes_by_and_somebody_has_changed_is_looked_at(discovering: Discovering, change: str) -> None:
    await discovering.mirror.execute("INSERT INTO sync.connections (name, state) VALUES ('other', 'ok')")
    for _ in range(2):
        await discovering.discover()
    assert await discovering.discover() == 1
    for statement in change.split(";"):
        await discovering.mirror.execute(statement)
    assert await discovering.discover() > 1


async def test_now_and_then_all_is_compared_again(discovering: Discovering) -> None:
    await discovering.mirror.execute("UPDATE mews.enterprises SET name = 'somebody else'")
    discovering.clock.now_s += WHOLE_S
    assert await discovering.discover() > 1
