"""What comes to be held while somebody adopts the database, as of rows that are still being restored."""

import psycopg
import pytest
from sqlalchemy import event

from sync.service import app
from sync.service.adoption import Rest, adopt
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox

ELSEWHERE = "UPDATE sync.incarnation SET database_oid = 1"
"""As in a restored database."""
TAKEN_BACK = "UPDATE mews.voucher_code_outbox SET status = 'cancelled'"
HOLD_BEFORE_A_GAP = (
    "UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'before_a_gap', finished_at = NULL"
)
NO_TRIGGERS = "SET LOCAL session_replication_role = replica"


@pytest.mark.parametrize("rest", [Rest.RELEASE, Rest.CANCEL])
async def test_what_is_held_after_everybody_was_read_stays_held(mirror: Mirror, outbox: Outbox, rest: Rest) -> None:
    """As what a daemon holds: nobody has looked it up."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    await mirror.execute(ELSEWHERE)
    async with mirror.connected():
        await mirror.execute(TAKEN_BACK)

        def hold(*given: object) -> None:
            if "SELECT DISTINCT" in str(given[2]):
                with psycopg.connect(mirror.way) as tx:
                    tx.execute(NO_TRIGGERS)
                    tx.execute(HOLD_BEFORE_A_GAP)

        event.listen(mirror.connection.shared_engine.sync_engine, "after_cursor_execute", hold)
        adoption = await adopt(mirror.connection, app.make_jobs(mirror.connection, mirror.settings()), rest, no_pause)
    assert (adoption.left.adds, adoption.released, adoption.cancelled, adoption.adopted) == (1, 0, 0, True)
    assert await outbox.statuses() == ["held"]


async def no_pause() -> None:
    """Whatever was sent shows at once."""
