"""Claiming a batch while a place of the budget is held, so that what is claimed is sent at once."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.connection.tenure import now_s
from sync.mews.rate_limiter import Permit, Priority
from sync.mirror.freshness import MirrorFreshness
from sync.outbox import delete_guard
from sync.outbox.claims import Attempt, Lane, by_index, server_utc_for
from sync.outbox.dispatch import Dispatched, Terms, claim_due
from sync.outbox.each_row import at_once
from sync.outbox.finder import DueFinder
from sync.outbox.look import Seen
from sync.outbox.rules import Row
from sync.outbox.send import PushSettings, Sender


@dataclass(frozen=True, slots=True)
class Claimed:
    """What was claimed and is committed, and the place that is held for its call.

    `since_s`: when it was claimed, or earlier, by `now_s`.
    """

    dispatched: Dispatched
    permit: Permit
    since_s: float


class Claimer:
    """Claims for one connection what `finder` has found."""

    def __init__(
        self,
        connection: Connection,
        settings: PushSettings,
        freshness: Callable[[], MirrorFreshness],
        finder: DueFinder,
        sender: Sender,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._freshness = freshness
        self._finder = finder
        self._sender = sender

    @asynccontextmanager
    async def claimed(self, lane: Lane) -> AsyncIterator[Claimed]:
        """One batch of a lane, once there is a place. Raises `DatabaseError`, and what `server_utc_for` does."""
        server_utc = await server_utc_for(self._connection, lane.operation)
        async with self._connection.client.rate_limiter.permit(Priority.PUSH) as permit:
            permit.is_used = False
            since_s = now_s()
            claim = partial(self._claim, lane=lane, server_utc=server_utc, seen=self._finder.seen)
            dispatched = await at_once(self._connection.engine, claim, by_index)
            yield Claimed(await self._held(dispatched), permit, since_s)

    @asynccontextmanager
    async def claimed_as_found(self) -> AsyncIterator[Claimed | None]:
        """One batch of what a look finds, in the same transaction, where that is all of one lane and can be sent now.

        None elsewhere; then `finder.seen` has what was found. Raises `DatabaseError`.
        """
        limiter, server_utc = self._connection.client.rate_limiter, self._known_server_utc()
        permits: list[Permit] = []
        since_s = now_s()
        async with AsyncExitStack() as taken:

            async def look_and_claim(tx: AsyncConnection) -> tuple[Seen, Dispatched | None]:
                if server_utc is None or not self._may_send_at_once() or not (permits or limiter.is_free):
                    return await self._finder.look(tx), None  # a lock writes, at each look for as long as an outage
                seen, due = await self._finder.look_and_lock(tx, self._connection.set_aside.row_ids())
                if len(seen.lanes) != 1 or seen.has_waiting or not self._may_send_at_once():
                    return seen, None
                if not permits and limiter.is_free:  # so that this transaction waits for nothing
                    permits.append(await taken.enter_async_context(limiter.permit(Priority.PUSH)))
                    permits[0].is_used = False
                return seen, await self._claim(tx, seen.lanes[0], server_utc, seen, due) if permits else None

            seen, dispatched = await at_once(self._connection.engine, look_and_claim, by_index)
            self._finder.take(seen)
            yield Claimed(await self._held(dispatched), permits[0], since_s) if dispatched else None

    async def _held(self, dispatched: Dispatched) -> Dispatched:
        """The same, once all is held of a lane with more suspicious deletes than the claim's transaction takes."""
        if not dispatched.suspicious_because:
            return dispatched
        rest = await delete_guard.hold_rest(self._connection, dispatched.suspicious_because)
        return replace(
            dispatched,
            held=dispatched.held + len(rest.ids),
            set_aside=[*dispatched.set_aside, *rest.refused],
            has_more=dispatched.held + len(rest.ids) > 0,  # of what is not held nothing was looked at yet
            suspicious_because=None,
        )

    def _may_send_at_once(self) -> bool:
        return self._sender.may_send() and not self._sender.is_probing

    def _known_server_utc(self) -> datetime | None:
        """The API's time, where `server_now` would ask nobody for it."""
        clock = self._connection.client.server_clock
        return None if clock.needs_witness else clock.now()

    async def _claim(
        self, tx: AsyncConnection, lane: Lane, server_utc: datetime, seen: Seen, locked: Sequence[Row] | None = None
    ) -> Dispatched:
        terms = Terms(
            limit=self._sender.batch_size,
            freshness=self._freshness(),
            incarnation=self._connection.incarnation,
            delete_guards=self._settings.delete_guards,
            without=self._connection.set_aside.row_ids(),
            seen=seen,
            tenure=self._connection.tenure,
            locked=locked,
        )
        return await claim_due(tx, Attempt(uuid4(), lane, self._settings.lease, server_utc), terms)
