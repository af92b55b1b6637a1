"""Reconciling what is uncertain: nothing is sent again before a look at the API.

The look waits until the API must show its own writes. What an add has made is told by voucher and value in what was
updated since its attempt began; a delete by the state of its code.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.connection.server_time import server_now
from sync.core.api_errors import ApiError, InvalidRequest, PayloadTooLarge, RequestTimedOut
from sync.core.errors import ClockRefused, StatementRefused, VoucherSyncError
from sync.mews import operations
from sync.mews.limits import MAX_VOUCHERS
from sync.mews.rate_limiter import Priority
from sync.mirror.read_back import read_changed, read_codes, read_everything, shown_among
from sync.mirror.windows import chunks
from sync.outbox import claims, expired_claims, future_rows, lookups, moved, uncertain
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claims import as_daemon
from sync.outbox.completion import Completed, complete
from sync.outbox.database_clock import PutOff
from sync.outbox.lookup_outcomes import LookedUp, resolve_lookup
from sync.outbox.outcomes import Resolved
from sync.outbox.rules import CLOCK_SKEW, Operation, Status, Uncertain
from sync.outbox.uncertain import NOT_SHOWN
from sync.postgres.engine import in_transaction

RECHECK_AFTER = timedelta(seconds=10)
LOOK_AHEAD = timedelta(minutes=1)
"""How far beyond the present, as it is known here, a look reads: mostly once is enough then."""
REFUSED_RECHECK_AFTER = timedelta(minutes=5)


@dataclass(slots=True)
class ReconcileReport:
    """How many rows were found done, given back to be sent again, or failed; `rescued`: were in claims that expired."""

    rescued: int = 0
    done: int = 0
    given_back: int = 0
    failed: int = 0
    errors: list[VoucherSyncError] = field(default_factory=list)

    def count(self, completed: Completed) -> None:
        """Count rows by what the database says that they became."""
        self.done += completed.counts[Status.DONE]
        self.given_back += completed.counts[Status.PENDING]
        self.failed += completed.counts[Status.FAILED]


async def reconcile(connection: Connection, watch: ClaimWatch, read_after_write_delay: timedelta) -> ReconcileReport:
    """Look up what is due to be looked up. Raises `DatabaseError` and `Stopped`."""
    report, clock = ReconcileReport(), watch.database_clock

    async def take(tx: AsyncConnection) -> tuple[int, list[Uncertain], timedelta, PutOff]:
        await future_rows.make_due(tx, connection.name)
        rescued = await expired_claims.expire_claims(
            tx, connection.name, watch, read_after_write_delay, with_orphans=with_orphans
        )
        await future_rows.observe(tx, connection.name, clock)
        went_back = clock.went_back
        missed = await future_rows.bring_forward(tx, connection.name, went_back, clock.missed)
        if clock.wait_s(even_for=read_after_write_delay):
            return rescued, [], went_back, missed  # what is due by that clock may have been sent a moment ago
        rows = await uncertain.load_uncertain(
            tx, connection.name, connection.set_aside.row_ids(), with_orphans=with_orphans
        )
        return rescued, rows, went_back, missed

    with_orphans = watch.is_time_for_orphans()
    report.rescued, rows, went_back, missed = await in_transaction(connection.engine, take, as_daemon)
    clock.note_brought(went_back, missed)  # only now: a transaction that is begun anew has brought nothing forward
    for group in _groups(rows):
        look_up = _look_up_adds if group[0].operation is Operation.ADD else _look_up_deletes
        try:
            await look_up(connection, group, report)
        except (ApiError, ClockRefused, StatementRefused) as error:
            report.errors.append(error)
            await _postpone(connection, group, RECHECK_AFTER)
    return report


async def _look_up_adds(connection: Connection, rows: Sequence[Uncertain], report: ReconcileReport) -> None:
    rows = await _keep_shown(connection, rows, await _read_until_now(connection, rows))
    left = await _complete_found(connection, rows, report)
    if left and (voucher_ids := await _hidden_from_windows(connection, left)):
        await read_everything(connection, voucher_ids)
        left = await _complete_found(connection, left, report)
    await _apply(connection, resolve_lookup(left, {}), report)


async def _hidden_from_windows(connection: Connection, rows: Sequence[Uncertain]) -> list[UUID]:
    """Vouchers that may have codes of these adds in no window, as those without `UpdatedUtc` are: all of them, where
    the API makes such codes, or has put its clock back since they were sent; else those in which it finds their values,
    which may be older codes of the same value.
    """
    if await server_now(connection) + CLOCK_SKEW < max(row.unknown_since_utc for row in rows):
        return _vouchers(rows)
    row_ids = [row.id for row in rows]
    if not await in_transaction(connection.engine, lambda tx: lookups.stamps_what_it_adds(tx, connection.name)):
        return _vouchers(rows)
    values, service_ids = await in_transaction(connection.engine, lambda tx: lookups.values_and_services(tx, row_ids))
    found: set[UUID] = set()
    search = partial(operations.vouchers_with_values, connection.client, priority=Priority.PUSH)
    for services in chunks(service_ids, operations.MAX_IDS):
        for asked in chunks(values, operations.MAX_IDS):
            try:
                page = await search(services, asked, voucher_ids=_vouchers(rows))
            except (InvalidRequest, RequestTimedOut, PayloadTooLarge):
                return _vouchers(rows)  # one of a service that the API has come to refuse, or more than it can search
            if page.rejected:
                return _vouchers(rows)
            found |= {one.id for one in page.records}
    return sorted(found)


async def _read_until_now(connection: Connection, rows: Sequence[Uncertain]) -> Sequence[UUID]:
    """Read what was updated since the first of the attempts; the vouchers that could be read.

    What is known of the API's time may lie far behind it, after a slow answer or a sleep of this machine, and a look
    that ends too soon misses what was made. So it ends beyond the present, and goes on if the answers prove it past.
    """
    shown: Sequence[UUID] = _vouchers(rows)
    through = min(await server_now(connection), *(row.unknown_since_utc for row in rows)) - CLOCK_SKEW
    while (now := await server_now(connection)) + CLOCK_SKEW > through:
        end = now + LOOK_AHEAD
        shown = await read_changed(connection, shown, through, end)
        through = end
    return shown


async def _complete_found(
    connection: Connection, rows: Sequence[Uncertain], report: ReconcileReport
) -> Sequence[Uncertain]:
    """Complete adds whose code has come to be known, the mirror's or one that it cannot hold; the others."""

    async def find(tx: AsyncConnection) -> tuple[dict[int, UUID], dict[int, UUID]]:
        made = await lookups.made_for(tx, [row.id for row in rows], usable_only=False)
        left = [row.id for row in rows if row.id not in made]
        return made, await lookups.made_among(tx, left, connection.refusals.codes())

    made, hidden = await in_transaction(connection.engine, find)
    code_ids = made | hidden
    found = [row for row in rows if row.id in code_ids]
    await _apply(connection, resolve_lookup(found, code_ids, hidden=hidden), report)
    return [row for row in rows if row.id not in code_ids]


async def _look_up_deletes(connection: Connection, rows: Sequence[Uncertain], report: ReconcileReport) -> None:
    targets = {row.id: row.target_code_id for row in rows if row.target_code_id}
    try:
        codes = await read_codes(connection, _vouchers(rows), sorted(set(targets.values())))
    except InvalidRequest as error:
        shown = await shown_among(connection, _vouchers(rows), error)
        if rows := await _keep_shown(connection, rows, shown):
            await _look_up_deletes(connection, rows, report)
        return
    is_active = {code.id: code.is_active for code in codes}
    deleted = {row_id: code_id for row_id, code_id in targets.items() if is_active.get(code_id) is False}
    unknown = {row.id for row in rows if row.target_code_id not in is_active}
    await _apply(connection, resolve_lookup(rows, deleted, unknown=unknown), report)


async def _keep_shown(connection: Connection, rows: Sequence[Uncertain], shown: Sequence[UUID]) -> Sequence[Uncertain]:
    """Rows whose vouchers the API shows; of the others it stays unknown what became of them.

    Those whose voucher is another connection's by now are looked up by that one.
    """
    visible = set(shown)
    hidden = [row for row in rows if row.voucher_id not in visible]
    if hidden:
        row_ids = [row.id for row in hidden]
        handed_on = await in_transaction(connection.engine, lambda tx: moved.hand_on_uncertain(tx, row_ids), as_daemon)
        hidden = [row for row in hidden if row.id not in handed_on]
    await _postpone(connection, hidden, REFUSED_RECHECK_AFTER, reason=NOT_SHOWN)
    return [row for row in rows if row.voucher_id in visible]


async def _postpone(
    connection: Connection, rows: Sequence[Uncertain], wait: timedelta, *, reason: str | None = None
) -> None:
    async def postpone(tx: AsyncConnection) -> Iterable[int]:
        free = await uncertain.lock_free(tx, [row.id for row in rows])
        return (await claims.postpone(tx, free, wait, reason)).refused

    connection.set_aside.add(await in_transaction(connection.engine, postpone, as_daemon))


async def _apply(connection: Connection, resolved: Sequence[LookedUp], report: ReconcileReport) -> None:
    """Write what was resolved, in one transaction, and count what that changed."""

    async def write(tx: AsyncConnection) -> list[Completed]:
        # What a user holds in an open transaction is looked up again; its neighbours do not wait for it.
        free = set(await uncertain.lock_free(tx, [row.id for rows, _ in resolved for row in rows]))
        of_attempt = defaultdict[UUID, list[Resolved]](list)
        for rows, completion in resolved:
            for attempt_id, same in _by_attempt(row for row in rows if row.id in free).items():
                of_attempt[attempt_id].append((same, completion))
        return [await complete(tx, attempt_id, parts) for attempt_id, parts in of_attempt.items()]

    for completed in await in_transaction(connection.engine, write, as_daemon):
        connection.set_aside.add(completed.refused)
        report.count(completed)


def _by_attempt(rows: Iterable[Uncertain]) -> dict[UUID, list[Uncertain]]:
    of_attempt = defaultdict[UUID, list[Uncertain]](list)
    for row in rows:
        of_attempt[row.attempt_id].append(row)
    return of_attempt


def _vouchers(rows: Iterable[Uncertain]) -> list[UUID]:
    return sorted({row.voucher_id for row in rows})


def _groups(rows: Sequence[Uncertain]) -> list[list[Uncertain]]:
    """Rows that one read-back reconciles: adds of as many vouchers as one call takes, and deletes of as many codes."""
    adds = [row for row in rows if row.operation is Operation.ADD]
    deletes = sorted(
        (row for row in rows if row.operation is Operation.DELETE), key=lambda row: (row.voucher_id, row.id)
    )
    of_vouchers = [set(chunk) for chunk in chunks(_vouchers(adds), MAX_VOUCHERS)]
    return [
        *([row for row in adds if row.voucher_id in vouchers] for vouchers in of_vouchers),
        *(list(chunk) for chunk in chunks(deletes, MAX_VOUCHERS)),
    ]
