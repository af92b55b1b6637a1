"""Settling what is uncertain: nothing is sent again before a look at the API.

The look waits until the API must show its own writes. What an add has made is told by voucher and value in what was
updated since its attempt began; a delete by the state of its code.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db import known_codes, outbox, outbox_upkeep
from sync.db.engine import in_transaction
from sync.db.outbox import SET_ASIDE, Settlement, as_daemon
from sync.db.outbox_each import Written
from sync.db.outbox_upkeep import Uncertain
from sync.flows.connection import Connection
from sync.flows.look import read_changed, read_codes, read_everything, shown_among
from sync.mews import operations
from sync.model.errors import ApiError, InvalidRequest, StatementRefused
from sync.model.limits import MAX_VOUCHERS
from sync.model.outbox import CLOCK_SKEW, TOGETHER, UNLISTED, Operation, Status, Verdict
from sync.model.windows import chunks

LOOK_AGAIN = timedelta(seconds=10)
LOOK_AHEAD = timedelta(minutes=1)
"""How far beyond the present, as it is known here, a look reads: mostly once is enough then."""
REFUSED_LOOK_AGAIN = timedelta(minutes=5)
ALONE_AGAIN = timedelta(minutes=1)
"""How soon a change is sent again that goes alone by now and whose outcome is unknown all the same."""
NOT_SHOWN = (
    "it is unknown whether this was done, and the API does not show its voucher, so it is looked up every 5 minutes: "
    "ask for access to the voucher again"
)
FOUND = Settlement(Status.DONE, "done")
FOUND_ASIDE = replace(FOUND, error=SET_ASIDE)
NOT_FOUND = Settlement(Status.PENDING, Verdict.NOT_PROCESSED, "looked up: it had no effect")
CHANGED = Settlement(
    Status.FAILED,
    UNLISTED,
    "the API said that it was done, and lists no code of this value: look at the voucher's codes before you retry",
)
GONE = Settlement(Status.FAILED, Verdict.REFUSED, "looked up: the API does not know the code")


@dataclass(slots=True)
class SettleReport:
    """How many rows were rescued from dead attempts, found done, given back to be sent again, or failed."""

    rescued: int = 0
    done: int = 0
    given_back: int = 0
    failed: int = 0
    errors: list[ApiError | StatementRefused] = field(default_factory=list)

    def count(self, status: Status, rows: int) -> None:
        """Count rows that were settled."""
        match status:
            case Status.DONE:
                self.done += rows
            case Status.PENDING:
                self.given_back += rows
            case Status.FAILED:
                self.failed += rows


async def settle(connection: Connection, settle_after: timedelta) -> SettleReport:
    """Look up what is due to be looked up. Raises `DatabaseError` and `Stopped`."""
    report = SettleReport()

    async def take(tx: AsyncConnection) -> tuple[int, list[Uncertain]]:
        rescued = await outbox_upkeep.rescue(tx, connection.name, settle_after)
        return rescued, await outbox_upkeep.load_uncertain(tx, connection.name, connection.set_aside.row_ids())

    report.rescued, rows = await in_transaction(connection.engine, take, as_daemon)
    for group in _groups(rows):
        look_up = _look_up_adds if group[0].operation is Operation.ADD else _look_up_deletes
        try:
            await look_up(connection, group, report)
        except (ApiError, StatementRefused) as error:
            report.errors.append(error)
            await _postpone(connection, group, LOOK_AGAIN)
    return report


async def _look_up_adds(connection: Connection, rows: Sequence[Uncertain], report: SettleReport) -> None:
    rows = await _keep_shown(connection, rows, await _read_until_now(connection, rows))
    left = await _settle_found(connection, rows, report)
    if left:
        is_seen_in_windows = await in_transaction(
            connection.engine, lambda tx: known_codes.stamps_what_it_adds(tx, connection.name)
        )
        if not is_seen_in_windows:
            await read_everything(connection, _vouchers(left))
            left = await _settle_found(connection, left, report)
    await _settle_not_found(connection, left, report)


async def _read_until_now(connection: Connection, rows: Sequence[Uncertain]) -> Sequence[UUID]:
    """Read what was updated since the first of the attempts; the vouchers that could be read.

    What is known of the API's time may lie far behind it, after a slow answer or a sleep of this machine, and a look
    that ends too soon misses what was made. So it ends beyond the present, and goes on if the answers prove it past.
    """
    shown: Sequence[UUID] = _vouchers(rows)
    through = min(row.unknown_since_utc for row in rows) - CLOCK_SKEW
    while (now := await operations.server_now(connection.client)) + CLOCK_SKEW > through:
        end = now + LOOK_AHEAD
        shown = await read_changed(connection, shown, through, end)
        through = end
    return shown


async def _settle_found(connection: Connection, rows: Sequence[Uncertain], report: SettleReport) -> Sequence[Uncertain]:
    """Settle adds whose code has come to be known, the mirror's or one that it cannot hold; the others."""

    async def find(tx: AsyncConnection) -> tuple[dict[int, UUID], dict[int, UUID]]:
        made = await known_codes.made_for(tx, [row.id for row in rows], usable_only=False)
        left = [row.id for row in rows if row.id not in made]
        return made, await known_codes.made_among(tx, left, connection.refusals.codes())

    made, aside = await in_transaction(connection.engine, find)
    await _settle(connection, [row for row in rows if row.id in made], FOUND, report, made)
    await _settle(connection, [row for row in rows if row.id in aside], FOUND_ASIDE, report, aside)
    return [row for row in rows if row.id not in made and row.id not in aside]


async def _settle_not_found(connection: Connection, rows: Sequence[Uncertain], report: SettleReport) -> None:
    settlements = defaultdict[Settlement, list[Uncertain]](list)
    for row in rows:
        settlements[_not_found(row)].append(row)
    for settlement, same in settlements.items():
        await _settle(connection, same, settlement, report)


def _not_found(row: Uncertain) -> Settlement:
    """What becomes of a change that had no effect."""
    if row.outcome == UNLISTED:
        return CHANGED
    if row.outcome == Verdict.REFUSED:
        return Settlement(Status.FAILED, row.outcome, row.last_error)
    return NOT_FOUND if row.attempts < len(TOGETHER) else replace(NOT_FOUND, wait=ALONE_AGAIN)


async def _look_up_deletes(connection: Connection, rows: Sequence[Uncertain], report: SettleReport) -> None:
    targets = {row.id: row.target_code_id for row in rows if row.target_code_id}
    try:
        codes = await read_codes(connection, _vouchers(rows), sorted(set(targets.values())))
    except InvalidRequest as error:
        shown = await shown_among(connection, _vouchers(rows), error)
        if rows := await _keep_shown(connection, rows, shown):
            await _look_up_deletes(connection, rows, report)
        return
    is_active = {code.id: code.is_active for code in codes}
    states = {row.id: is_active.get(targets[row.id]) for row in rows}
    await _settle(connection, [row for row in rows if states[row.id] is False], FOUND, report, targets)
    await _settle_not_found(connection, [row for row in rows if states[row.id] is True], report)
    await _settle(connection, [row for row in rows if states[row.id] is None], GONE, report)


async def _keep_shown(connection: Connection, rows: Sequence[Uncertain], shown: Sequence[UUID]) -> Sequence[Uncertain]:
    """Rows whose vouchers the API shows; of the others it stays unknown what became of them."""
    visible = set(shown)
    await _postpone(
        connection, [row for row in rows if row.voucher_id not in visible], REFUSED_LOOK_AGAIN, reason=NOT_SHOWN
    )
    return [row for row in rows if row.voucher_id in visible]


async def _postpone(
    connection: Connection, rows: Sequence[Uncertain], wait: timedelta, *, reason: str | None = None
) -> None:
    async def postpone(tx: AsyncConnection) -> Iterable[int]:
        free = await outbox_upkeep.lock_free(tx, [row.id for row in rows])
        return (await outbox.postpone(tx, free, wait, reason)).refused

    connection.set_aside.add(await in_transaction(connection.engine, postpone, as_daemon))


async def _settle(
    connection: Connection,
    rows: Sequence[Uncertain],
    settlement: Settlement,
    report: SettleReport,
    code_ids: dict[int, UUID] | None = None,
) -> None:
    async def note(tx: AsyncConnection) -> Written:
        # What a user holds in an open transaction is looked up again; its neighbours do not wait for it.
        free = set(await outbox_upkeep.lock_free(tx, [row.id for row in rows]))
        of_attempt: defaultdict[UUID, list[int]] = defaultdict(list)
        for row in rows:
            if row.id in free:
                of_attempt[row.attempt_id].append(row.id)
        settled = Written()
        for attempt_id, row_ids in of_attempt.items():
            written = await outbox.settle(tx, attempt_id, row_ids, settlement, code_ids)
            settled = Written(settled.ids | written.ids, settled.refused | written.refused)
            await outbox.end_attempt(tx, attempt_id)
        return settled

    settled = await in_transaction(connection.engine, note, as_daemon)
    connection.set_aside.add(settled.refused)
    report.count(settlement.status, len(settled.ids))


def _vouchers(rows: Iterable[Uncertain]) -> list[UUID]:
    return sorted({row.voucher_id for row in rows})


def _groups(rows: Sequence[Uncertain]) -> list[list[Uncertain]]:
    """Rows that one look settles: adds of as many vouchers as one call takes, and deletes of as many codes."""
    adds = [row for row in rows if row.operation is Operation.ADD]
    deletes = sorted(
        (row for row in rows if row.operation is Operation.DELETE), key=lambda row: (row.voucher_id, row.id)
    )
    of_vouchers = [set(chunk) for chunk in chunks(_vouchers(adds), MAX_VOUCHERS)]
    return [
        *([row for row in adds if row.voucher_id in vouchers] for vouchers in of_vouchers),
        *(list(chunk) for chunk in chunks(deletes, MAX_VOUCHERS)),
    ]
