"""What a replica works on: the jobs of each connection that it owns, begun and ended as connections come and go.

Each has a task of its own, so that a fault of one ends no other. A connection that is given back is released once
nothing is under way for it any more; one that was lost is left at once, and nothing is released.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from sync.connection.tenure import Tenure, now_s
from sync.core.errors import DatabaseError, SettingsError
from sync.fleet import registry
from sync.fleet.assignment import Owned
from sync.fleet.liveness import BEAT_S
from sync.fleet.membership import Membership, Round
from sync.fleet.registry import CONNECTION_NAME, OF_ENVIRONMENT, StoredConnection
from sync.postgres.engine import in_transaction
from sync.service import app, heartbeat
from sync.service.defects import outlived
from sync.service.engagement import Engagement, follow_owner, is_written_anew
from sync.service.heartbeat import Standing
from sync.service.heartbeats import Heartbeats
from sync.service.jobs import Jobs
from sync.service.looks import make_looks
from sync.service.schedule import Intervals, Schedule
from sync.service.start_queue import StartQueue

BEAT_TAKES_S = 3.0
"""A beat that takes longer is given up for another one, over another line."""
LEAST_PAUSE_S = 0.1
"""Between two beats: any user of the database may notify as often as they like, and each beat writes."""
FEW = 8
"""So many outboxes look for themselves as soon as one look for all of them has looked."""
TELL_AGAIN_S = 1.0
"""Of connections that are begun one after the other is told together."""
RELEASE_S = 0.1
LEAVE_S = 1.0
"""A database that does not answer within this time holds up no stop."""
AFTER_DEFECT_S = 5.0
UNKNOWN_EPOCH = -1
"""Of a connection that may be another's: no row has it, so nothing is claimed."""

log = structlog.get_logger()


class Supervisor:
    """`jobs` are those of the connections that it works for now; `wake` has it beat at once."""

    def __init__(self, place: app.Workplace, membership: Membership, schedule: Schedule, intervals: Intervals) -> None:
        self.jobs: list[Jobs] = []
        self.wake = asyncio.Event()
        self._place = place
        self._looks, self._job_settings = make_looks(place.engine), app.job_settings(place.settings)
        self._membership = membership
        self._schedule = schedule
        self._intervals = intervals
        self._starts = StartQueue()
        self._works: dict[str, Engagement] = {}
        self._to_release = set[str]()
        self._is_registered = False
        self._is_spare: bool | None = None
        self._heartbeats = Heartbeats(place.engine, place.incarnation, membership.book)
        self._has_beaten, self._has_begun, self._has_news = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pause_s = BEAT_S
        self._fails_by: type[Exception | None] = type(None)

    def wake_outboxes(self) -> None:
        """Have the outboxes look for what is due: each where they are few, else those in which one look finds any."""
        if len(self.jobs) > FEW:
            self._has_news.set()
            return
        for jobs in self.jobs:
            jobs.outbox.wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work for what this replica owns until `stop`, then give it all back."""
        beside = [asyncio.create_task(one) for one in (self._watch_trust(), self._tell_all(), self._hear_news())]
        self._place.pools.on_return = self._schedule.make_up
        try:
            while not stop.is_set():
                self.wake.clear()
                await self._release()
                await self._beat()
                await self._wait(stop)
        finally:
            for one in beside:
                one.cancel()
            await self._end_all()
            with suppress(DatabaseError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._membership.leave()
                    await self._place.incarnation.follow(self._place.engine)  # all may be started anew next

    async def _wait(self, stop: asyncio.Event) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LEAST_PAUSE_S)
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(self.wake.wait())]
        await asyncio.wait(waits, timeout=self._pause_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _beat(self) -> None:
        self._pause_s = BEAT_S
        leaving = {name for name, work in self._works.items() if work.is_given_back} | self._to_release
        try:
            async with asyncio.timeout(BEAT_TAKES_S):
                await self._register()
                found = await self._membership.beat(leaving)
                stored = await self._load(found)
        except (DatabaseError, TimeoutError) as error:
            self._note_beat(error)
            if not self._is_registered and not self._works and self._has_own_tokens:
                # Its jobs tell what is wrong; they ask nothing before it is known that nobody else works for it.
                self._begin(CONNECTION_NAME, None, OF_ENVIRONMENT)
            return
        self._note_beat(None)
        self._pause_s = min(BEAT_S, found.look_again_s)
        self._follow(found, stored)

    def _note_beat(self, error: Exception | None) -> None:
        """Tell once that beats fail, and that one succeeds again; a warning where no connection's job would warn."""
        if type(error) is self._fails_by:
            return
        self._fails_by = type(error)
        if error is None:
            log.info("beating_again")
        else:
            tell = log.info if self._works else log.warning
            tell("not_beating", error=str(error) or f"no answer within {BEAT_TAKES_S:g} s")

    @property
    def _has_own_tokens(self) -> bool:
        return self._place.settings.mews_access_token is not None

    async def _register(self) -> None:
        """Have a row for the environment's connection, so that somebody can own it."""
        if self._has_own_tokens and not self._is_registered:
            await in_transaction(self._place.engine, registry.register_environment)
        self._is_registered = True

    async def _load(self, found: Round) -> Mapping[str, StoredConnection]:
        """The connections that are to be begun, and those whose tokens are written anew."""
        wanted = found.owned.keys() - self._works.keys() - self._to_release - set(found.give_back)
        wanted |= {name for name, work in self._works.items() if is_written_anew(work, found.owned.get(name))}
        if not wanted:
            return {}
        active = await in_transaction(self._place.engine, registry.load_active)
        return {one.name: one for one in active if one.name in wanted}

    def _follow(self, found: Round, stored: Mapping[str, StoredConnection]) -> None:
        """End what is to be ended, and begin what is to be begun."""
        self._place.pools.take_part(found.part)
        for name, work in self._works.items():
            if work.owned is None and name not in found.owned and not self._has_beaten.is_set():
                continue  # what is nobody's yet is taken with the next beat
            if name in stored:
                self._accept(work, found.owned[name], stored[name])
            follow_owner(work, found.owned.get(name), is_given_back=name in found.give_back)
        self._has_beaten.set()
        self._to_release |= set(found.give_back) - self._works.keys()
        for name in stored.keys() - self._works.keys():
            self._begin(name, found.owned[name], stored[name])
        is_spare = not found.owned
        if is_spare != self._is_spare:
            self._is_spare = is_spare
            log.info("standing_by" if is_spare else "working", connections=len(found.owned), replicas=found.members)

    def _accept(self, work: Engagement, owned: Owned, stored: StoredConnection) -> None:
        """Go on with the same tokens under another key: what is encrypted anew is not begun anew."""
        with suppress(SettingsError):
            if app.open_stored(self._place.settings, stored) == work.given:
                work.owned = owned

    def _begin(self, name: str, owned: Owned | None, stored: StoredConnection) -> None:
        epoch = UNKNOWN_EPOCH if owned is None else owned.epoch
        work = self._works[name] = Engagement(owned, Tenure(self._place.process, epoch, self._membership.trust))
        work.task = asyncio.create_task(self._work(work, stored))
        work.task.add_done_callback(lambda _: self.wake.set())

    async def _work(self, work: Engagement, stored: StoredConnection) -> None:
        """Work for a connection until it is to end; a fault of ours begins it anew after a while."""
        try:
            with outlived("connection", but=(SettingsError,), connection=stored.name) as ending:
                await self._run_jobs(work, stored)
            if ending.error:
                await self._tell(stored.name, ending.error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(work.stop.wait(), AFTER_DEFECT_S)
        except SettingsError as error:
            log.warning("not_begun", connection=stored.name, error=str(error))
            await self._tell(stored.name, error)
            await work.stop.wait()
        finally:
            self._works.pop(stored.name, None)
            if work.is_given_back and not work.is_lost:
                self._to_release.add(stored.name)

    async def _run_jobs(self, work: Engagement, stored: StoredConnection) -> None:
        jobs = self._make_jobs(work, stored)
        self._has_begun.set()
        try:
            async with self._starts.begun(jobs, work.stop) as may_begin:
                if may_begin:
                    address = jobs.connection.identity.platform_address
                    log.debug("connection_begun", connection=stored.name, platform_address=address)
                    await self._run_begun(jobs, work.stop, was_at_work=stored.caught_up_as_of is not None)
        finally:
            await jobs.connection.client.aclose()

    def _make_jobs(self, work: Engagement, stored: StoredConnection) -> Jobs:
        """Not where they run: what they are made of would stay as long as they do."""
        place = replace(self._place, stop=work.stop)
        work.given = address, given = app.open_stored(place.settings, stored)
        made = app.make_connection(place, stored.name, address, given, trust=work.tenure.trust)
        connection, replica = replace(made, tenure=work.tenure), self._membership.replica
        return app.make_jobs(connection, place.settings, self._looks, replica, self._job_settings)

    async def _run_begun(self, jobs: Jobs, stop: asyncio.Event, *, was_at_work: bool) -> None:
        self.jobs.append(jobs)
        self._has_begun.set()
        try:
            await self._schedule.run(jobs, self._intervals, stop, pulls_first=was_at_work)
        finally:
            self.jobs.remove(jobs)
            self._heartbeats.end(jobs)

    async def _tell(self, name: str, error: Exception) -> None:
        standing = Standing(str(error), type(error).__name__)
        with suppress(DatabaseError):
            await in_transaction(self._place.engine, partial(heartbeat.set_state, name=name, standing=standing))

    async def _release(self) -> None:
        """Let others have what has ended here and is to move."""
        names = set(self._to_release)
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._membership.release(names)
                self._to_release -= names

    async def _end_all(self) -> None:
        """End all that is under way, and let others have each connection as soon as it has."""
        for work in self._works.values():
            work.is_given_back = True
            work.stop.set()
        tasks = {work.task for work in self._works.values() if work.task is not None}
        try:
            with suppress(DatabaseError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._membership.begin_to_leave()
            while tasks:
                _, tasks = await asyncio.wait(tasks, timeout=RELEASE_S)
                await self._release()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear_news(self) -> None:
        """Wake whom notifications concern: they name nobody, since not everybody who queues may notify."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            with outlived("wake"):
                await self._schedule.wake_outboxes()

    async def _tell_all(self) -> None:
        """Tell of all connections, soon after one was begun and at each beat of theirs."""
        await self._has_beaten.wait()  # which must have its session before others take what there are
        while True:
            self._has_begun.clear()
            is_told = False
            with outlived("heartbeat"):
                is_told = await self._heartbeats.tell(list(self.jobs), list(self._starts.waiting))
            await asyncio.sleep(TELL_AGAIN_S)
            with suppress(TimeoutError):
                pause_s = self._intervals.heartbeat_s if is_told else TELL_AGAIN_S
                await asyncio.wait_for(self._has_begun.wait(), max(0.0, pause_s - TELL_AGAIN_S))

    async def _watch_trust(self) -> None:
        """End what reads while this replica does not know whether it still owns what it works for."""
        trust, was_good = self._membership.trust, False
        while True:
            await asyncio.sleep(max(0.1, min(BEAT_S, trust.until_s - now_s())))
            is_good = trust.is_good()
            if was_good and not is_good:
                log.info("owner_unknown", connections=len(self._works))
                self._schedule.cancel_asking()
            elif is_good and not was_good:
                self._schedule.make_up()
            was_good = is_good
