"""The push: claims what is due, sends it, and completes it by what the answer proves.

A claim is made while a place of the budget is held, so that what is claimed is sent at once. The answer is not waited
for before the next claim: several calls are in flight, and a slow one keeps back only its own rows.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import replace
from random import Random

from sync.connection.connection import Connection
from sync.connection.server_time import server_now
from sync.core.errors import ClockRefused, IncarnationChanged, VoucherSyncError
from sync.mirror.freshness import MirrorFreshness
from sync.outbox import gap
from sync.outbox.bisect import Bisector
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claimer import Claimed, Claimer
from sync.outbox.claims import Lane
from sync.outbox.completer import Completer, PushReport
from sync.outbox.dispatch import Dispatched
from sync.outbox.finder import DueFinder
from sync.outbox.outcomes import Waits
from sync.outbox.routing import Waiting
from sync.outbox.rules import Operation
from sync.outbox.send import PushSettings, Sender
from sync.signals import Wake

Claim = AbstractAsyncContextManager[Claimed | None]
CALLS_IN_FLIGHT = 8
CLAIMING = 3
"""Claims made at once while lanes are full: while one reads its rows, another waits for the next place."""
TURN_S = 1.0
"""After this it is asked anew what is due: a bulk push of one hotel must not keep back what others queue meanwhile."""


class Pusher:
    """Pushes the outbox of one connection. It sets `wake` whenever rows were completed: others may be due then.

    `freshness`: how fresh the mirror is at the time of asking.
    """

    def __init__(
        self,
        connection: Connection,
        settings: PushSettings,
        freshness: Callable[[], MirrorFreshness],
        wake: Wake,
        *,
        watch: ClaimWatch,
        rng: Random,
    ) -> None:
        self.watch = watch
        self._connection = connection
        self._settings = settings
        self._freshness = freshness
        self._wake = wake
        self._sender = Sender(connection, settings)
        waits = Waits(settings.read_after_write_delay, rng, settings.retry)
        self._completer = Completer(connection, waits, freshness)
        self._bisector = Bisector(connection, self._sender, self._completer, watch)
        self._slots = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._has_more = False
        self._finder = DueFinder(connection)
        self._claimer = Claimer(connection, settings, freshness, self._finder, self._sender)

    @property
    def waiting(self) -> Waiting:
        """What rows wait for that cannot go yet."""
        waiting = self._finder.waiting
        return replace(waiting, discovery=True) if self._completer.waits_for_discovery else waiting

    @property
    def ended(self) -> int:
        """How many rows became done or failed, since it was made."""
        return self._completer.ended

    @property
    def may_send(self) -> bool:
        """Whether a call could do anything now."""
        return self._sender.may_send()

    @property
    def has_new_server(self) -> bool:
        """Whether the database's server became another one since the last pull, or too shortly before it for this to
        count: nothing is sent before the next.
        """
        has_pulled = self._freshness().caught_up_as_of is not None
        return self._connection.incarnation.is_unsure or (has_pulled and self._needs_pull)

    @property
    def _needs_pull(self) -> bool:
        incarnation = self._connection.incarnation
        return not incarnation.is_new and self._freshness().checked != incarnation.checks

    def take_report(self) -> PushReport:
        """What was pushed since the last time that this was asked."""
        report, self._completer.report = self._completer.report, PushReport()
        report.calls, self._sender.calls = self._sender.calls, 0
        return report

    async def push(self) -> PushReport:
        """Send everything that is due, and wait for the answers. Raises `DatabaseError`, `ApiError` and `Stopped`."""
        while True:
            self._wake.clear()
            failure: VoucherSyncError | None = None
            async with asyncio.TaskGroup() as calls:
                try:
                    while await self.start_due(calls):
                        pass
                except VoucherSyncError as error:  # what is in flight is completed all the same
                    failure = error
            if failure is not None:
                raise failure
            if not self._sender.may_send() or not (self._wake.is_set() or await self.find_earlier()):
                return self.take_report()

    async def find_earlier(self) -> bool:
        """Whether something is due that no look has seen: then it wakes. Raises `DatabaseError`."""
        if not await self._finder.has_earlier():
            return False
        self._finder.look_back()
        self._wake.set()
        return True

    async def start_due(self, calls: asyncio.TaskGroup) -> bool:
        """Claim what is due for a while, one batch of each lane in turn, and send it in tasks of `calls`.

        Whether there is more that is due. Raises as `push` does. Nothing is claimed before a pull has caught up since
        the database was last looked at: what was sent and lost from it shows there.
        """
        incarnation = self._connection.incarnation
        await self._hold_before_gap()
        await incarnation.require(self._connection.engine)
        if incarnation.is_unsure:
            return False
        if self._needs_pull:
            self._finder.waiting = replace(self.waiting, pull=True)
            return False
        try:
            return await self._start_due(calls)
        except IncarnationChanged:
            self._finder.look_back()
            self._wake.set()
            return True

    async def _hold_before_gap(self) -> None:
        incarnation, engine = self._connection.incarnation, self._connection.engine
        await incarnation.check(engine)
        if (known := incarnation.known) and known.gap:
            held, refused = await gap.hold_all_before_gap(engine, known)
            self._completer.report.held += held
            self._connection.set_aside.add(refused)

    async def _start_due(self, calls: asyncio.TaskGroup) -> bool:
        with self._backlogged():
            full = await self._start_found(calls)
            self._has_more = bool(full)
        if full:
            with self._backlogged():
                await self._drain_all(full, calls)
        self._has_more = bool(full) or self.waiting.more
        return self._has_more

    async def _start_found(self, calls: asyncio.TaskGroup) -> list[Lane]:
        """Claim one batch of each lane in which something is found; the lanes in which there may be more."""
        may_claim_as_found = not self._slots.locked()
        if may_claim_as_found and (found := await self._start_batch(self._claimer.claimed_as_found(), calls)):
            return [found.batch.attempt.lane] if found.has_more else []
        seen = await self._finder.find(self._freshness(), is_looked=may_claim_as_found)
        self._completer.report.failed += self.waiting.failed
        lanes = await self._not_waiting_for_clock(seen.lanes)
        return [lane for lane in lanes if await self._start(lane, calls)]

    @contextmanager
    def _backlogged(self) -> Iterator[None]:
        """While there is more to push than fits in a turn, pulls get less of the budget."""
        if not self._has_more:
            yield
            return
        with self._connection.client.rate_limiter.backlogged():
            yield

    async def _not_waiting_for_clock(self, lanes: list[Lane]) -> list[Lane]:
        """All lanes, or those of deletes where the API's clock cannot be believed: a clock stops what needs it only."""
        if all(lane.operation is Operation.DELETE for lane in lanes):
            return lanes
        try:
            await server_now(self._connection)
        except ClockRefused as error:
            self._completer.report.note_error(error)
            return [lane for lane in lanes if lane.operation is Operation.DELETE]
        return lanes

    async def _drain_all(self, lanes: list[Lane], calls: asyncio.TaskGroup) -> None:
        ends_s = time.monotonic() + TURN_S
        try:
            async with asyncio.TaskGroup() as claimers:
                for _ in range(CLAIMING):
                    claimers.create_task(self._drain(lanes, calls, ends_s))
        except ExceptionGroup as group:
            # One claimer's fault ends the others; the first tells the cause.
            raise group.exceptions[0] from group

    async def _drain(self, lanes: list[Lane], calls: asyncio.TaskGroup, ends_s: float) -> None:
        """Claim and send, one batch of each lane in turn, until no lane has more or the turn is over."""
        while lanes and time.monotonic() < ends_s:
            for lane in tuple(lanes):
                if not await self._start(lane, calls) and lane in lanes:
                    lanes.remove(lane)

    async def _start(self, lane: Lane, calls: asyncio.TaskGroup) -> bool:
        """Claim one batch of a lane and send it; whether there may be more to come."""
        if not self._sender.may_send():
            return False
        dispatched = await self._start_batch(self._claimer.claimed(lane), calls)
        return dispatched is not None and dispatched.has_more

    async def _start_batch(self, claim: Claim, calls: asyncio.TaskGroup) -> Dispatched | None:
        """Claim one batch and send it, in a task of its own; what was claimed, as soon as it is."""
        claimed: asyncio.Future[Dispatched | None] = asyncio.get_running_loop().create_future()
        is_probe = self._sender.is_probing
        call = calls.create_task(self._carry_out(claim, claimed))
        dispatched = await claimed
        if is_probe:
            # Others would be sent for nothing, or at once in whole batches.
            await asyncio.wait([call])
        return dispatched

    async def _carry_out(self, claim: Claim, claimed: "asyncio.Future[Dispatched | None]") -> None:
        """Claim, send and complete one batch. What cannot be now, as without a database, is looked up later.

        `claimed` gets what was claimed as soon as it is, or why it could not be.
        """
        try:
            async with self._slots:
                await self._push_one(claim, claimed)
        except VoucherSyncError as error:
            if claimed.done():
                self._completer.report.note_error(error)
            else:
                claimed.set_exception(error)
        except BaseException:
            # Else whoever waits for the claim would wait for ever.
            claimed.cancel()
            raise

    async def _push_one(self, claim: Claim, claimed: "asyncio.Future[Dispatched | None]") -> None:
        with ExitStack() as in_flight:
            async with claim as one:
                if one:
                    in_flight.enter_context(self.watch.in_flight(one.dispatched.batch.attempt.id))
                    self._note_dispatched(one.dispatched)
                if not claimed.done():
                    claimed.set_result(one.dispatched if one else None)
                if not one or not one.dispatched.batch.rows:
                    return
                one.permit.is_used = True
                batch, position = one.dispatched.batch, one.dispatched.position
                if position is not None:
                    # If the database loses the claim after this, the witness tells of it: it is not sent again unasked.
                    await self._connection.incarnation.remember(position)
                outcome = await self._sender.send(batch, one.since_s)
            outcome = await self._sender.learn(batch, outcome)
            try:
                await self._bisector.complete(batch, outcome)
            finally:
                self._wake.set()

    def _note_dispatched(self, dispatched: Dispatched) -> None:
        report = self._completer.report
        report.held += dispatched.held
        report.refused += dispatched.refused
        report.done += dispatched.done
        report.failed += dispatched.failed
        self._completer.ended += dispatched.done + dispatched.failed
        self._connection.set_aside.add(dispatched.set_aside)
        self._finder.waiting = replace(self.waiting, pull=self.waiting.pull or dispatched.waiting > 0)
