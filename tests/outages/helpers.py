"""What the tests of outages share: rows to push, time that passes, and the story that `status` tells meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text

from sync.demo.simulator import Voucher
from sync.outbox.claims import as_daemon
from sync.postgres.engine import transaction
from sync.service import app
from sync.service.jobs import Jobs
from tests.support.mirror import Mirror
from tests.support.process import Ended, run

ADD = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, :value)"
DELETE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('delete', :voucher, :value)"
DELETE_BY_ID = "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', :code)"
ALL_OVER = timedelta(seconds=70)
"""Longer than any pause between two attempts."""


async def queue_add(mirror: Mirror, voucher: Voucher, *values: str) -> None:
    """Queues adds, all at once: a push that is awake already would take the first ones for a call of their own."""
    async with transaction(mirror.connection.engine) as tx:
        await tx.execute(text(ADD), [{"voucher": voucher.id, "value": value} for value in values])


async def queue_delete(mirror: Mirror, voucher: Voucher, value: str) -> None:
    """Queues a delete by value."""
    await mirror.execute(DELETE, voucher=voucher.id, value=value)


async def queue_delete_by_id(mirror: Mirror, code_id: UUID) -> None:
    """Queues a delete by the code's id."""
    await mirror.execute(DELETE_BY_ID, code=code_id)


async def statuses(mirror: Mirror) -> list[str]:
    """Of all rows of the outbox, the oldest first."""
    return [row["status"] for row in await mirror.rows("SELECT status FROM mews.voucher_code_outbox ORDER BY id")]


async def until(mirror: Mirror, condition: str) -> None:
    """Waits until a query's condition holds; the test's own time-out ends a vain wait."""
    while not (await mirror.rows(f"SELECT ({condition}) AS holds"))[0]["holds"]:
        await mirror.rows("SELECT pg_sleep(0.02)")


async def pass_time(mirror: Mirror, by: timedelta) -> None:
    """Lets the API's time jump, and the database's: what was noted there, and waits for its time, is so much older.

    Claims stay: whoever waits for their end times it by its own clock.
    """
    mirror.clock.advance(by)
    async with as_daemon(mirror.connection.engine) as tx:
        for older in (
            "UPDATE mews.voucher_code_outbox SET next_attempt_at = next_attempt_at - :by",
            "UPDATE sync.connections SET state_since = state_since - :by",
        ):
            await tx.execute(text(older), {"by": by})


@asynccontextmanager
async def pushing(mirror: Mirror, **settings: Any) -> AsyncIterator[Jobs]:
    """The jobs of a mirror, with its outbox pushed as the daemon does."""
    quick = {"sync_settle_after_s": 1, "sync_lease_s": 3}
    jobs = app.make_jobs(mirror.connection, mirror.settings(**(quick | settings)))
    refreshes: list[asyncio.Task[bool]] = []

    def refresh() -> None:
        if all(one.done() for one in refreshes):
            refreshes.append(asyncio.create_task(jobs.outbox.refresh(jobs.discover, jobs.pull)))

    jobs.outbox.ask_refresh = refresh
    jobs.outbox.begin()
    try:
        yield jobs
    finally:
        mirror.stop.set()
        await jobs.outbox.idle()
        await asyncio.gather(*refreshes)
        mirror.stop.clear()


async def round_of(mirror: Mirror, jobs: Jobs) -> None:
    """What the daemon does in a minute, pushes apart: those go on beside it."""
    await jobs.discover()
    await jobs.pull()
    await jobs.outbox.look_up()
    await jobs.outbox.find_earlier()
    await mirror.beat(jobs)


async def ended(mirror: Mirror, jobs: Jobs) -> None:
    """Lets minutes pass until every change has ended."""
    while set(await statuses(mirror)) & {"pending", "sending", "uncertain"}:
        await pass_time(mirror, ALL_OVER)
        await round_of(mirror, jobs)


async def told(mirror: Mirror, directory: Path) -> tuple[Ended, dict[str, Any], Ended]:
    """What `status` tells people, what it tells scripts, and what `check` says."""
    words = (("status",), ("status", "--json"), ("check",))
    processes = [run(*one, settings=mirror.environment, directory=directory) for one in words]
    text_, as_json, checked = await asyncio.gather(*processes)
    assert text_.code == as_json.code
    (one,) = json.loads(as_json.stdout)
    return text_, one, checked
