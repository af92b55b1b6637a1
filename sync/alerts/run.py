"""Beside the jobs: looks at what holds of each connection, and tells what has changed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.alerts import store
from sync.alerts.conditions import (
    ENDED,
    NO_CONNECTION,
    Condition,
    Key,
    Kind,
    Lasting,
    conditions_of,
    conditions_of_none,
)
from sync.alerts.kept import Kept
from sync.alerts.message import Message, body_for, messages_of, signature_headers
from sync.alerts.post import NotReached, NotTold, Poster
from sync.alerts.store import Known, Untold
from sync.core.errors import DatabaseError
from sync.core.retry import Backoff
from sync.logger import structlog
from sync.postgres.engine import in_transaction
from sync.service.defects import outlived
from sync.service.status.facts import ConnectionStatus
from sync.service.status.load import load_overview

LOOK_S = 10.0
"""With what has to last before it is told, and a call's time-out, somebody knows within a minute."""
LOOK_TAKES_S = 20.0
"""A database that takes longer is as good as away."""
AGAIN_AFTER = Backoff(base_s=5.0, cap_s=300.0, least=0.5)

log = structlog.get_logger()


async def deliver(message: Message, poster: Poster, secret: str | None, now_s: int) -> None:
    """Send a message once, at so many seconds since 1970, signed with `secret` if there is one. Raises `NotTold`."""
    body = body_for(poster.url, message)
    headers = signature_headers(secret, message, body, now_s)
    await poster.post(body, {"Content-Type": "application/json", **headers})


class Webhook:
    """Sends messages to one address, signed with `secret` if there is one; after a failure it rests, longer each time.

    Of what is sent while it rests no failure counts, and nothing is tried where nobody was reached just before: what is
    told at one look would take longer than the claims on it are good for.

    Clocks come in: `clock` tells seconds that only grow, `now` the time that a receiver compares with its own.
    """

    def __init__(
        self,
        poster: Poster,
        secret: str | None,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._poster, self._secret, self._rng = poster, secret, rng
        self._clock, self._now = clock, now
        self._failures = 0
        self._is_away = False
        self._rests_until_s = clock()

    @property
    def rests(self) -> bool:
        """Whether it is too early to try again."""
        return self._clock() < self._rests_until_s

    async def send(self, message: Message) -> None:
        """Send a message. Raises `NotTold`."""
        if self._is_away and self.rests:
            raise NotReached(f"{self._poster.host} could not be reached just before")
        try:
            await deliver(message, self._poster, self._secret, int(self._now()))
        except NotTold as error:
            self._is_away = isinstance(error, NotReached)
            if not self.rests:
                self._note_failure(error)
            raise
        if self._failures:
            log.info("alerts_sent_again", failures=self._failures)
        self._failures, self._is_away = 0, False

    def _note_failure(self, error: NotTold) -> None:
        self._failures += 1
        self._rests_until_s = self._clock() + AGAIN_AFTER.pause_s(self._failures, self._rng)
        if self._failures == 1:
            log.warning("alert_not_sent", error=str(error))


class Alerter:
    """Tells what changes of the connections in a database; also, of its own `connections`, that the database is away.

    `stuck`: those of its own that read nothing, although they do not fail. `kept`: what was told before it began.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        connections: Callable[[], Sequence[str]],
        webhook: Webhook,
        *,
        host: str,
        stuck: Callable[[], Sequence[str]],
        kept: Kept,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._connections, self._webhook, self._host = engine, connections, webhook, host
        self._stuck, self._clock, self._kept = stuck, clock, kept
        self._lasting = Lasting()
        self._known, self._told_meanwhile = kept.load()
        self._has_looked = False

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            with outlived("alerts"):
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once, and tell what is news."""
        began_s, is_claimed = self._clock(), True
        try:
            async with asyncio.timeout(LOOK_TAKES_S):
                untold = await in_transaction(self._engine, self._note)
            self._told_meanwhile, self._has_looked = {}, True
            self._kept.take_over()
        except (DatabaseError, TimeoutError) as error:
            words = str(error) or f"the database does not answer within {LOOK_TAKES_S:.0f} s"
            untold, is_claimed = self._without_database(words, began_s), False
        for message, changes in messages_of(untold, self._host):
            await self._tell(message, changes, is_claimed=is_claimed)
        self._kept.keep(self._known, self._told_meanwhile)

    async def _note(self, tx: AsyncConnection) -> Sequence[Untold]:
        await store.note_told_meanwhile(tx, self._told_meanwhile.values())
        self._known = await store.known(tx)
        overview = await load_overview(tx, ())
        status = overview.connections
        present = [condition for one in status for condition in conditions_of(one)]
        present += conditions_of_none(overview.unassigned)
        since = {(one.name, Kind.FAILING): one.paused_at or one.state_since for one in status}
        present += [
            Condition(one, Kind.NO_PROGRESS, 1, "has read nothing for three intervals") for one in self._stuck()
        ]
        undecided = self._lasting.undecided({one.key for one in present}, self._known, self._clock())
        await store.note(tx, self._known, present, undecided | self._seen_by_others(status), since)
        there = {one.name for one in status} | {NO_CONNECTION}
        if gone := {key[0] for key, one in self._known.items() if one == Known(ENDED, ENDED)} - there:
            await store.forget(tx, gone)
        return [] if self._webhook.rests else await store.claim(tx)

    def _seen_by_others(self, status: Sequence[ConnectionStatus]) -> set[Key]:
        """What stands in no database, of connections of another process that is alive: it alone sees that it ends."""
        theirs = {one.name for one in status if one.owner is not None} - {*self._connections()}
        return {key for key in self._known if key[1] is Kind.NO_PROGRESS and key[0] in theirs}

    def _without_database(self, error: str, asked_s: float) -> Sequence[Untold]:
        """What is news although the database cannot be asked, by the clock when it was: that it cannot."""
        keys = {(one, Kind.FAILING) for one in self._connections()}
        if not (keys or self._has_looked):
            keys = {(NO_CONNECTION, Kind.FAILING)}  # which there are, it will know once it has
        told = self._told_meanwhile.keys() | {key for key, one in self._known.items() if one.told_level > ENDED}
        undecided = self._lasting.undecided(keys, self._known, asked_s)
        if self._webhook.rests:
            return []
        now, now_s = datetime.now(UTC), self._clock()
        return [
            Untold(*key, 1, f"fails: {error}", now - timedelta(seconds=self._lasting.lasts_s(key, now_s)))
            for key in sorted(keys - told - undecided)
        ]

    async def _tell(self, message: Message, changes: Sequence[Untold], *, is_claimed: bool) -> None:
        """Send a message, and note what of it stands in the database. What does not is noted with the next look."""
        try:
            await self._webhook.send(message)
        except NotTold:
            done = store.give_back
        else:
            log.info("alert_sent", condition=changes[0].kind.value, is_over=changes[0].level == ENDED)
            done = store.note_told
            self._told_meanwhile |= {one.key: one for one in changes}
        if not is_claimed:
            return
        # A claim ends by itself, and what was told is noted at the next look.
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(LOOK_TAKES_S):
                await in_transaction(self._engine, partial(done, changes=changes))
            for one in changes:
                self._told_meanwhile.pop(one.key, None)
                if done is store.note_told:  # a database that is away by the next look does not say so
                    self._known[one.key] = Known(one.level, one.level)


async def ping(poster: Poster, completed: Callable[[], Awaitable[None]]) -> None:
    """Ping a dead man's switch whenever a cycle of each connection has `completed`, until cancelled.

    It notices that this process is gone, or that it gets nowhere.
    """
    is_reached = True
    while True:
        await completed()
        try:
            await poster.post()
        except NotTold as error:
            if is_reached:
                log.warning("ping_not_sent", error=str(error))
            is_reached = False
        else:
            is_reached = True
