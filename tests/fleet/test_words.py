"""A word of one hotel's changes has its outbox look, and no other of a fleet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from sync.core.cron import Cron
from sync.demo.simulator import Operation
from sync.fleet.assignment import STORED
from sync.fleet.membership import Membership
from sync.fleet.tokens import TokenBox
from sync.postgres.listen import ANYBODY, word_of
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.schedule import Schedule
from sync.service.supervisor import FEW, Supervisor
from tests.fleet.replicas import Fleet, served
from tests.support.daemon import PATIENCE_S

HOTELS = FEW + 2
HOUR_S = 3600.0


@asynccontextmanager
async def supervised(fleet: Fleet) -> AsyncIterator[Supervisor]:
    """A replica within this process that works for all of them."""
    settings, stop = fleet.mirror.settings(sync_secret_key=fleet.key, mews_access_token=None), asyncio.Event()
    async with app.open_workplace(settings, fleet.mirror.way, stop) as place:
        schedule = Schedule(Cron(settings.sync_audit_cron), Random(0), Intervals(HOUR_S, HOUR_S, HOUR_S))
        replica = app.describe_replica(place.process, settings)
        member = Membership(place.engine, replica, [STORED], place.incarnation, TokenBox([fleet.key]))
        supervisor = Supervisor(place, member, schedule, HOUR_S)
        with schedule.running():
            task = asyncio.create_task(supervisor.run(stop))
            try:
                await fleet.all_pulled()
                yield supervisor
            finally:
                stop.set()
                await task


def woken(supervisor: Supervisor, *words: str) -> set[str]:
    """Whose outboxes these words wake, at once."""
    for jobs in supervisor.jobs:
        jobs.outbox.wake.clear()
    supervisor.wake_outboxes(words)
    return {jobs.connection.name for jobs in supervisor.jobs if jobs.outbox.wake.is_set()}


@pytest.mark.long
async def test_who_is_told_of_looks_and_others_do_not(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path, HOTELS) as fleet, supervised(fleet) as supervisor:
        assert woken(supervisor, word_of("hotel-3")) == {"hotel-3"}
        assert woken(supervisor, word_of("hotel-3"), word_of("hotel-5"), word_of("nobody")) == {"hotel-3", "hotel-5"}
        await asyncio.to_thread(fleet.queue, "hotel-4", "A")  # this replica does not listen
        assert woken(supervisor, word_of("hotel-3"), ANYBODY) == set()  # one look for all is to tell first
        async with asyncio.timeout(PATIENCE_S):
            while not fleet.mirror.requests(Operation.ADD_CODES):
                fleet.news.clear()
                await fleet.news.wait()
