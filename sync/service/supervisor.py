"""Which connections a replica works for: those that it owns, begun and ended as connections come and go.

A connection that is given back is released once nothing is under way for it any more; one that was lost is left at
once, and nothing is released.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

from sync.connection.tenure import now_s
from sync.core.errors import DatabaseError, SettingsError
from sync.fleet import registry
from sync.fleet.keys import why_unopened
from sync.fleet.liveness import BEAT_S
from sync.fleet.membership import Membership, Round
from sync.fleet.registry import OF_ENVIRONMENT, StoredConnection
from sync.logger import structlog
from sync.postgres.engine import in_transaction
from sync.postgres.listen import ANYBODY
from sync.service import app, states
from sync.service.defects import outlived
from sync.service.engagement import is_written_anew
from sync.service.engagements import Engagements
from sync.service.heartbeats import Heartbeats
from sync.service.schedule import Schedule
from sync.service.states import Standing
from sync.signals import Signal

BEAT_TAKES_S = 3.0
"""A beat that takes longer is given up for another one, over another line."""
LEAST_PAUSE_S = 0.1
"""Between two beats: any user of the database may notify as often as they like, and each beat writes."""
FEW = 8
"""So many outboxes look for themselves as soon as one look for all of them has looked."""
TELL_AGAIN_S = 1.0
"""Connections that are begun one after the other are told of together."""
RELEASE_S = 0.1
LEAVE_S = 1.0
"""A database that does not answer within this time holds up no stop."""

log = structlog.get_logger()


class Supervisor:
    """`jobs` are those of the connections that it works for now; `wake` has it beat at once."""

    def __init__(self, place: app.Workplace, membership: Membership, schedule: Schedule, heartbeat_s: float) -> None:
        self.wake = asyncio.Event()
        self._place = place
        self._membership = membership
        self._schedule = schedule
        self._heartbeat_s = heartbeat_s
        self._heartbeats = Heartbeats(place.engine, place.incarnation, membership.book)
        self._engagements = Engagements(place, membership, schedule, self._heartbeats, self.wake)
        self.jobs = self._engagements.jobs
        self._is_registered = False
        self._is_spare: bool | None = None
        self._has_beaten, self._has_news = asyncio.Event(), asyncio.Event()
        self._pause_s = BEAT_S
        self._fails_by: type[Exception | None] = type(None)

    def wake_outboxes(self, words: Collection[str]) -> None:
        """Have the outboxes look for what is due of which there is word; where that may be anybody's, all of few, else
        those in which one look finds any.
        """
        if ANYBODY not in words:
            self._engagements.wake_outboxes(words)
        elif len(self.jobs) > FEW:
            self._has_news.set()
        else:
            for jobs in self.jobs:
                jobs.outbox.wake.set()

    async def run(self, stop: Signal) -> None:
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

    async def _wait(self, stop: Signal) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LEAST_PAUSE_S)
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(self.wake.wait())]
        pause_s = max(0.0, self._pause_s - LEAST_PAUSE_S)
        await asyncio.wait(waits, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _beat(self) -> None:
        self._pause_s = BEAT_S
        engagements = self._engagements
        leaving = {
            name for name, engagement in engagements.by_name.items() if engagement.is_given_back
        } | engagements.to_release
        try:
            async with asyncio.timeout(BEAT_TAKES_S):
                await self._register()
                found = await self._membership.beat(leaving)
                stored = await self._load(found)
        except (DatabaseError, TimeoutError) as error:
            self._note_beat(error)
            if isinstance(error, TimeoutError):
                self._pause_s = 0.0  # else others might take what it has before the next one
            if not self._has_beaten.is_set() and not engagements.by_name and self._has_own_tokens:
                # Its jobs tell what is wrong; they ask nothing before it is known that nobody else works for it.
                engagements.begin(None, OF_ENVIRONMENT)
            return
        self._note_beat(None)
        self._pause_s = min(BEAT_S, found.look_again_s)
        self._follow(found, stored)
        await self._tell_unopened(found.unopened)

    def _note_beat(self, error: Exception | None) -> None:
        """Tell once that beats fail, and that one succeeds again; a warning where no connection's job would warn."""
        if type(error) is self._fails_by:
            return
        self._fails_by = type(error)
        if error is None:
            log.info("beating_again")
        else:
            tell = log.info if self._engagements.by_name else log.warning
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
        by_name = self._engagements.by_name
        wanted = found.owned.keys() - by_name.keys() - self._engagements.to_release - set(found.give_back)
        wanted |= {name for name, engagement in by_name.items() if is_written_anew(engagement, found.owned.get(name))}
        if not wanted:
            return {}
        active = await in_transaction(self._place.engine, registry.load_active)
        return {one.name: one for one in active if one.name in wanted}

    def _follow(self, found: Round, stored: Mapping[str, StoredConnection]) -> None:
        """End what is to be ended, and begin what is to be begun."""
        self._place.pools.take_part(found.part)
        engagements = self._engagements
        for name, engagement in engagements.by_name.items():
            if engagement.owned is None and name not in found.owned and not self._has_beaten.is_set():
                continue  # what is nobody's yet is taken with the next beat
            engagements.follow(name, found.owned.get(name), stored.get(name), is_given_back=name in found.give_back)
        self._has_beaten.set()
        engagements.to_release |= set(found.give_back) - engagements.by_name.keys()
        for name in stored.keys() - engagements.by_name.keys():
            engagements.begin(found.owned[name], stored[name])
        is_spare = not found.owned
        if is_spare != self._is_spare:
            self._is_spare = is_spare
            log.info("standing_by" if is_spare else "working", connections=len(found.owned), replicas=found.members)

    async def _tell_unopened(self, names: Sequence[str]) -> None:
        """Note that nobody opens these: whoever has the key to one takes it, and says that it works."""
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                for name in names:
                    standing = Standing(why_unopened(name), SettingsError.__name__)
                    note = partial(states.note, name=name, standing=standing)
                    if await in_transaction(self._place.engine, note) is None:
                        self._membership.unopened.told(name)

    async def _release(self) -> None:
        """Let others have what has ended here and is to move."""
        names = set(self._engagements.to_release)
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._membership.release(names)
                self._engagements.to_release -= names

    async def _end_all(self) -> None:
        """End all that is under way, and let others have each connection as soon as it has."""
        self._engagements.end_all()
        try:
            with suppress(DatabaseError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._membership.begin_to_leave()
            while tasks := self._engagements.tasks:
                await asyncio.wait(tasks, timeout=RELEASE_S)
                await self._release()
            await self._release()  # of what had ended before there was anything to wait for
        finally:
            for task in (tasks := self._engagements.tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear_news(self) -> None:
        """Wake whom notifications concern that name nobody, as after each other one: not everybody may notify."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            with outlived("wake"):
                await self._schedule.wake_outboxes()

    async def _tell_all(self) -> None:
        """Tell of all connections, soon after one was begun and at each beat of theirs."""
        await self._has_beaten.wait()  # which must have its session before others take what there are
        while True:
            self._engagements.has_begun.clear()
            is_told = False
            with outlived("heartbeat"):
                is_told = await self._heartbeats.tell(list(self.jobs), list(self._engagements.starts.waiting))
            await asyncio.sleep(TELL_AGAIN_S)
            with suppress(TimeoutError):
                pause_s = self._heartbeat_s if is_told else TELL_AGAIN_S
                await asyncio.wait_for(self._engagements.has_begun.wait(), max(0.0, pause_s - TELL_AGAIN_S))

    async def _watch_trust(self) -> None:
        """End what reads while this replica does not know whether it still owns what it works for."""
        trust, was_good = self._membership.trust, False
        while True:
            await asyncio.sleep(max(0.1, min(BEAT_S, trust.until_s - now_s())))
            is_good = trust.is_good()
            if was_good and not is_good:
                log.info("owner_unknown", connections=len(self._engagements.by_name))
                self._schedule.cancel_asking()
            elif is_good and not was_good:
                self._schedule.make_up()
            was_good = is_good
