"""What a gap holds is looked up in the mirror, which pulls go on with meanwhile."""

from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import event

from sync.outbox.claims import as_daemon
from sync.outbox.gap import complete_standing, held_rows
from tests.support.database import code, store
from tests.support.queue import VOUCHER, Outbox

BROUGHT = """
INSERT INTO mews.voucher_codes (id, voucher_id, value, created_utc, is_active, connection)
VALUES (gen_random_uuid(), %s, 'SUMMER', %s, true, 'default')
"""


async def test_a_code_that_a_pull_brings_while_deletes_are_looked_up_is_none_of_theirs(
    outbox: Outbox, database_url: str
) -> None:
    delete = await outbox.delete("SUMMER")
    await outbox.set(delete, status="held", held_because="before_a_gap")
    now, hour = await outbox.now(), timedelta(hours=1)
    deleted = code(1, created_utc=now - hour, updated_utc=now + hour, is_active=False)
    await store(outbox.engine, deleted)

    def pull_between(_connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        if "AS is_usable" in statement:  # the first of two looks at the codes
            with psycopg.connect(database_url, autocommit=True) as pull:
                pull.execute(BROUGHT, (VOUCHER, now + hour))

    event.listen(outbox.engine.sync_engine, "after_cursor_execute", pull_between)
    async with as_daemon(outbox.engine) as tx:
        assert await complete_standing(tx, await held_rows(tx, 0, 10), now) == 1
    assert (await outbox.row(delete))["voucher_code_id"] == deleted.id
