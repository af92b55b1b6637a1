"""The API is away for two days, refusing connections or failing, while everybody goes on working."""

from datetime import timedelta

from sync.demo.simulator import Close, Operation, Status
from tests.support.mirror import Mirror

from .rig import ended, pass_time, pushing, queue_add, round_of, statuses, until

STEP = timedelta(hours=6)


async def test_a_process_that_starts_in_an_outage_does_not_say_that_all_is_well(mirror: Mirror) -> None:
    mirror.add_voucher()
    mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
    async with pushing(mirror) as jobs:
        await round_of(jobs)
    await pass_time(mirror, STEP)
    (failing,) = await mirror.rows("SELECT state, state_since FROM sync.connections")
    async with pushing(mirror) as jobs:
        for _ in range(2):
            await jobs.beat()
            await jobs.outbox.look_up()
            assert await mirror.rows("SELECT state, state_since FROM sync.connections") == [failing]
            await round_of(jobs)
        mirror.simulator.faults.stop()
        await round_of(jobs)
        assert await mirror.rows("SELECT state FROM sync.connections") == [{"state": "ok"}]


async def test_a_lost_answer_that_is_found_by_a_look_fails_no_longer(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    async with pushing(mirror) as jobs:
        await round_of(jobs)
        mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
        await queue_add(mirror, voucher, "A")
        jobs.outbox.wake.set()
        await until(mirror, "EXISTS (SELECT FROM sync.connections WHERE state = 'failing')")
        await ended(mirror, jobs)
        assert (await statuses(mirror), jobs.health.errors) == (["done"], [])
        assert await mirror.rows("SELECT state FROM sync.connections") == [{"state": "ok"}]
