"""The connections that a replica works for: each is begun, rests in the schedule of all, and is ended.

It has a task of its own, so that a fault of one ends no other, but only while it begins and while it ends: one that
waited in between would take kilobytes of each of thousands.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from sync.connection.tenure import Tenure
from sync.core.errors import DatabaseError, SettingsError, VoucherSyncError
from sync.fleet.assignment import Owned
from sync.fleet.membership import Membership
from sync.fleet.registry import StoredConnection
from sync.postgres.engine import in_transaction
from sync.service import app, states
from sync.service.defects import outlived
from sync.service.engagement import Engagement, follow_owner
from sync.service.heartbeats import Heartbeats
from sync.service.jobs import Jobs
from sync.service.looks import make_looks
from sync.service.schedule import Schedule
from sync.service.start_queue import StartQueue
from sync.service.states import Standing

AFTER_DEFECT_S = 5.0
UNKNOWN_EPOCH = -1
"""Of a connection that may be another's: no row has it, so nothing is claimed."""

log = structlog.get_logger()


class Works:
    """`by_name`: what is done for each connection; `jobs`: those of all that have begun.

    `to_release`: the names of those that have ended and are to be another's. `has_begun` is set whenever one begins,
    and `wake` once one has ended.
    """

    def __init__(
        self,
        place: app.Workplace,
        membership: Membership,
        schedule: Schedule,
        heartbeats: Heartbeats,
        wake: asyncio.Event,
    ) -> None:
        self.by_name: dict[str, Engagement] = {}
        self.jobs: list[Jobs] = []
        self.to_release = set[str]()
        self.starts = StartQueue()
        self.has_begun = asyncio.Event()
        self._place = place
        self._looks, self._job_settings = make_looks(place.engine), app.job_settings(place.settings)
        self._membership = membership
        self._schedule = schedule
        self._heartbeats = heartbeats
        self._wake = wake
        self._new = deque[tuple[Engagement, StoredConnection]]()
        self._beginning: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> set["asyncio.Task[None]"]:
        """What is beginning or ending."""
        return {work.task for work in self.by_name.values() if work.task is not None}

    def begin(self, owned: Owned | None, stored: StoredConnection) -> None:
        """Work for a connection from now on; `owned` is None while it is not known whose it is."""
        epoch = UNKNOWN_EPOCH if owned is None else owned.epoch
        tenure = Tenure(self._place.process, epoch, self._membership.trust)
        work = self.by_name[stored.name] = Engagement(stored.name, owned, tenure)
        self._new.append((work, stored))
        if self._beginning is None or self._beginning.done():
            self._beginning = asyncio.create_task(self._begin_new())

    def follow(self, name: str, owned: Owned | None, stored: StoredConnection | None, *, is_given_back: bool) -> None:
        """Go on with a connection that this replica owns as before, and end what is another's, or has other tokens.

        `stored`: where it is written anew.
        """
        work = self.by_name[name]
        if stored is not None and owned is not None:
            self._accept(work, owned, stored)
        follow_owner(work, owned, is_given_back=is_given_back)
        self._end_if_stopped(work)

    def end_all(self) -> None:
        """End all, and let others have it."""
        for work in self.by_name.values():
            work.is_given_back = True
            work.stop.set()
            self._end_if_stopped(work)

    def _accept(self, work: Engagement, owned: Owned, stored: StoredConnection) -> None:
        """Go on with the same tokens under another key: what is encrypted anew is not begun anew."""
        with suppress(SettingsError):
            if app.open_stored(self._place.settings, stored) == work.given:
                work.owned = owned

    def _do(self, work: Engagement, doing: Coroutine[None, None, None]) -> None:
        work.task = asyncio.create_task(doing)
        work.task.add_done_callback(lambda done: self._done(work, done))

    def _done(self, work: Engagement, done: "asyncio.Task[None]") -> None:
        if work.task is done:  # and not a step that this one has led to
            work.task = None
        if not done.cancelled():  # else all ends at once
            self._end_if_stopped(work)

    def _end_if_stopped(self, work: Engagement) -> None:
        """End what is to be ended, once it has begun."""
        if work.stop.is_set() and work.task is None and self.by_name.get(work.name) is work:
            self._do(work, self._end(work))

    async def _begin_new(self) -> None:
        """Begin each that is new, with a turn of the loop between two: there may be thousands."""
        while self._new:
            work, stored = self._new.popleft()
            if not work.stop.is_set():
                self._do(work, self._take_step(work, partial(self._enter, work, stored)))
            await asyncio.sleep(0)

    async def _take_step(self, work: Engagement, step: Callable[[], None]) -> None:
        """Take a step of its beginning; a fault of ours ends it after a while, so that it is begun anew."""
        try:
            with outlived("connection", but=(SettingsError,), connection=work.name) as ending:
                step()
        except SettingsError as error:
            log.warning("not_begun", connection=work.name, error=str(error))
            await self._tell(work.name, error)
            return
        if ending.error:
            await self._tell(work.name, ending.error)
            with suppress(TimeoutError):
                await asyncio.wait_for(work.stop.wait(), AFTER_DEFECT_S)
            work.stop.set()

    def _enter(self, work: Engagement, stored: StoredConnection) -> None:
        """Make its jobs, which begin once there is a place for them."""
        jobs, pulls_first = self._make_jobs(work, stored), stored.caught_up_as_of is not None
        work.jobs = jobs
        self.has_begun.set()

        def begin() -> None:
            if not work.stop.is_set():
                self._do(work, self._take_step(work, partial(self._begin_jobs, jobs, pulls_first=pulls_first)))

        self.starts.enter(jobs, begin)

    def _begin_jobs(self, jobs: Jobs, *, pulls_first: bool) -> None:
        connection = jobs.connection
        log.debug("connection_begun", connection=connection.name, platform_address=connection.identity.platform_address)
        self.jobs.append(jobs)
        self.has_begun.set()
        self._schedule.begin(jobs, pulls_first=pulls_first)

    def _make_jobs(self, work: Engagement, stored: StoredConnection) -> Jobs:
        place = replace(self._place, stop=work.stop)
        work.given = address, given = app.open_stored(place.settings, stored)
        made = app.make_connection(place, stored.name, address, given, trust=work.tenure.trust)
        connection = replace(made, tenure=work.tenure)
        return app.make_jobs(connection, place.settings, self._looks, self._job_settings)

    async def _end(self, work: Engagement) -> None:
        """Let what is in flight end, and whoever is to have it next."""
        try:
            with outlived("connection", connection=work.name):
                if work.jobs is not None:
                    await self._end_jobs(work.jobs)
        finally:
            del self.by_name[work.name]
            if work.is_given_back and not work.is_lost:
                self.to_release.add(work.name)
            self._wake.set()

    async def _end_jobs(self, jobs: Jobs) -> None:
        try:
            if jobs in self.jobs:
                await self._end_begun(jobs)
        finally:
            await self.starts.leave(jobs)
            await jobs.connection.client.aclose()

    async def _end_begun(self, jobs: Jobs) -> None:
        try:
            await self._schedule.end(jobs)
        finally:
            self.jobs.remove(jobs)
            self._heartbeats.end(jobs)

    async def _tell(self, name: str, error: VoucherSyncError) -> None:
        standing = Standing(str(error), type(error).__name__)
        with suppress(DatabaseError):
            await in_transaction(self._place.engine, partial(states.note, name=name, standing=standing))
