"""A pull that has nothing to read costs one request for 1000 vouchers, whatever was read before, and writes nothing."""

from datetime import timedelta
from email.utils import format_datetime

import pytest

from sync.demo.simulator import Status
from sync.service import app
from sync.service.jobs import Jobs
from tests.support.flows import footprint, ids, numbered
from tests.support.mirror import OVERLAP, Mirror

AFTER_OVERLAP = OVERLAP + timedelta(seconds=5)


@pytest.fixture
def jobs(mirror: Mirror) -> Jobs:
    return app.make_jobs(mirror.connection, mirror.settings(sync_overlap_s=OVERLAP.total_seconds()))


def let_pass(mirror: Mirror, pause: timedelta) -> None:
    mirror.clock.advance(pause)
    mirror.connection.client.server_clock.observe(format_datetime(mirror.clock(), usegmt=True))


async def pull_after(mirror: Mirror, jobs: Jobs, pause: timedelta = AFTER_OVERLAP) -> int:
    """A pull some time later, and the heartbeat behind it; how many requests the pull made."""
    let_pass(mirror, pause)
    before = len(mirror.requests())
    await jobs.pull()
    made = len(mirror.requests()) - before
    await mirror.beat(jobs)
    return made


@pytest.mark.long
async def test_a_quiet_pull_costs_one_request_however_much_was_read_before(mirror: Mirror, jobs: Jobs) -> None:
    voucher = mirror.add_voucher()
    await jobs.discover()
    await pull_after(mirror, jobs)
    mirror.world.add_codes(voucher.id, numbered(5500))
    await pull_after(mirror, jobs, timedelta(seconds=5))
    # What was written lately is read again as long as the overlap reaches back to it.
    assert await pull_after(mirror, jobs, timedelta(seconds=10)) == 6
    await pull_after(mirror, jobs)
    assert [await pull_after(mirror, jobs) for _ in range(3)] == [1, 1, 1]
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_thousand_vouchers_more_cost_a_request_more(mirror: Mirror, jobs: Jobs) -> None:
    vouchers = [mirror.add_voucher(f"Voucher {number}") for number in range(2001)]
    await jobs.discover()
    await pull_after(mirror, jobs)
    # Some of them have news, and stand elsewhere from then on.
    for voucher in vouchers[::500]:
        mirror.world.add_codes(voucher.id, numbered(400, voucher.name))
    await pull_after(mirror, jobs, timedelta(seconds=5))
    await pull_after(mirror, jobs)
    assert [await pull_after(mirror, jobs) for _ in range(2)] == [3, 3]


@pytest.mark.long
async def test_a_quiet_pull_writes_nothing_beside_the_heartbeat(mirror: Mirror, jobs: Jobs) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(50))
    await jobs.discover()
    await pull_after(mirror, jobs)
    await pull_after(mirror, jobs)
    before = await footprint(mirror)
    let_pass(mirror, AFTER_OVERLAP)  # at the same instant a watermark has nowhere to move
    await jobs.pull()
    assert await footprint(mirror) == before


@pytest.mark.long
async def test_another_process_goes_on_where_the_last_heartbeat_stood(mirror: Mirror, jobs: Jobs) -> None:
    voucher = mirror.add_voucher()
    await jobs.discover()
    mirror.world.add_codes(voucher.id, numbered(2500))
    for pause in (timedelta(seconds=5), AFTER_OVERLAP, AFTER_OVERLAP):
        await pull_after(mirror, jobs, pause)
    async with mirror.connected():
        heir = app.make_jobs(mirror.connection, mirror.settings(sync_overlap_s=OVERLAP.total_seconds()))
        assert await pull_after(mirror, heir, timedelta(seconds=1)) == 1


@pytest.mark.long
async def test_what_is_written_behind_a_row_of_quiet_pulls_is_read(mirror: Mirror, jobs: Jobs) -> None:
    voucher = mirror.add_voucher()
    await jobs.discover()
    for step in range(4):
        await pull_after(mirror, jobs)
        # Shown late by less than the overlap.
        codes = mirror.world.add_codes(voucher.id, [f"LATE-{step}"])
        mirror.world.codes.put(codes, hidden_for_s=OVERLAP.total_seconds() / 2)
        await pull_after(mirror, jobs, timedelta(seconds=10))
    await pull_after(mirror, jobs, OVERLAP / 2)
    await pull_after(mirror, jobs, timedelta(seconds=10))
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_failed_pull_notes_nothing_as_read(mirror: Mirror, jobs: Jobs) -> None:
    voucher = mirror.add_voucher()
    await jobs.discover()
    await pull_after(mirror, jobs)
    mirror.simulator.faults.by_chance({Status(503): 1.0}, seed=1)
    mirror.world.add_codes(voucher.id, ["MEANWHILE"])
    for _ in range(3):
        await pull_after(mirror, jobs)
    mirror.simulator.faults.stop()
    await pull_after(mirror, jobs)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_voucher_that_was_left_out_meanwhile_goes_on_from_where_it_stood(mirror: Mirror, jobs: Jobs) -> None:
    voucher, other = mirror.add_voucher(), mirror.add_voucher("Other")
    await jobs.discover()
    await pull_after(mirror, jobs)
    await mirror.execute(
        "INSERT INTO sync.skipped (connection, id, kind, reason, until) "
        "VALUES ('default', :id, 'voucher', 'refused', now() + interval '1 hour')",
        id=voucher.id,
    )
    mirror.world.add_codes(voucher.id, ["MEANWHILE"])
    await pull_after(mirror, jobs)
    assert ids(mirror.requests()[-1]) == {other.id}
    await pull_after(mirror, jobs)
    await mirror.execute("UPDATE sync.skipped SET until = now()")
    await pull_after(mirror, jobs)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_what_was_noted_of_a_clock_that_was_set_back_hides_nothing(mirror: Mirror, jobs: Jobs) -> None:
    voucher = mirror.add_voucher()
    await jobs.discover()
    for _ in range(2):
        await pull_after(mirror, jobs)
    await pull_after(mirror, jobs, -timedelta(hours=1))
    mirror.clock.advance(timedelta(seconds=10))
    mirror.world.add_codes(voucher.id, ["LOST"])
    await pull_after(mirror, jobs, timedelta(minutes=10))
    await pull_after(mirror, jobs, timedelta(hours=2))
    assert (await mirror.compare()).is_equal
