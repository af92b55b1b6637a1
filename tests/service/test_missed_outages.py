"""An outage that the database could take no note of, since it was the one that was away, is noted once it is back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from sync.core.api_errors import NotConnected
from sync.core.errors import DatabaseUnavailable
from sync.service import app, health
from sync.service.health import DECISIVE, MISSED_S
from sync.service.jobs import Jobs
from tests.support.mirror import Mirror
from tests.support.proxy import Proxy

AWAY, API_AWAY = DatabaseUnavailable("the database does not answer"), NotConnected("enterprises/getAll")
OUTAGES = "SELECT error, coalesce(ended_at, now()) - began_at AS lasted, ended_at IS NULL AS is_open FROM sync.outages"
SINCE = "SELECT now() - state_since AS since FROM sync.connections"


@dataclass
class Time:
    """Seconds that only grow, by hand."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s


@dataclass
class Bench:
    """A connection's jobs, and the way to its database."""

    mirror: Mirror
    jobs: Jobs
    proxy: Proxy
    time: Time

    async def lose_database(self, for_s: float) -> None:
        """A job fails of it, and once more after so long; then it is back."""
        self.proxy.is_down = True
        self.proxy.cut()
        await self.jobs.health.note("outbox", AWAY)
        self.time.now_s += for_s
        await self.jobs.health.note("outbox", AWAY)
        self.proxy.is_down = False

    async def outages(self) -> list[tuple[str, bool, int]]:
        """What each was, whether it goes on, and how long it has lasted, in minutes."""
        rows = await self.mirror.rows(f"{OUTAGES} ORDER BY id")
        return [(row["error"], row["is_open"], round(row["lasted"].total_seconds() / 60)) for row in rows]


@pytest.fixture
async def bench(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A connection that works."""
    time = Time()
    monkeypatch.setattr(health, "time", time)
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        async with mirror.opened():
            jobs = app.make_jobs(mirror.connection, mirror.settings())
            await jobs.health.note(DECISIVE, None)
            yield Bench(mirror, jobs, proxy, time)


async def test_it_is_noted_with_how_long_it_lasted(bench: Bench) -> None:
    await bench.lose_database(600)
    await bench.jobs.health.note("outbox", None)
    ((error, is_open, minutes),) = await bench.outages()
    assert (error.startswith(str(AWAY)), is_open, minutes) == (True, False, 10)
    await bench.jobs.health.note("outbox", None)
    assert len(await bench.outages()) == 1


async def test_a_process_that_began_meanwhile_notes_it_before_it_has_pulled(bench: Bench) -> None:
    bench.jobs = app.make_jobs(bench.mirror.connection, bench.mirror.settings())
    await bench.lose_database(600)
    await bench.jobs.health.note("outbox", None)
    await bench.jobs.health.note(DECISIVE, None)
    assert [(is_open, minutes) for _, is_open, minutes in await bench.outages()] == [(False, 10)]


async def test_a_line_that_was_cut_is_none(bench: Bench) -> None:
    await bench.lose_database(MISSED_S - 1)
    await bench.jobs.health.note("outbox", None)
    assert await bench.outages() == []


async def test_what_fails_still_when_it_is_back_fails_since_it_began(bench: Bench) -> None:
    await bench.lose_database(600)
    await bench.jobs.health.note(DECISIVE, API_AWAY)
    await bench.jobs.health.note("outbox", None)
    assert await bench.outages() == [(str(API_AWAY), True, 10)]
    (row,) = await bench.mirror.rows(SINCE)
    assert row["since"] > timedelta(minutes=9)
    await bench.jobs.health.note(DECISIVE, None)
    assert [is_open for _, is_open, _ in await bench.outages()] == [False]


async def test_the_beat_that_comes_first_notes_it_as_well(bench: Bench) -> None:
    jobs = bench.jobs
    await bench.lose_database(600)
    await bench.mirror.beat(jobs)
    await jobs.health.note("outbox", None)
    await jobs.health.note("outbox", None)
    assert [(is_open, minutes) for _, is_open, minutes in await bench.outages()] == [(False, 10)]


async def test_what_failed_before_it_went_away_stays_one_outage(bench: Bench) -> None:
    await bench.jobs.health.note(DECISIVE, API_AWAY)
    await bench.lose_database(600)
    await bench.jobs.health.note(DECISIVE, None)
    await bench.jobs.health.note("outbox", None)
    assert [is_open for _, is_open, _ in await bench.outages()] == [False]
