"""All that the page shows is of one instant, whatever others commit between the statements that it asks."""

import re
from functools import partial

import psycopg
import pytest

from tests.service.status.helpers import queue
from tests.support.mirror import Mirror
from tests.support.statements import acting_after

from .helpers import serving

PRUNE = "DELETE FROM mews.voucher_code_outbox"


@pytest.mark.long
@pytest.mark.usefixtures("never_kept")
async def test_what_the_page_shows_is_of_one_instant(mirror: Mirror) -> None:
    said, number, torn = [""], 0, []
    with psycopg.connect(mirror.database_url, autocommit=True) as sql:
        sql.execute("SET session_replication_role = replica")
        async with serving(mirror) as site:
            await site.beat()
            while (number := number + 1) <= len(said):
                sql.execute(PRUNE)
                queue(sql, "A", "sending")
                with acting_after(mirror.connection.shared_engine, number, partial(sql.execute, PRUNE)) as said:
                    shown = (await site.get("/fragment")).body.decode()
                (waiting,) = re.findall(r'<dt>Waiting</dt><dd class="value">(\d+)</dd>', shown)
                told = int(waiting) > 0, "the outbox is empty" not in shown, "being sent" in shown
                torn += [(number, told)] if len(set(told)) > 1 else []
    assert (torn, number > 10) == ([], True), said
