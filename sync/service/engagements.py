"""The connections that a replica works for: each is begun, rests in the schedule of all, and is ended.

It has a task of its own, so that a fault of one ends no other, but only while it begins and while it ends: one that
waited in between would take kilobytes of each of thousands.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial

from sync.connection.tenure import Tenure
from sync.core.errors import DatabaseError, SettingsError, VoucherSyncError
from sync.fleet.assignment import Owned
from sync.fleet.membership import Membership
from sync.fleet.registry import StoredConnection
from sync.logger import structlog
from sync.postgres.engine import in_transaction
from sync.postgres.listen import word_of
from sync.service import app, states
from sync.service.defects import outlived
from sync.service.engagement import Engagement, follow_owner
from sync.service.heartbeats import Heartbeats
from sync.service.jobs import Jobs
from sync.service.looks import make_looks
from sync.service.schedule import Schedule
from sync.service.start_queue import StartQueue
from sync.service.states import Standing

AGAIN_AFTER_S = 5.0
"""So long after a fault of ours it is begun anew, and told of again what the database has not taken."""
UNKNOWN_EPOCH = -1
"""Of a connection that may be another's: no row has it, so nothing is claimed."""

log = structlog.get_logger()


class Engagements:
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
        self._by_word: dict[str, Engagement] = {}
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
        return {engagement.task for engagement in self.by_name.values() if engagement.task is not None}

    def begin(self, owned: Owned | None, stored: StoredConnection) -> None:
        """Work for a connection from now on; `owned` is None while it is not known whose it is."""
        epoch = UNKNOWN_EPOCH if owned is None else owned.epoch
        tenure = Tenure(self._place.process, epoch, self._membership.trust)
        engagement = self.by_name[stored.name] = Engagement(stored.name, owned, tenure)
        self._by_word[word_of(stored.name)] = engagement
        self._new.append((engagement, stored))
        if self._beginning is None or self._beginning.done():
            self._beginning = asyncio.create_task(self._begin_new())

    def follow(self, name: str, owned: Owned | None, stored: StoredConnection | None, *, is_given_back: bool) -> None:
        """Go on with a connection that this replica owns as before, and end what is another's, or has other tokens.

        `stored`: where it is written anew.
        """
        engagement = self.by_name[name]
        if stored is not None and owned is not None:
            self._accept(engagement, owned, stored)
        follow_owner(engagement, owned, is_given_back=is_given_back)
        self._end_if_stopped(engagement)

    def wake_outboxes(self, words: Collection[str]) -> None:
        """Have those outboxes look for what is due of whose connections there is word."""
        for word in words:
            if (engagement := self._by_word.get(word)) and engagement.jobs:
                engagement.jobs.outbox.wake.set()

    def end_all(self) -> None:
        """End all, and let others have it."""
        for engagement in self.by_name.values():
            engagement.is_given_back = True
            engagement.stop.set()
            self._end_if_stopped(engagement)

    def _accept(self, engagement: Engagement, owned: Owned, stored: StoredConnection) -> None:
        """Go on with the same tokens under another key: what is encrypted anew is not begun anew."""
        with suppress(SettingsError):
            if app.open_stored(self._place.settings, stored) == engagement.given:
                engagement.owned = owned

    def _do(self, engagement: Engagement, doing: Coroutine[None, None, None]) -> None:
        engagement.task = asyncio.create_task(doing)
        engagement.task.add_done_callback(lambda done: self._done(engagement, done))

    def _done(self, engagement: Engagement, done: "asyncio.Task[None]") -> None:
        if engagement.task is done:  # and not a step that this one has led to
            engagement.task = None
        if not done.cancelled():  # else all ends at once
            self._end_if_stopped(engagement)

    def _end_if_stopped(self, engagement: Engagement) -> None:
        """End what is to be ended, once it has begun."""
        if engagement.stop.is_set() and engagement.task is None and self.by_name.get(engagement.name) is engagement:
            self._do(engagement, self._end(engagement))

    async def _begin_new(self) -> None:
        """Begin each that is new, with a turn of the loop between two: there may be thousands."""
        while self._new:
            engagement, stored = self._new.popleft()
            if not engagement.stop.is_set():
                self._do(engagement, self._take_step(engagement, partial(self._enter, engagement, stored)))
            await asyncio.sleep(0)

    async def _take_step(self, engagement: Engagement, step: Callable[[], None]) -> None:
        """Take a step of its beginning; a fault of ours ends it after a while, so that it is begun anew."""
        try:
            with outlived("connection", but=(SettingsError,), connection=engagement.name) as ending:
                step()
        except SettingsError as error:
            log.warning("not_begun", connection=engagement.name, error=str(error))
            await self._tell(engagement, error)
            return
        if ending.error:
            await self._tell(engagement, ending.error)
            await self._wait(engagement)
            engagement.stop.set()

    def _enter(self, engagement: Engagement, stored: StoredConnection) -> None:
        """Make its jobs, which begin once there is a place for them."""
        jobs, pulls_first = self._make_jobs(engagement, stored), stored.caught_up_as_of is not None
        engagement.jobs = jobs
        self.has_begun.set()

        def begin() -> None:
            if not engagement.stop.is_set():
                self._do(
                    engagement, self._take_step(engagement, partial(self._begin_jobs, jobs, pulls_first=pulls_first))
                )

        if pulls_first:
            self.starts.enter(jobs, begin, jobs.outbox.begin)
        else:
            self.starts.enter(jobs, begin)

    def _begin_jobs(self, jobs: Jobs, *, pulls_first: bool) -> None:
        connection = jobs.connection
        log.debug("connection_begun", connection=connection.name, platform_address=connection.identity.platform_address)
        self.jobs.append(jobs)
        self.has_begun.set()
        self._schedule.begin(jobs, pulls_first=pulls_first)

    def _make_jobs(self, engagement: Engagement, stored: StoredConnection) -> Jobs:
        place = replace(self._place, stop=engagement.stop)
        engagement.given = given = app.open_stored(place.settings, stored)
        made = app.make_connection(place, stored.name, given, trust=engagement.tenure.trust)
        connection = replace(made, tenure=engagement.tenure)
        connection.identity.is_verified = stored.token_fingerprint == connection.identity.token
        return app.make_jobs(connection, place.settings, self._looks, self._job_settings)

    async def _end(self, engagement: Engagement) -> None:
        """Let what is in flight end, and whoever is to have it next."""
        try:
            with outlived("connection", connection=engagement.name):
                if engagement.jobs is not None:
                    await self._end_jobs(engagement.jobs)
        finally:
            del self.by_name[engagement.name], self._by_word[word_of(engagement.name)]
            if engagement.is_given_back and not engagement.is_lost:
                self.to_release.add(engagement.name)
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

    async def _tell(self, engagement: Engagement, error: VoucherSyncError) -> None:
        """Note why it does not work, as often as it takes: it has no jobs that would tell of it."""
        standing, is_told = Standing(str(error), type(error).__name__), False
        while not (is_told or engagement.stop.is_set()):
            with suppress(DatabaseError):
                note = partial(states.note, name=engagement.name, standing=standing)
                is_told = await in_transaction(self._place.engine, note) is None
            if not is_told:
                await self._wait(engagement)

    async def _wait(self, engagement: Engagement) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(engagement.stop.wait(), AGAIN_AFTER_S)
