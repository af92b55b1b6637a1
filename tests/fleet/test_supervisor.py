"""A replica within this process: whom a word of changes wakes, and whose token is known to fit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from sync.connection.tenure import Tenure
from sync.core.cron import Cron
from sync.demo.simulator import Operation
from sync.fleet import registry
from sync.fleet.assignment import STORED
from sync.fleet.membership import Membership
from sync.fleet.tokens import TokenBox, TokenOf
from sync.postgres.engine import in_transaction
from sync.postgres.listen import ANYBODY, word_of
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.engagement import Engagement
from sync.service.schedule import Schedule
from sync.service.supervisor import FEW, Supervisor
from sync.signals import Signal
from tests.fleet.replicas import Fleet, served, token_of
from tests.support.daemon import PATIENCE_S

HOTELS = FEW + 2
HOUR_S = 3600.0


@asynccontextmanager
async def supervised(fleet: Fleet) -> AsyncIterator[Supervisor]:
    """A replica within this process that works for all of them."""
    settings, stop = fleet.mirror.settings(sync_secret_key=fleet.key, mews_access_token=None), Signal()
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
    assert supervisor._engagements._by_word == {}


@pytest.mark.long
async def test_a_token_that_has_fitted_is_known_to_and_no_other(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path, HOTELS) as fleet, supervised(fleet) as supervisor:
        active = await in_transaction(supervisor._place.engine, registry.load_active)
        stored = next(one for one in active if one.name == "hotel-0")
        of, box = TokenOf("hotel-0", fleet.mirror.address, "access"), TokenBox([fleet.key])
        foreign = replace(stored, access_token=box.encrypt(token_of("hotel-1"), of))
        for one, is_known in ((stored, True), (foreign, False)):
            jobs = supervisor._engagements._make_jobs(Engagement("hotel-0", None, Tenure()), one)
            assert jobs.connection.identity.is_verified is is_known
            await jobs.connection.client.aclose()
