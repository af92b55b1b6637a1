"""All that one look tells is of one instant, whatever others commit between its statements."""

from functools import partial

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli import status
from sync.service.status.words import WAIT_STATUSES
from tests.support.statements import acting_after

from .helpers import queue

CRON = "0 3 * * *"
PRUNE = "DELETE FROM mews.voucher_code_outbox"


async def test_what_status_tells_is_of_one_instant(sql: psycopg.Connection, engine: AsyncEngine) -> None:
    said, number, torn = [""], 0, []
    while (number := number + 1) <= len(said):
        sql.execute(PRUNE)
        queue(sql, "A", "sending")
        with acting_after(engine, number, partial(sql.execute, PRUNE)) as said:
            (one,) = (await status.look(engine, None, CRON)).connections
        told = one.backlog.count(*WAIT_STATUSES), sum(group.count for group in one.details.waiting)
        torn += [(number, told)] if len(set(told)) > 1 else []
    assert (torn, number > 10) == ([], True), said
