"""The API is away for two days, refusing connections or failing, while everybody goes on working."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync.demo.simulator import Close, Operation, Status, Voucher
from sync.service.jobs import Jobs
from tests.outages.helpers import (
    ALL_OVER,
    ended,
    pass_time,
    pushing,
    queue_add,
    queue_delete,
    queue_delete_by_id,
    round_of,
    statuses,
    told,
    until,
)
from tests.support.flows import honest, numbered, watermarks
from tests.support.mirror import Mirror
from tests.support.outbox import active

STEP = timedelta(hours=6)
STEPS = 8
UNRECONCILED = {"pending", "sending", "uncertain"}
FAILED = "SELECT kind FROM sync.runs WHERE error IS NOT NULL AND NOT coalesce(counts['rescued']::int > 0, false)"
"""But for those that found an expired claim, which is news: `pass_time` makes one expire whose call is under way."""


@asynccontextmanager
async def away(mirror: Mirror, uptime: AsyncExitStack, how: str) -> AsyncIterator[None]:
    """An outage: nobody listens at the API's address, or a proxy answers that nobody is behind it."""
    if how == "refused":
        port = mirror.port
        await uptime.aclose()
        yield
        await uptime.enter_async_context(mirror.served(port=port))
    else:
        mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
        yield
        mirror.simulator.faults.stop()


async def work_on(mirror: Mirror, voucher: Voucher, step: int) -> None:
    """What others do in the API, and what is queued here, within six hours."""
    world = mirror.world
    added = world.add_codes(voucher.id, numbered(5, f"THEIRS-{step}"))
    world.delete_code(added[0].id)
    world.edit_code(added[1].id, validity_end_utc=mirror.clock() + timedelta(days=30))
    await queue_add(mirror, voucher, *numbered(2, f"OURS-{step}"))
    if step == 2:
        # The order of these two counts, and neither the code of the third nor the voucher of the fourth is known here.
        await queue_delete(mirror, voucher, "RENEWED")
        await queue_add(mirror, voucher, "RENEWED")
        await queue_delete_by_id(mirror, added[2].id)
        await queue_add(mirror, mirror.add_voucher("New", days_old=0), "FOR-THE-NEW-ONE")


@pytest.mark.long
@pytest.mark.parametrize(("how", "words"), [("refused", "cannot be reached"), ("failing", "503")])
async def test_two_days_without_the_api_are_caught_up_with(
    database_url: str, tmp_path: Path, how: str, words: str
) -> None:
    mirror = Mirror(database_url)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["RENEWED", *numbered(20)])
    async with AsyncExitStack() as uptime:
        await uptime.enter_async_context(mirror.served())
        async with mirror.connected(), pushing(mirror) as jobs:
            await round_of(mirror, jobs)
            assert (await mirror.compare()).is_equal
            before = await watermarks(mirror)
            async with away(mirror, uptime, how):
                began = datetime.now(UTC)
                for step in range(STEPS):
                    await work_on(mirror, voucher, step)
                    await round_of(mirror, jobs)
                    await pass_time(mirror, STEP)
                    assert set(await statuses(mirror)) <= UNRECONCILED
                assert (await watermarks(mirror), await honest(mirror)) == (before, [])
                await it_is_told(mirror, tmp_path, words, began - STEPS * STEP)
            await ended(mirror, jobs)
            await pass_time(mirror, ALL_OVER)
            await round_of(mirror, jobs)
            await all_is_well(mirror, jobs)


async def it_is_told(mirror: Mirror, directory: Path, words: str, began: datetime) -> None:
    """Since when it fails and why; and `check` says so too."""
    text, one, checked = await told(mirror, directory)
    assert (text.code, one["state"], words in one["error"]) == (1, "failing", True)
    since = datetime.fromisoformat(one["state_since"])
    assert abs(since - began) < timedelta(minutes=1)
    assert f"failing since {since:%Y-%m-%d %H:%M}" in text.stdout
    assert one["outbox"].keys() <= UNRECONCILED
    assert sum(one["outbox"].values()) == 2 * STEPS + 4
    failed = [run["kind"] for run in await mirror.rows(FAILED)]
    assert len(failed) == len(set(failed))
    assert (checked.code, words in checked.stdout) == (1, True)


async def all_is_well(mirror: Mirror, jobs: Jobs) -> None:
    """Both sides are equal, every change was made once, and nothing fails any more."""
    assert set(await statuses(mirror)) == {"done"}
    assert set(active(mirror).values()) == {1}
    assert sum(value.startswith("OURS") for _, value in active(mirror) if value) == 2 * STEPS
    assert {"RENEWED", "FOR-THE-NEW-ONE"} <= {value for _, value in active(mirror)}
    assert ((await mirror.compare()).is_equal, await honest(mirror)) == (True, [])
    assert (jobs.health.errors, mirror.simulator.violations) == ([], [])
    assert await mirror.rows("SELECT state, error FROM sync.connections") == [{"state": "ok", "error": None}]


@pytest.mark.long
async def test_a_process_that_starts_in_an_outage_does_not_say_that_all_is_well(mirror: Mirror) -> None:
    mirror.add_voucher()
    mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
    async with pushing(mirror) as jobs:
        await round_of(mirror, jobs)
    await pass_time(mirror, STEP)
    (failing,) = await mirror.rows("SELECT state, state_since FROM sync.connections")
    async with pushing(mirror) as jobs:
        for _ in range(2):
            await mirror.beat(jobs)
            await jobs.outbox.look_up()
            assert await mirror.rows("SELECT state, state_since FROM sync.connections") == [failing]
            await round_of(mirror, jobs)
        mirror.simulator.faults.stop()
        await round_of(mirror, jobs)
        # The pushes look at whose the tokens are for themselves.
        await until(mirror, "EXISTS (SELECT FROM sync.connections WHERE state = 'ok')")


@pytest.mark.long
async def test_a_lost_answer_that_is_found_by_a_look_fails_no_longer(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    async with pushing(mirror) as jobs:
        await round_of(mirror, jobs)
        mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
        await queue_add(mirror, voucher, "A")
        jobs.outbox.wake.set()
        await until(mirror, "EXISTS (SELECT FROM sync.connections WHERE state = 'failing')")
        await ended(mirror, jobs)
        assert (await statuses(mirror), jobs.health.errors) == (["done"], [])
        assert await mirror.rows("SELECT state FROM sync.connections") == [{"state": "ok"}]


@pytest.mark.long
async def test_while_the_api_is_away_it_is_tried_with_one_change_at_a_time(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    async with pushing(mirror) as jobs:
        await round_of(mirror, jobs)
        mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
        await round_of(mirror, jobs)
        await queue_add(mirror, voucher, *numbered(40))
        for _ in range(5):
            await round_of(mirror, jobs)
            await pass_time(mirror, STEP)
        noted = await mirror.rows("SELECT count(*) AS rows FROM mews.voucher_code_outbox_attempts GROUP BY attempt_id")
        assert {one["rows"] for one in noted} == {1}
    # While nobody pushes: a claim takes no row that is just being made older, and would leave it to another call.
    await pass_time(mirror, ALL_OVER)
    mirror.simulator.faults.stop()
    before = len(mirror.requests(Operation.ADD_CODES))
    rows = await mirror.rows("SELECT value FROM mews.voucher_code_outbox WHERE status = 'pending'")
    pending = {one["value"] for one in rows}
    async with pushing(mirror) as jobs:
        while set(await statuses(mirror)) != {"done"}:
            await round_of(mirror, jobs)
    bodies = [one.body for one in mirror.requests(Operation.ADD_CODES)[before:]]
    calls = [[code["Value"] for code in body["VoucherCodeParameters"]] for body in bodies if body is not None]
    assert sorted(value for call in calls for value in call) == sorted(numbered(40))
    # One that tries the way, and the rest; what is uncertain follows as its look-ups end.
    assert len([call for call in calls if pending.intersection(call)]) <= 2
