"""What a replica tells of all its connections, a few times in each lease: one transaction, however many they are.

That they are heard, and how far each has caught up; and the database's position moves on once for all of them. What is
told of one alone, as a state that has changed or calls that failed, has a transaction of its own, where there is any.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.incarnation import Incarnation
from sync.connection.tables import connections
from sync.core.errors import VoucherSyncError
from sync.fleet import caught_up
from sync.fleet.caught_up import CaughtUpBook
from sync.outbox import future_rows
from sync.postgres.engine import in_transaction
from sync.service import samples
from sync.service.defects import outlived
from sync.service.jobs import Jobs

AT_ONCE = 3
"""More would leave no session to who has a change to send."""


class Heartbeats:
    """`book`: what this replica tells of how far its connections have caught up."""

    def __init__(self, engine: AsyncEngine, incarnation: Incarnation, book: CaughtUpBook) -> None:
        self._engine = engine
        self._incarnation = incarnation
        self._book = book
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def tell(self, all_jobs: Sequence[Jobs], waiting: Sequence[Jobs] = ()) -> bool:
        """Tell of all of these, and no more of others; whether that could be told. `waiting`: those not begun yet."""
        if not (all_jobs or waiting or self._book.names):
            with suppress(VoucherSyncError):  # that beats fail is told
                await self._incarnation.follow(self._engine)
            return True
        try:
            if not self._incarnation.is_worked_with:
                await self._incarnation.check(self._engine)
            await self._observe([*all_jobs, *waiting])
            failing = await self._tell([*all_jobs, *waiting])
            await self._sample([jobs for jobs in all_jobs if jobs.sampler.is_due])
        except VoucherSyncError as error:
            problem = error
            await self._each(all_jobs, lambda jobs: jobs.health.note("heartbeat", problem))
            return False
        await self._each((jobs for jobs in all_jobs if jobs.has_to_tell(failing)), lambda jobs: jobs.tell())
        return True

    def end(self, jobs: Jobs) -> None:
        """Take the last of what was done for a connection, to be told when it is given back."""
        if jobs.connection.name in self._book.names:
            self._book.note(jobs.connection.name, jobs.take_caught_up())

    async def _observe(self, all_jobs: Sequence[Jobs]) -> None:
        """Have each look when others were last at work for its connection, before a beat hides that."""

        async def work(tx: AsyncConnection) -> None:
            for name, clock in new.items():
                await future_rows.observe(tx, name, clock)

        clocks = {jobs.connection.name: jobs.outbox.watch.database_clock for jobs in all_jobs}
        if new := {name: clock for name, clock in clocks.items() if clock.is_new}:
            await in_transaction(self._engine, work)

    async def _tell(self, all_jobs: Sequence[Jobs]) -> Mapping[str, str | None]:
        """Tell how far these have caught up; why those fail that fail by their rows. Raises what `advance` does."""
        incarnation, book = self._incarnation, self._book
        book.follow(incarnation.finding)
        for jobs in all_jobs:
            book.note(jobs.connection.name, jobs.take_caught_up())

        async def work(tx: AsyncConnection) -> tuple[Mapping[str, str | None], int | None]:
            await caught_up.write(tx, book.process, page)
            failing = await _load_failing(tx)
            return failing, await incarnation.advance(tx, seen) if is_worked_with else None

        async with book.writing:
            is_worked_with = incarnation.is_worked_with
            seen = await incarnation.witnessed() if is_worked_with else None
            leaving = book.names - {jobs.connection.name for jobs in all_jobs}
            book.follow(incarnation.finding)
            page = book.page(leaving)
            failing, position = await in_transaction(self._engine, work)
            book.written(page)
            book.forget(leaving)
        if position is not None:
            await incarnation.remember(position)
        return failing

    async def _sample(self, all_jobs: Sequence[Jobs]) -> None:
        """Note what was done for these in the minutes that are over."""
        done = {jobs.connection.name: one for jobs in all_jobs if (one := jobs.sampler.due()) is not None}
        if done:
            late_after_s = all_jobs[0].settings.late_after_s
            await in_transaction(self._engine, lambda tx: samples.note(tx, done, late_after_s))
        for jobs in all_jobs:
            jobs.sampler.noted()

    async def _each(self, all_jobs: Iterable[Jobs], act: Callable[[Jobs], Awaitable[None]]) -> None:
        async def one(jobs: Jobs) -> None:
            async with self._slots:
                with outlived("heartbeat", connection=jobs.connection.name):
                    await act(jobs)

        async with asyncio.TaskGroup() as group:
            for jobs in all_jobs:
                group.create_task(one(jobs))


async def _load_failing(tx: AsyncConnection) -> Mapping[str, str | None]:
    """Why each connection fails that does, as its row has it, whoever wrote that."""
    query = select(connections.c.name, connections.c.error).where(connections.c.state == "failing")
    return {row.name: row.error for row in await tx.execute(query)}
