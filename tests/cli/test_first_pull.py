"""After a start nothing is sent before the API was read: what was sent, and lost from the database, shows there."""

from datetime import timedelta

import pytest

from sync.demo.simulator import Operation
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.outbox import active

from .conftest import Cli

QUEUE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :voucher, unnest(:values)"
VALUES = [f"NEW-{number}" for number in range(3)]


async def test_what_the_api_has_made_since_it_was_queued_is_done_and_not_sent(cli: Cli, mirror: Mirror) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        voucher = next(iter(mirror.world.vouchers.values()))
        await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES)
        mirror.add_codes(voucher, VALUES[:2], days_old=0)
        mirror.clock.advance(timedelta(seconds=5))  # a pull reads whole seconds that are over
        before = len(mirror.simulator.requests)
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert [active(mirror)[voucher.id, value] for value in VALUES] == [1, 1, 1]
        rows = await mirror.rows("SELECT status, attempts FROM mews.voucher_code_outbox ORDER BY id")
        assert [(row["status"], row["attempts"]) for row in rows] == [("done", 0), ("done", 0), ("done", 1)]
        asked = [request.operation for request in list(mirror.simulator.requests)[before:]]
        assert asked.index(Operation.GET_CODES) < asked.index(Operation.ADD_CODES)


@pytest.mark.long
async def test_before_the_first_change_a_start_asks_once_for_each_thousand_vouchers(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        voucher = next(iter(mirror.world.vouchers.values()))
        for number in range(2000):
            mirror.add_voucher(f"{number}")
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES)
        before = len(mirror.simulator.requests)
        assert (await cli("once", settings=mirror.environment)).code == 0
        asked = [request.operation for request in list(mirror.simulator.requests)[before:]]
        assert asked[: asked.index(Operation.ADD_CODES)].count(Operation.GET_CODES) == 3


@pytest.mark.long
async def test_nothing_is_sent_while_the_api_cannot_be_read_and_all_of_it_once_it_can(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        voucher = next(iter(mirror.world.vouchers.values()))
        await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES)
        mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.GET_CODES})
        assert (await cli("once", settings=mirror.environment)).code == 1
        assert mirror.requests(Operation.ADD_CODES) == []
        mirror.world.permit(ACCESS_TOKEN, set(Operation))
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert [active(mirror)[voucher.id, value] for value in VALUES] == [1, 1, 1]
