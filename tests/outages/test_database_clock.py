"""The clock of the database's machine is stepped, for real: nothing is sent twice, whatever is under way."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from sync.demo.simulator import Close, Operation, Status, Voucher
from sync.outbox import gap
from sync.outbox.claims import as_daemon
from sync.postgres.migrations import migrate
from sync.service.jobs import Jobs
from tests.outages.helpers import pushing, queue_add, round_of, statuses, until
from tests.support.flows import numbered
from tests.support.mirror import Mirror
from tests.support.outbox import active
from tests.support.physical import stepped_server
from tests.support.postgres import new_database
from tests.support.wall_clock import DAY, HOUR, ProcessClock, needs_libfaketime

pytestmark = [pytest.mark.long, needs_libfaketime]

STEPS = [(HOUR,), (DAY, DAY), (HOUR, -HOUR), (-DAY, -DAY)]
QUICK = {"sync_lease_s": 10, "sync_settle_after_s": 2}
"""An answer is looked up before half a lease is over: what keeps it from being sent again is no relation of the two."""
MANY = numbered(20)
PUT_OFF = "NOT EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status <> 'pending' OR attempts = 0)"
LOOKED_UP_AGAIN = "SELECT FROM mews.voucher_code_outbox WHERE next_attempt_at > sent_at + interval '1 hour'"
HOLD = "UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'before_a_gap'"
RETRY = "UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE status = 'failed'"
PATIENCE_S = 60
"""What waits for the clock waits for ever."""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, ProcessClock]]:
    with stepped_server() as url_and_clock:
        yield url_and_clock


@pytest.fixture
def clock(server: tuple[str, ProcessClock]) -> ProcessClock:
    return server[1]


async def step_clock(mirror: Mirror, clock: ProcessClock, step: timedelta) -> None:
    """Sets the clock of the database's server, which must follow."""

    async def shown() -> datetime:
        (row,) = await mirror.rows("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    before = await shown()
    clock.step(step)
    assert abs(await shown() - before - step) < timedelta(minutes=1)


@pytest.fixture
async def hotel(server: tuple[str, ProcessClock]) -> AsyncIterator[Mirror]:
    """Whatever is sent twice is added twice, and shows."""
    with new_database(server[0]) as url:
        migrate(url)
        mirror = Mirror(url)
        mirror.simulator.behaviour.allow_duplicates = True
        async with mirror.opened():
            yield mirror


async def at_rest(mirror: Mirror, jobs: Jobs) -> None:
    """Looks up, as the daemon does all the time, until every change has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while set(await statuses(mirror)) != {"done"}:
            await jobs.outbox.look_up()
            await jobs.pull()


async def lose_an_answer(mirror: Mirror, jobs: Jobs, voucher: Voucher) -> None:
    """Sends an add whose answer is lost, and which the API shows late."""
    mirror.simulator.behaviour.hide_writes_for_s = 1.5
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    await queue_add(mirror, voucher, *MANY)
    jobs.outbox.wake.set()
    # On a busy machine a claim that passes over some of them may keep these `sending`, until their time is over.
    while "uncertain" not in await statuses(mirror):
        await jobs.pull()


@pytest.mark.parametrize("steps", STEPS, ids=str)
async def test_a_step_while_an_answer_is_on_its_way_sends_nothing_again(
    hotel: Mirror, clock: ProcessClock, steps: tuple[timedelta, ...]
) -> None:
    voucher = hotel.add_voucher()
    is_sent, may_answer = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is Operation.ADD_CODES:
            is_sent.set()
            await may_answer.wait()

    hotel.simulator.on_request = on_request
    async with pushing(hotel, **QUICK) as jobs:
        await round_of(hotel, jobs)
        await queue_add(hotel, voucher, *MANY)
        jobs.outbox.wake.set()
        await is_sent.wait()
        for step in steps:
            await step_clock(hotel, clock, step)
            for _ in range(3):
                await jobs.outbox.look_up()
        may_answer.set()
        await at_rest(hotel, jobs)
    assert set(active(hotel).values()) == {1}
    assert len(hotel.requests(Operation.ADD_CODES)) == 1


@pytest.mark.parametrize("steps", STEPS, ids=str)
async def test_a_step_after_a_lost_answer_sends_nothing_again(
    hotel: Mirror, clock: ProcessClock, steps: tuple[timedelta, ...]
) -> None:
    voucher = hotel.add_voucher()
    async with pushing(hotel, **QUICK) as jobs:
        await round_of(hotel, jobs)
        await lose_an_answer(hotel, jobs, voucher)
        for step in steps:
            await step_clock(hotel, clock, step)
            await jobs.outbox.look_up()
        await at_rest(hotel, jobs)
        assert len(hotel.requests(Operation.ADD_CODES)) == 1
    assert set(active(hotel).values()) == {1}


async def test_a_step_between_two_processes_sends_nothing_again(hotel: Mirror, clock: ProcessClock) -> None:
    voucher = hotel.add_voucher()
    async with pushing(hotel, **QUICK) as jobs:
        await round_of(hotel, jobs)
        await lose_an_answer(hotel, jobs, voucher)
    await step_clock(hotel, clock, DAY)
    async with pushing(hotel, **QUICK) as heir:
        await at_rest(hotel, heir)
    assert set(active(hotel).values()) == {1}
    assert len(hotel.requests(Operation.ADD_CODES)) == 1


@pytest.mark.parametrize("is_sent", [True, False], ids=["answer lost", "not processed"])
async def test_what_was_put_off_does_not_wait_for_a_clock_that_went_back_between_two_processes(
    hotel: Mirror, clock: ProcessClock, is_sent: bool
) -> None:
    voucher = hotel.add_voucher()
    async with pushing(hotel, **QUICK) as jobs:
        await round_of(hotel, jobs)
        if is_sent:
            await lose_an_answer(hotel, jobs, voucher)
        else:
            hotel.simulator.faults.script(Operation.ADD_CODES, Status(429), times=100)
            await queue_add(hotel, voucher, *MANY)
            jobs.outbox.wake.set()
            await until(hotel, PUT_OFF)
    hotel.simulator.faults.stop()
    await step_clock(hotel, clock, -HOUR)
    async with pushing(hotel, **QUICK) as heir:
        await at_rest(hotel, heir)
    assert set(active(hotel).values()) == {1}


async def test_what_was_put_off_long_after_it_was_sent_does_not_wait_either(hotel: Mirror, clock: ProcessClock) -> None:
    voucher = hotel.add_voucher()
    async with pushing(hotel, **QUICK) as jobs:
        await round_of(hotel, jobs)
        await lose_an_answer(hotel, jobs, voucher)
        await step_clock(hotel, clock, 2 * HOUR)
        hotel.simulator.faults.script(Operation.GET_CODES, Status(500), times=100)
        while not await hotel.rows(LOOKED_UP_AGAIN):
            await jobs.outbox.look_up()
        await hotel.beat(jobs)
        hotel.simulator.faults.stop()
    await step_clock(hotel, clock, -HOUR)
    async with pushing(hotel, **QUICK) as heir:
        await hotel.beat(heir)
        await at_rest(hotel, heir)
    assert set(active(hotel).values()) == {1}


@pytest.mark.parametrize("was_failed", [False, True], ids=["released by adopt", "retried"])
async def test_what_somebody_made_due_does_not_wait_for_a_clock_that_went_back_since(
    hotel: Mirror, clock: ProcessClock, was_failed: bool
) -> None:
    voucher = hotel.add_voucher()
    await queue_add(hotel, voucher, *MANY)
    engine = hotel.connection.engine
    if was_failed:
        hotel.simulator.faults.script(Operation.ADD_CODES, Status(400), times=100)
        async with pushing(hotel, **QUICK) as jobs:
            await round_of(hotel, jobs)
            await until(hotel, "NOT EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status <> 'failed')")
        hotel.simulator.faults.stop()
        await step_clock(hotel, clock, HOUR)
        await hotel.execute(RETRY)
    else:
        async with as_daemon(engine) as tx:
            await tx.execute(text(HOLD))
        await step_clock(hotel, clock, HOUR)
        async with as_daemon(engine) as tx:
            await gap.release(tx, [row.id for row in await gap.held_rows(tx, 0, len(MANY))])
    await step_clock(hotel, clock, -HOUR)
    async with pushing(hotel, **QUICK) as heir:
        await round_of(hotel, heir)
        await at_rest(hotel, heir)
    assert set(active(hotel).values()) == {1}
