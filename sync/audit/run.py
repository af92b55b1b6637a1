"""The audit: every code of every voucher, without a time filter, compared with the mirror row by row.

First each voucher is listed, and what seems to have drifted is noted. Then, unless so much is missing that the API
itself must be at fault, each of those codes is looked at once more before it counts as drift, and before it is mended:
a code may have moved between two pages, or have changed meanwhile.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import store as db
from sync.audit.compare import DRIFT, Comparison, Difference, columns_that_differ, is_suspicious_loss
from sync.audit.repair import refused_before, repair
from sync.audit.report import AuditReport, VoucherReport
from sync.audit.store import Audit, Scope
from sync.connection.connection import Connection
from sync.core.errors import ApiError, InvalidRequest, InvalidResponse, RequestTimedOut
from sync.mews import operations
from sync.mews.limits import MAX_PAGE_SIZE
from sync.mews.pages import Page
from sync.mews.rate_limiter import Priority
from sync.mews.records import VoucherCode
from sync.mirror import rejected
from sync.mirror.read_back import read_codes
from sync.mirror.store import CODES
from sync.mirror.windows import MIN_PAGE_SIZE
from sync.postgres.engine import in_transaction

MAX_BY_ID = 500

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How an audit judges.

    `overlap`: what changed so shortly before the end of what is mirrored is left to the pull. `max_loss`: loss guard.
    `repair`: mend what is found. `accept_loss`: mark codes as missing however many they are.
    """

    overlap: timedelta
    max_loss: float
    repair: bool
    accept_loss: bool = False


OnProgress = Callable[[AuditReport], None]


async def audit(
    connection: Connection, settings: AuditSettings, on_progress: OnProgress = lambda report: None
) -> AuditReport:
    """One audit, or the rest of one that another process left.

    Raises `AuditRunning`, `DatabaseError`, `Stopped`, and `ApiError` where it concerns more than one voucher.
    """
    ours = await in_transaction(connection.engine, lambda tx: db.begin(tx, connection.name))
    run = _Run(connection, settings, ours, on_progress)
    try:
        return await run.run()
    except BaseException:
        await in_transaction(connection.engine, lambda tx: db.release(tx, ours))
        raise


class _Run:
    def __init__(self, connection: Connection, settings: AuditSettings, ours: Audit, on_progress: OnProgress) -> None:
        self._report = AuditReport()
        self._connection = connection
        self._settings = settings
        self._audit = ours
        self._on_progress = on_progress
        self._has_refused = False

    async def run(self) -> AuditReport:
        report = self._report
        self._connection.refusals.forget()
        voucher_ids = await self._do(lambda tx: db.left_to_list(tx, self._audit))
        self._has_refused = await self._do(lambda tx: rejected.has_refused(tx, self._connection.name))
        for number, voucher_id in enumerate(voucher_ids):
            report.vouchers_left = len(voucher_ids) - number
            await self._list_voucher(voucher_id)
        report.vouchers_left = 0
        report.braked = await self._brake()
        for scope in await self._do(lambda tx: db.left_to_confirm(tx, self._audit)):
            await self._confirm(scope)
        for voucher_id, counts, repaired in await self._do(self._finish):
            # With what the process compared that had begun this audit.
            voucher = report.vouchers.setdefault(voucher_id, VoucherReport(voucher_id))
            voucher.counts, voucher.repaired = +Counter(counts), repaired
        return report

    async def _finish(self, tx: AsyncConnection) -> list[tuple[UUID, dict[Difference, int], int]]:
        await rejected.forget_stored(tx, self._connection.name)
        await db.finish(tx, self._audit, self._report.braked)
        return await db.results(tx, self._audit)

    async def _do(self, work: Callable[[AsyncConnection], Awaitable[R]]) -> R:
        return await in_transaction(self._connection.engine, work)

    async def _list_voucher(self, voucher_id: UUID) -> None:
        """Note what seems to have drifted in a voucher; one that the API refuses is left out, and said to be."""
        voucher = self._report.vouchers[voucher_id] = VoucherReport(voucher_id)
        await self._forget_seen()
        await self._forget_candidates(voucher_id)
        scope = await self._do(lambda tx: db.begin_voucher(tx, voucher_id, self._settings.overlap))
        try:
            await self._read(scope, voucher)
        except ApiError as error:
            if not _concerns_one(error):
                raise
            voucher.error = error
        else:
            await self._note_unlisted(scope)
        error_text = str(voucher.error.redacted()) if voucher.error else None
        await self._do(lambda tx: db.save_listed(tx, self._audit, scope, voucher.counts, error_text))
        await self._forget_seen()

    async def _note_unlisted(self, scope: Scope) -> None:
        """Note what the API did not list. In one transaction: a pool of few may have no second session to write in."""
        name = self._connection.name

        async def note(tx: AsyncConnection) -> None:
            async for code_ids in db.unlisted(tx, name, scope):
                await db.note_candidates(tx, name, scope.voucher_id, code_ids, is_listed=False)

        await self._do(note)

    async def _read(self, scope: Scope, voucher: VoucherReport, *, is_second: bool = False) -> None:
        """List a voucher's codes; the second time only to see which are there."""
        page_size, cursor, seen = MAX_PAGE_SIZE, None, set[UUID]()
        while True:
            try:
                page = await operations.voucher_codes(
                    self._connection.client, [scope.voucher_id], None,
                    page_size=page_size, cursor=cursor, priority=Priority.AUDIT,
                )  # fmt: skip
            except RequestTimedOut:
                if page_size <= MIN_PAGE_SIZE:
                    raise
                page_size = max(MIN_PAGE_SIZE, page_size // 2)
                await self._connection.client.back_off()
                continue
            await self._take(scope, voucher, page, is_second=is_second)
            if page.is_last(page_size):
                return
            cursor = page.cursor
            if cursor is None or cursor in seen:
                raise InvalidResponse(operations.VOUCHER_CODES_GET_ALL, "the pages of a listing go round in a circle")
            seen.add(cursor)

    async def _take(self, scope: Scope, voucher: VoucherReport, page: Page[VoucherCode], *, is_second: bool) -> None:
        name, there = self._connection.name, {code.id: code for code in page.records}
        comparison = Comparison(scope.began_at, scope.settled_before)

        async def note(tx: AsyncConnection) -> list[Difference]:
            await db.keep_alive(tx, self._audit)
            await db.note_seen(tx, name, [*there, *_ids_of_rejected(page)])
            if is_second:
                return []
            await rejected.keep(tx, name, page.rejected)
            here = await db.held(tx, list(there))
            differences = {one: comparison.compare(here.get(one), code) for one, code in there.items()}
            drifted = [one for one, difference in differences.items() if difference in DRIFT]
            await db.note_candidates(tx, name, scope.voucher_id, drifted, is_listed=True)
            if self._has_refused:
                stand = [str(one) for one, difference in differences.items() if difference is Difference.EQUAL]
                await rejected.forget(tx, name, CODES.name, stand)
            return list(differences.values())

        differences = await self._do(note)
        voucher.counts.update(difference for difference in differences if difference not in DRIFT)
        self._report.codes += len(differences)
        self._on_progress(self._report)

    async def _brake(self) -> str | None:
        """Why nothing may be changed: so much is missing that it looks like a fault of the API, or of the token."""
        missing = await self._do(lambda tx: db.count_candidates(tx, self._connection.name))
        held = await self._do(lambda tx: db.count_held(tx, self._connection.name))
        if self._settings.accept_loss or not is_suspicious_loss(missing, held, share=self._settings.max_loss):
            return None
        return (
            f"the API no longer lists {missing:,} of the {held:,} codes of this connection, more than "
            f"{self._settings.max_loss:.0%}: nothing was changed; if that is right, run "
            "`voucher-sync audit --repair --accept-loss`"
        )

    async def _confirm(self, scope: Scope) -> None:
        """Look once more at what seems to have drifted in a voucher, and mend what has."""
        voucher = self._report.vouchers.setdefault(scope.voucher_id, VoucherReport(scope.voucher_id))
        counts: Counter[Difference] = Counter()
        await self._look_for_unlisted(scope, voucher)
        after: UUID | None = None

        async def take(tx: AsyncConnection) -> dict[UUID, bool]:
            await db.keep_alive(tx, self._audit)
            return await db.some_candidates(tx, self._connection.name, scope.voucher_id, after, MAX_BY_ID)

        while candidates := await self._do(take):
            after = max(candidates)
            counts += await self._confirm_some(scope, voucher, candidates)
        await self._do(lambda tx: db.save_confirmed(tx, scope, counts, voucher.repaired))
        await self._forget_candidates(scope.voucher_id)

    async def _look_for_unlisted(self, scope: Scope, voucher: VoucherReport) -> None:
        """List the voucher again where codes were not listed: they may have moved to a page that was behind us."""
        name = self._connection.name
        unlisted = await self._do(lambda tx: db.count_candidates(tx, name, scope.voucher_id))
        if not unlisted or self._report.braked:
            return
        await self._forget_seen()
        await self._read(scope, voucher, is_second=True)
        await self._do(lambda tx: db.drop_seen_candidates(tx, name, scope.voucher_id))
        await self._forget_seen()

    async def _confirm_some(
        self, scope: Scope, voucher: VoucherReport, candidates: dict[UUID, bool]
    ) -> Counter[Difference]:
        listed = [one for one, is_listed in candidates.items() if is_listed]
        # The mirror's rows are read first: whatever writes them from now on makes them ones that are left alone.
        here = await self._do(lambda tx: db.held(tx, list(candidates)))
        there = await self._read_by_id(scope.voucher_id, listed)
        comparison = Comparison(scope.began_at, scope.settled_before)
        differences = {
            one: comparison.compare(here.get(one), there.get(one)) for one in candidates if one in here or one in there
        }
        for one, difference in differences.items():
            if difference is Difference.DIFFERING:
                voucher.columns.update(columns_that_differ(here[one].code, there[one]) or ["missing_since"])
        if self._settings.repair and not self._report.braked:
            repaired, refused = await repair(self._connection, differences, here, there)
            voucher.repaired += repaired
        else:
            refused = await refused_before(self._connection, differences, there)
        return Counter((differences | dict.fromkeys(refused, Difference.REFUSED)).values())

    async def _read_by_id(self, voucher_id: UUID, code_ids: Sequence[UUID]) -> dict[UUID, VoucherCode]:
        if not code_ids:
            return {}
        codes = await read_codes(self._connection, [voucher_id], code_ids, store=False, priority=Priority.AUDIT)
        return {code.id: code for code in codes}

    async def _forget_seen(self) -> None:
        await self._forget(None)

    async def _forget_candidates(self, voucher_id: UUID) -> None:
        await self._forget(voucher_id)

    async def _forget(self, voucher_id: UUID | None) -> None:
        while await self._do(lambda tx: db.clear_slice(tx, self._connection.name, voucher_id)):
            pass


def _concerns_one(error: ApiError) -> bool:
    """Whether a voucher's listing failed for the voucher, and others may still be compared."""
    return isinstance(error, InvalidRequest | RequestTimedOut | InvalidResponse)


def _ids_of_rejected(page: Page[VoucherCode]) -> list[UUID]:
    """Codes that the API has, in records that cannot be stored: they are not missing."""
    found = []
    for record in page.rejected:
        with suppress(ValueError, TypeError):
            found.append(UUID(record.record_id or ""))
    return found
