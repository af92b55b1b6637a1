"""Samples: written where something differs, thinned when they are old, and drawn on an even grid."""

from datetime import UTC, datetime, timedelta

import pytest

from sync.mirror.watermarks import CaughtUp
from sync.postgres.engine import transaction
from sync.service import app, samples, states
from sync.service.samples import EVERY_S, Done, Sampler
from sync.service.status.series import DONE, STANDS, Sample, draw, load_series, path
from tests.support.flows import footprint
from tests.support.mirror import Mirror

NOW = datetime(2027, 1, 2, 12, tzinfo=UTC)
STEP = timedelta(minutes=5)
NOTHING = Done(0, 0, 0)


async def note(mirror: Mirror, done: Done = NOTHING) -> None:
    async with transaction(mirror.connection.engine) as tx:
        await samples.note(tx, {"default": done}, late_after_s=180)


async def caught_up(mirror: Mirror, age: str) -> None:
    """Lets the last pull have caught up so long ago."""
    async with transaction(mirror.connection.engine) as tx:
        await states.note_caught_up(tx, "default", CaughtUp(datetime.now(UTC), datetime.now(UTC)))
    await mirror.execute(f"UPDATE sync.connections SET caught_up_as_of = now() - interval '{age}'")


async def test_a_connection_with_nothing_to_do_writes_nothing(mirror: Mirror) -> None:
    await caught_up(mirror, "10 s")
    await note(mirror)
    before = await footprint(mirror)
    for requests in (0, 7, 30):
        await note(mirror, Done(0, requests, 0))
    assert await footprint(mirror) == before
    assert len(await mirror.rows("SELECT FROM sync.samples")) == 1


async def test_what_was_done_and_what_stands_otherwise_is_written(mirror: Mirror) -> None:
    await caught_up(mirror, "10 s")
    for done in (NOTHING, Done(3, 4, 0), Done(0, 31, 0), Done(0, 2, 1), NOTHING):
        await note(mirror, done)
    await caught_up(mirror, "10 minutes")
    for _ in range(3):  # an outage is one row, however long it is
        await note(mirror)
    rows = await mirror.rows("SELECT codes, requests, failed, behind_since IS NULL AS ok FROM sync.samples ORDER BY at")
    assert [tuple(row.values()) for row in rows] == [
        (0, 0, 0, True), (3, 4, 0, True), (0, 31, 0, True), (0, 2, 1, True), (0, 0, 0, False)
    ]  # fmt: skip


@pytest.mark.long
async def test_a_daemon_writes_them_down_every_five_minutes(mirror: Mirror) -> None:
    now = [0.0]
    mirror.add_codes(mirror.add_voucher(), ["A", "B"])
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    jobs.sampler = Sampler(jobs._done, lambda: now[0])
    await jobs.discover()
    await jobs.pull()
    await mirror.beat(jobs)
    assert await mirror.rows("SELECT FROM sync.samples") == []
    for _ in range(2):
        now[0] += EVERY_S
        await mirror.beat(jobs)
    (row,) = await mirror.rows("SELECT codes, requests, failed, waiting FROM sync.samples")
    assert row == {"codes": 2, "requests": len(mirror.simulator.requests), "failed": 0, "waiting": 0}


async def test_old_ones_are_thinned_and_nothing_that_was_done_is_lost(mirror: Mirror) -> None:
    await mirror.execute(
        "INSERT INTO sync.samples (connection, at, waiting, attention, drift, codes, requests, failed) "
        "SELECT 'default', date_trunc('hour', now()) - days * interval '1 day' - n * interval '5 minutes', "
        "CASE n % 12 WHEN 7 THEN 90 ELSE n % 12 END, 0, 0, 10, 20, 1 FROM generate_series(1, 24) AS n, "
        "(VALUES (1.0), (2.5)) AS span(days)"
    )
    total = "SELECT sum(codes) AS codes, sum(requests) AS requests, sum(failed) AS failed FROM sync.samples"
    before = await mirror.rows(total)
    for _ in range(2):
        async with transaction(mirror.connection.engine) as tx:
            await samples.thin(tx)
    assert await mirror.rows(total) == before
    kept = "SELECT waiting FROM sync.samples WHERE at < now() - interval '2 days' ORDER BY at"
    assert [row["waiting"] for row in await mirror.rows(kept)] == [90, 1, 90, 1]
    assert len(await mirror.rows("SELECT FROM sync.samples WHERE at > now() - interval '2 days'")) == 24


def sample(minutes_ago: float, **values: int) -> Sample:
    """A row of so long ago; `behind_s` before it, what it was complete through."""
    behind_s = values.pop("behind_s", None)
    at = NOW - timedelta(minutes=minutes_ago)
    stood = dict.fromkeys((*STANDS, *DONE), 0) | values
    return Sample(at=at, behind_since=None if behind_s is None else at - timedelta(seconds=behind_s), **stood)


def test_what_stands_holds_and_what_was_done_is_summed_up() -> None:
    found = [sample(18, waiting=5, codes=2), sample(16, codes=3, waiting=7), sample(4, failed=1)]
    series = draw(found, NOW, timedelta(minutes=25), STEP)
    assert [NOW.timestamp() - at for at in series.at] == [1200, 900, 600, 300, 0]
    assert series.lines["waiting"] == [None, 7, 7, 7, 0]
    assert series.lines["codes"] == [None, 5, 0, 0, 0]
    assert series.lines["failed"] == [None, 0, 0, 0, 1]


def test_a_lag_grows_until_a_row_ends_it() -> None:
    found = [sample(60, codes=9), sample(14, behind_s=60), sample(3)]
    series = draw(found, NOW, timedelta(minutes=20), STEP)
    assert series.lines["lag"] == [0, 300, 600, 0]
    assert series.lines["codes"] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([None, 3], ""), ([0, 0], "M0.0 18.5L100.0 18.5"), ([None, 0, 4], "M50.0 18.5L100.0 1.5")],
)
def test_a_sparkline_is_a_path(values: list[int | None], drawn: str) -> None:
    assert path(values) == drawn


async def test_the_row_before_a_span_says_what_stood_at_its_beginning(mirror: Mirror) -> None:
    await mirror.execute(
        "INSERT INTO sync.samples (connection, at, waiting, attention, drift, codes, requests, failed) VALUES "
        "('default', now() - interval '3 days', 4, 0, 2, 1, 1, 0), "
        "('default', now() - interval '1 hour', 6, 0, 2, 1, 1, 0)"
    )
    async with transaction(mirror.connection.engine) as tx:
        day, month = await load_series(tx, "default", "day"), await load_series(tx, "default", "month")
    assert (len(day.at), set(day.lines["drift"]), sum(one or 0 for one in day.lines["codes"])) == (288, {2}, 1)
    assert (day.lines["waiting"][0], day.lines["waiting"][-1]) == (4, 6)
    assert (len(month.at), month.lines["waiting"][0], sum(one or 0 for one in month.lines["codes"])) == (360, None, 2)
