"""What was under way or of unknown outcome before a gap, and could not be looked up by the time that it is closed."""

from collections import defaultdict
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.gaps import Known
from sync.outbox.completion import complete
from sync.outbox.gap import as_row, through_of
from sync.outbox.outcomes import Blocks, Completion
from sync.outbox.rules import Row, Status, Verdict
from sync.outbox.tables import ROW_COLUMNS, outbox

GIVEN_UP = (
    "whether this was done was unknown before the database was restored or lost commits, and could not be looked up "
    "when it was adopted: it may be done or cancelled already, so look at the voucher's codes before you retry it"
)
"""`last_error` of what nobody could look up by then."""


async def count_unknown(tx: AsyncConnection, known: Known) -> int:
    """How many `give_up` would fail now."""
    return int((await tx.execute(select(func.count()).select_from(outbox).where(*_is_unknown(known)))).scalar_one())


async def give_up(tx: AsyncConnection, known: Known) -> int:
    """Fail what was under way or unknown before the gap and is so still, as of a connection that is paused or a voucher
    that the API does not show; how many.

    It may have been taken back since. Looked up once the gap is closed, it would be sent if the API does not show it.
    """
    open_rows = select(outbox.c.attempt_id, *ROW_COLUMNS).where(*_is_unknown(known)).order_by(outbox.c.id)
    of_attempt = defaultdict[UUID, list[Row]](list)
    for found in (await tx.execute(open_rows.with_for_update(key_share=True))).mappings():
        of_attempt[found["attempt_id"]].append(as_row({name: found[name] for name in found if name != "attempt_id"}))
    given_up = Completion(Status.FAILED, Verdict.UNKNOWN, GIVEN_UP, blocks=Blocks(0, 0))
    failed = [(await complete(tx, one, [(rows, given_up)])).counts[Status.FAILED] for one, rows in of_attempt.items()]
    return sum(failed)


def _is_unknown(known: Known) -> tuple[ColumnElement[bool], ...]:
    through = through_of(known)
    is_before = (outbox.c.id <= through) if through is not None else true()
    is_open = outbox.c.status.in_([Status.SENDING, Status.UNCERTAIN])
    since_before = outbox.c.held_by_gap.is_distinct_from(known.gap_at)  # else somebody has released it since
    return is_open, is_before, since_before
