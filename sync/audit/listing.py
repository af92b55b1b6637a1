"""Listing the codes of many vouchers together, and noting what seems to have drifted in each."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import candidates, pages
from sync.audit import store as db
from sync.audit.compare import DRIFT, Comparison, Difference, asked_for
from sync.audit.context import AuditRun
from sync.audit.pages import Listing
from sync.audit.reader import read_vouchers
from sync.audit.store import Scope
from sync.mews import operations
from sync.mews.limits import PageSize
from sync.mews.pages import Page
from sync.mews.rate_limiter import Priority
from sync.mews.records import VoucherCode
from sync.mirror import misplaced, rejected
from sync.mirror.store import CODES

Scopes = Mapping[UUID, Scope]


async def list_group(run: AuditRun, voucher_ids: list[UUID]) -> None:
    """Note what seems to have drifted in up to 1000 vouchers; one that the API refuses is left out, and said to be."""
    name, readers = run.connection.name, list[_Comparing]()
    await misplaced.put_right(run.connection.engine, voucher_ids)
    await run.forget_candidates(voucher_ids)
    begin = partial(db.begin_vouchers, voucher_ids=voucher_ids, overlap=run.settings.overlap)
    scopes = {scope.voucher_id: scope for scope in await run.do(begin)}

    def begin_comparing() -> _Comparing:
        readers.append(_Comparing(run, scopes))
        return readers[-1]

    listed = await read_vouchers(run, scopes.values(), begin_comparing)
    whole = [one.listing for one in readers if one.is_whole]

    async def note(tx: AsyncConnection) -> None:
        await db.require_ours(tx, run.audit)
        # In one transaction: a pool of few may have no second session to write in.
        async for unlisted in pages.unlisted(tx, whole, listed):
            await candidates.note_candidates(tx, name, unlisted, is_listed=False)

    await run.do(note)
    counts = {scope.voucher_id: run.voucher(scope.voucher_id).counts for scope in listed}
    await run.do(lambda tx: db.save_listed(tx, run.audit, listed, counts))
    await run.do(lambda tx: db.finish_vouchers(tx, run.audit, list(counts)))
    await run.do(lambda tx: pages.forget(tx, [one.listing for one in readers]))


async def list_again(run: AuditRun, scopes: Scopes) -> None:
    """Drop of what the API did not list what a second listing shows: it had moved to a page that was behind us."""
    unlisted = await run.do(lambda tx: candidates.unlisted_of(tx, run.connection.name, list(scopes)))
    await read_vouchers(run, scopes.values(), lambda: _LookingFor(run, unlisted))


class _Comparing:
    """Compares pages with the mirror, and counts what differs in no way that is to be looked at once more.

    What it has counted and seen is only true once all was listed: one that begins anew shows its codes once more, and
    not what was deleted meanwhile.
    """

    def __init__(self, run: AuditRun, scopes: Scopes) -> None:
        self.listing, self.is_whole = Listing(run.connection.name), False
        self._run, self._scopes = run, scopes
        self._began_at = next(iter(scopes.values())).began_at
        self._counts = defaultdict[UUID, Counter[Difference]](Counter)
        self._codes = 0

    def pages(self, voucher_ids: Sequence[UUID], page_size: PageSize) -> AsyncIterator[Page[VoucherCode]]:
        return operations.all_voucher_codes(self._run.connection.client, voucher_ids, None, Priority.AUDIT, page_size)

    async def take(self, page: Page[VoucherCode]) -> None:
        run = self._run
        listed, vouchers = asked_for(page.records, self._scopes)
        unequal = await run.do(lambda tx: self._note(tx, page, listed))
        for voucher_id, count in vouchers.items():
            self._counts[voucher_id][Difference.EQUAL] += count
        for code, difference in unequal:
            counts = self._counts[code.voucher_id]
            counts[Difference.EQUAL] -= 1
            if difference not in DRIFT:
                counts[difference] += 1
        self._codes += len(listed)
        run.report.codes += len(listed)
        run.on_progress(run.report)

    def end(self, *, is_whole: bool) -> None:
        self.is_whole = is_whole
        if not is_whole:
            self._run.report.codes -= self._codes
            return
        for voucher_id, counts in self._counts.items():
            self._run.voucher(voucher_id).counts.update(+counts)

    async def _note(
        self, tx: AsyncConnection, page: Page[VoucherCode], listed: Sequence[VoucherCode]
    ) -> list[tuple[VoucherCode, Difference]]:
        """Note a page, and candidates of what seems to have drifted; how the codes stand that are not plainly equal."""
        name = self._run.connection.name
        beside = _ids_of_rejected(page)
        if page.rejected:
            await rejected.keep(tx, name, page.rejected)
        unequal = await pages.note_page(tx, self.listing, self._began_at, listed, beside)
        mirrored = await db.mirrored(tx, [code.id for code in unequal]) if unequal else {}
        found = [(code, self._comparison(code).compare(mirrored.get(code.id), code)) for code in unequal]
        drifted = [(code.voucher_id, code.id) for code, difference in found if difference in DRIFT]
        if drifted:
            await candidates.note_candidates(tx, name, drifted, is_listed=True)
        if self._run.has_rejected:
            others = {*beside, *(code.id for code, difference in found if difference is not Difference.EQUAL)}
            stand = [str(code.id) for code in listed if code.id not in others]
            await rejected.forget(tx, name, CODES.name, stand)
        return found

    def _comparison(self, code: VoucherCode) -> Comparison:
        scope = self._scopes[code.voucher_id]
        return Comparison(scope.began_at, scope.settled_before)


class _LookingFor:
    """Looks for codes that an earlier listing did not show."""

    def __init__(self, run: AuditRun, unlisted: set[UUID]) -> None:
        self._run, self._unlisted = run, unlisted

    def pages(self, voucher_ids: Sequence[UUID], page_size: PageSize) -> AsyncIterator[Page[UUID]]:
        return operations.all_voucher_code_ids(self._run.connection.client, voucher_ids, Priority.AUDIT, page_size)

    async def take(self, page: Page[UUID]) -> None:
        found = [one for one in (*page.records, *_ids_of_rejected(page)) if one in self._unlisted]
        if found:
            name = self._run.connection.name
            await self._run.do(lambda tx: candidates.drop_listed_after_all(tx, name, found))

    def end(self, *, is_whole: bool) -> None:
        """Nothing was counted."""


def _ids_of_rejected(page: Page[VoucherCode] | Page[UUID]) -> list[UUID]:
    """Codes that the API has, in records that cannot be stored: they are not missing."""
    found = []
    for record in page.rejected:
        with suppress(ValueError, TypeError):
            found.append(UUID(record.record_id or ""))
    return found
