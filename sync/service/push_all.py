"""The whole push of a cycle: everything that is due is sent and looked up, until nothing is left that could be."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

from sync.connection.connection import Connection
from sync.core.errors import IncarnationChanged, Stopped, Unreconciled, Unsent, VoucherSyncError
from sync.core.plurals import plural
from sync.mirror.read_back import read_deleted
from sync.outbox import left_over, routing
from sync.outbox.claims import as_daemon
from sync.outbox.completer import PushReport
from sync.outbox.push import Pusher
from sync.outbox.send import PushSettings
from sync.outbox.unfinished import load_unfinished
from sync.postgres.engine import in_transaction

ROUNDS = 3
"""How many times it waits, at most, for what has become uncertain to be due for a look."""
RECONCILE_AGAIN_S = 0.1
LOCKED_AGAIN_S = 1.0
SEND_AGAIN_S = 0.1
READ_BACK_AGAIN_S = 1.0
REFRESH_AGAIN_S = 5.0
"""So often, at most, it pulls for what names a voucher or code that the mirror does not show yet."""
UNRECONCILED = (
    "of {} it is not known yet whether they were made; they are looked up by the daemon, or by the next "
    "`voucher-sync once`: see `voucher-sync outbox list --status uncertain`"
)
LEFT = "{}: what is queued is sent by the daemon, or the next `voucher-sync once`"
NEW_SERVER = LEFT.format("the database's server became another")
UNSENT = LEFT.format("not all could be sent in time")
UNSHOWN = LEFT.format("the API does not show every voucher or code yet that is named")
ENDED = LEFT.format("it was told to end before all was sent")


class PushAll:
    """One such push, by a `pusher`. `look_up` reconciles what is uncertain, and says why nothing of it could be.
    `refresh` makes the mirror fresh for rows that wait for it, and says whether that went well.
    """

    def __init__(
        self,
        connection: Connection,
        settings: PushSettings,
        pusher: Pusher,
        look_up: Callable[[], Awaitable[VoucherSyncError | None]],
        refresh: Callable[[], Awaitable[bool]] | None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._pusher = pusher
        self._look_up = look_up
        self._refresh = refresh
        self._waits_for_mirror = False
        self._report = PushReport()

    async def run(self) -> PushReport:
        """Push until nothing is left, or nothing more can be done soon; the report has no errors if nothing is left."""
        try:
            take = partial(routing.take_left_behind, connection=self._connection.name)
            while await in_transaction(self._connection.engine, take, as_daemon):
                pass
            await self._push()
            await self._read_all_deleted()
            await self._note_if_ended()
            await self._note_resting()
        except VoucherSyncError as error:
            self._report.note_error(error)
        return self._report

    async def _push(self) -> None:
        push, stop = self._settings, self._connection.stop
        ends_s = time.monotonic() + (push.lease + ROUNDS * push.read_after_write_delay).total_seconds()
        while not stop.is_set():
            try:
                left = await self._round()
            except Stopped:
                return
            except VoucherSyncError as error:
                self._report.add(self._pusher.take_report())
                left = error, math.inf
            if left is None:
                return
            # What is due already and could not be reconciled must not keep this going for ever.
            why, wait_s = left
            if time.monotonic() + wait_s >= ends_s:
                self._report.errors[type(why).__name__] = why
                return
            await self._wait(wait_s)

    async def _round(self) -> tuple[VoucherSyncError, float] | None:
        """What is left of a look and a push, and after how many seconds that is worth another try."""
        if failure := await self._look_up():
            return failure, math.inf  # the look would read the same pages again at once, for as long as this stays
        if self._waits_for_mirror and not (self._refresh and await self._refresh()):
            return Unsent(UNSHOWN), math.inf
        self._report.add(await self._pusher.push())
        left = await self._left_over()
        if left is None and not await self._has_backlog():
            self._report.errors.clear()  # what failed was looked up or sent again, and all of it has ended since
        return left

    async def _left_over(self) -> tuple[VoucherSyncError, float] | None:
        """What is due and was not pushed, and after how many seconds that is worth another try."""
        engine, name, watch = self._connection.engine, self._connection.name, self._pusher.watch
        claims_wait = timedelta(seconds=watch.wait_s())
        count = partial(left_over.count_unreconciled, connection=name, claims_wait=claims_wait)
        unreconciled, due_in = await in_transaction(engine, count)
        if unreconciled:
            even_in_s = watch.database_clock.wait_s(self._settings.read_after_write_delay)
            wait_s = max(RECONCILE_AGAIN_S, due_in.total_seconds(), even_in_s)
            return Unreconciled(UNRECONCILED.format(plural(unreconciled, "change"))), wait_s
        if locked := await in_transaction(engine, partial(left_over.locked_by_others, connection=name)):
            return locked, LOCKED_AGAIN_S
        if not self._pusher.has_new_server:
            return await self._unsent()
        return (IncarnationChanged(NEW_SERVER), math.inf) if await self._has_unfinished() else None

    async def _unsent(self) -> tuple[VoucherSyncError, float] | None:
        """What could not be sent for no fault that was noted: claimed too late, after others that were refused, or
        while too many calls of other connections fail.
        """
        without, with_due = self._connection.set_aside.row_ids(), not self._pusher.may_send
        find = partial(left_over.find_unsent, connection=self._connection.name, without=without, with_due=with_due)
        unsent = await in_transaction(self._connection.engine, find)
        is_unknown = self._pusher.waiting.discovery or self._pusher.waiting.pull
        # Before the first pull it waits for the mirror whether there is anything to send or not.
        is_unknown = is_unknown and await self._has_unfinished()
        self._waits_for_mirror = is_unknown or (unsent is not None and unsent.waits_for_mirror)
        if self._waits_for_mirror:
            delay_s = self._settings.read_after_write_delay.total_seconds()
            return Unsent(UNSHOWN), max(SEND_AGAIN_S, min(REFRESH_AGAIN_S, delay_s))
        if unsent is None or self._report.errors:
            return None
        return Unsent(UNSENT), max(SEND_AGAIN_S, unsent.wait.total_seconds())

    async def _has_unfinished(self) -> bool:
        unfinished = await in_transaction(self._connection.engine, load_unfinished, as_daemon)
        return unfinished.concerns(self._connection.name)

    async def _has_backlog(self) -> bool:
        has_backlog = partial(left_over.has_backlog, connection=self._connection.name)
        return await in_transaction(self._connection.engine, has_backlog)

    async def _read_all_deleted(self) -> None:
        """Read back what was deleted until the API shows it, or must have done so."""
        ends_s = time.monotonic() + self._settings.read_after_write_delay.total_seconds()
        with suppress(Stopped):
            while not self._connection.stop.is_set() and await read_deleted(self._connection):
                if time.monotonic() + READ_BACK_AGAIN_S >= ends_s:
                    return
                await self._wait(READ_BACK_AGAIN_S)

    async def _note_if_ended(self) -> None:
        """A cycle that was told to end has not done what it was for, unless nothing is left of it."""
        if self._connection.stop.is_set() and not self._report.errors and await self._has_backlog():
            self._report.note_error(Stopped(ENDED))

    async def _note_resting(self) -> None:
        """What an earlier process has set aside is told each time, until somebody has mended what refuses it."""
        resting = partial(left_over.count_resting, connection=self._connection.name)
        self._report.refused = max(self._report.refused, await in_transaction(self._connection.engine, resting))

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._connection.stop.wait(), seconds)
