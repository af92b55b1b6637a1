"""Settling what is uncertain: nothing is sent again before a look at the API.

The look waits until the API must show its own writes. What an add has made is told by voucher and value in what was
updated since its attempt began; a delete by the state of its code.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sync.db import known_codes, mirror, outbox, outbox_upkeep, rejected
from sync.db.engine import transaction
from sync.db.outbox import Settlement, as_daemon
from sync.db.outbox_upkeep import Uncertain
from sync.flows.conclude import read_codes
from sync.flows.connection import Connection
from sync.mews import operations
from sync.mews.budget import Priority
from sync.model.errors import ApiError
from sync.model.outbox import UNLISTED, Operation, Status
from sync.model.windows import MAX_PAGE_SIZE, MAX_VOUCHERS, Window, chunks, split

MARGIN = timedelta(seconds=2)
"""How far a look reaches back behind an attempt's beginning, and on beyond what is known of the API's clock: it counts
whole seconds, and what was made in the present one must be seen."""
LOOK_AGAIN = timedelta(seconds=10)
FOUND = Settlement(Status.DONE, "done")
NOT_FOUND = Settlement(Status.PENDING, "not processed", "looked up: it had no effect")
CHANGED = Settlement(
    Status.FAILED,
    UNLISTED,
    "the API said that it was done, and lists no code of this value: look at the voucher's codes before you retry",
)
GONE = Settlement(Status.FAILED, "refused", "looked up: the API does not know the code")


@dataclass(slots=True)
class SettleReport:
    """How many rows were rescued from dead attempts, found done, given back to be sent again, or failed."""

    rescued: int = 0
    done: int = 0
    given_back: int = 0
    failed: int = 0
    errors: list[ApiError] = field(default_factory=list)


async def settle(connection: Connection, settle_after: timedelta) -> SettleReport:
    """Look up what is due to be looked up. Raises `DatabaseError` and `Stopped`."""
    report = SettleReport()
    async with as_daemon(connection.engine) as tx:
        report.rescued = await outbox_upkeep.rescue(tx, connection.name, settle_after)
        rows = await outbox_upkeep.load_uncertain(tx, connection.name)
    for operation, look_up in ((Operation.ADD, _look_up_adds), (Operation.DELETE, _look_up_deletes)):
        of_operation = [row for row in rows if row.operation is operation]
        for group in _groups(of_operation):
            try:
                await look_up(connection, group, report)
            except ApiError as error:
                report.errors.append(error)
                async with as_daemon(connection.engine) as tx:
                    await outbox.postpone(tx, [row.id for row in group], LOOK_AGAIN)
    return report


async def _look_up_adds(connection: Connection, rows: Sequence[Uncertain], report: SettleReport) -> None:
    voucher_ids = sorted({row.voucher_id for row in rows})
    start = min(row.server_utc for row in rows) - MARGIN
    for window in split(start, await operations.server_now(connection.client) + MARGIN):
        await _read(connection, voucher_ids, window)
    async with transaction(connection.engine) as tx:
        made = await known_codes.made_for(tx, [row.id for row in rows])
    await _settle(connection, [row for row in rows if row.id in made], FOUND, made)
    left = [row for row in rows if row.id not in made]
    changed = [row for row in left if row.was_answered]
    await _settle(connection, [row for row in left if not row.was_answered], NOT_FOUND)
    await _settle(connection, changed, CHANGED)
    report.done += len(made)
    report.given_back += len(left) - len(changed)
    report.failed += len(changed)


async def _look_up_deletes(connection: Connection, rows: Sequence[Uncertain], report: SettleReport) -> None:
    code_ids = {row.voucher_code_id for row in rows if row.voucher_code_id}
    codes = await read_codes(connection, sorted({row.voucher_id for row in rows}), sorted(code_ids))
    is_active = {code.id: code.is_active for code in codes}
    states = {row.id: is_active.get(row.voucher_code_id) for row in rows if row.voucher_code_id}
    deleted = [row for row in rows if states[row.id] is False]
    active = [row for row in rows if states[row.id] is True]
    gone = [row for row in rows if states[row.id] is None]
    await _settle(connection, deleted, FOUND)
    await _settle(connection, active, NOT_FOUND)
    await _settle(connection, gone, GONE)
    report.done += len(deleted)
    report.given_back += len(active)
    report.failed += len(gone)


async def _read(connection: Connection, voucher_ids: Sequence[UUID], window: Window) -> None:
    """Everything that was updated in a window, into the mirror."""
    cursor: UUID | None = None
    while True:
        page = await operations.voucher_codes(
            connection.client, voucher_ids, window, page_size=MAX_PAGE_SIZE, cursor=cursor, priority=Priority.PUSH
        )
        async with transaction(connection.engine) as tx:
            await mirror.store_voucher_codes(tx, connection.name, page.records)
            await rejected.keep(tx, connection.name, page.rejected)
        if page.is_last(MAX_PAGE_SIZE):
            return
        cursor = page.cursor


async def _settle(
    connection: Connection, rows: Sequence[Uncertain], settlement: Settlement, code_ids: dict[int, UUID] | None = None
) -> None:
    of_attempt: defaultdict[UUID, list[int]] = defaultdict(list)
    for row in rows:
        of_attempt[row.attempt_id].append(row.id)
    async with as_daemon(connection.engine) as tx:
        for attempt_id, row_ids in of_attempt.items():
            await outbox.settle(tx, attempt_id, row_ids, settlement, code_ids)
            await outbox.end_attempt(tx, attempt_id)


def _groups(rows: Sequence[Uncertain]) -> list[list[Uncertain]]:
    """Rows that one look settles: of at most so many vouchers, and so many rows, as one call takes."""
    by_voucher = sorted(rows, key=lambda row: (row.voucher_id, row.id))
    return [list(chunk) for chunk in chunks(by_voucher, MAX_VOUCHERS)]
