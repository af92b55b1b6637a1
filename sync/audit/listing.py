"""Listing the codes of many vouchers together, newest first, and noting what seems to have drifted in each.

A group costs pages, however many vouchers it has. One that fails as a whole is halved until the voucher that it fails
for stands alone, so that none costs the others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import candidates
from sync.audit import store as db
from sync.audit.compare import DRIFT, Comparison, Difference
from sync.audit.context import CONCERNS_SOME, AuditRun
from sync.audit.store import Scope
from sync.core.bisection import Bisection
from sync.core.errors import ApiError, InvalidRequest
from sync.mews import operations
from sync.mews.limits import PageSize
from sync.mews.pages import Page
from sync.mews.rate_limiter import Priority
from sync.mews.records import VoucherCode
from sync.mirror import rejected
from sync.mirror.store import CODES

MAX_RESTARTS = 3
"""So often a listing begins anew whose cursor the API no longer knows."""

AT_ONCE = 2
"""While the database compares one page, the next is made ready for it; more would keep sessions from other work."""

Scopes = Mapping[UUID, Scope]
Differences = dict[UUID, Difference]
Take = Callable[[Page[VoucherCode]], Awaitable[None]]


async def list_group(run: AuditRun, voucher_ids: list[UUID]) -> None:
    """Note what seems to have drifted in up to 1000 vouchers; one that the API refuses is left out, and said to be."""
    name = run.connection.name
    await run.forget_seen()
    await run.forget_candidates(voucher_ids)
    begin = partial(db.begin_vouchers, voucher_ids=voucher_ids, overlap=run.settings.overlap)
    scopes = {scope.voucher_id: scope for scope in await run.do(begin)}
    listed = await _read(run, scopes, partial(_compare, run, scopes))
    mine = [scopes[one] for one in listed]

    async def note(tx: AsyncConnection) -> None:
        # In one transaction: a pool of few may have no second session to write in.
        async for unlisted in candidates.unlisted(tx, name, mine):
            await candidates.note_candidates(tx, name, unlisted, is_listed=False)

    await run.do(note)
    counts = {one: run.voucher(one).counts for one in listed}
    await run.do(lambda tx: db.save_listed(tx, run.audit, mine, counts))
    await run.do(lambda tx: db.finish_vouchers(tx, run.audit, listed))
    await run.forget_seen()


async def list_again(run: AuditRun, scopes: Scopes) -> None:
    """Drop of what the API did not list what a second listing shows: it had moved to a page that was behind us."""
    name = run.connection.name

    async def take(page: Page[VoucherCode]) -> None:
        code_ids = [*(code.id for code in page.records), *_ids_of_rejected(page)]

        async def drop(tx: AsyncConnection) -> None:
            await db.keep_alive(tx, run.audit)
            await candidates.drop_listed_after_all(tx, name, code_ids)

        await run.do(drop)

    await _read(run, scopes, take)


async def _read(run: AuditRun, scopes: Scopes, take: Take) -> list[UUID]:
    """List vouchers to the end; those of which that could be done."""
    page_size, listed = PageSize(), list[UUID]()
    bisection = Bisection(list(scopes))
    while group := bisection.group:
        error = await _try(run, group, take, page_size)
        if error is None:
            listed += group
        elif len(group) == 1:
            await run.fail(scopes[group[0]], error)
        bisection.tell(went_through=error is None)
    return listed


async def _try(run: AuditRun, group: Sequence[UUID], take: Take, page_size: PageSize) -> ApiError | None:
    """List vouchers; why they cannot be listed together."""
    error: ApiError | None = None
    for _ in range(1 + MAX_RESTARTS):
        listing = operations.all_voucher_codes(run.connection.client, group, None, Priority.AUDIT, page_size)
        pages, error = await _take_pages(listing, take)
        # The record of a cursor that is gone from the API says nothing of the vouchers.
        if not pages or not isinstance(error, InvalidRequest) or error.names(operations.VOUCHER_IDS):
            break
    return error


async def _take_pages(listing: AsyncIterator[Page[VoucherCode]], take: Take) -> tuple[int, ApiError | None]:
    """Take the pages of a listing while the next ones are read: how many there were, and what ended it too early."""
    pages, error, slots = 0, None, asyncio.Semaphore(AT_ONCE)

    async def take_one(page: Page[VoucherCode]) -> None:
        try:
            await take(page)
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as takes:
            try:
                async for page in listing:
                    await slots.acquire()
                    takes.create_task(take_one(page))
                    pages += 1
            except CONCERNS_SOME as failure:
                error = failure
    except ExceptionGroup as group:
        # One page's fault ends the others; the first tells the cause.
        raise group.exceptions[0] from group
    return pages, error


async def _compare(run: AuditRun, scopes: Scopes, page: Page[VoucherCode]) -> None:
    """Compare a page with the mirror, and count what differs in no way that is to be looked at once more."""
    listed = {code.id: code for code in page.records if code.voucher_id in scopes}

    async def note(tx: AsyncConnection) -> Differences:
        await db.keep_alive(tx, run.audit)
        if beside := _ids_of_rejected(page):
            await candidates.note_seen(tx, run.connection.name, beside)
            await rejected.keep(tx, run.connection.name, page.rejected)
        return await _note_differences(tx, run, scopes, listed) if listed else {}

    differences = await run.do(note)
    for one, difference in differences.items():
        if difference not in DRIFT:
            run.voucher(listed[one].voucher_id).counts[difference] += 1
    run.report.codes += len(differences)
    run.on_progress(run.report)


async def _note_differences(
    tx: AsyncConnection, run: AuditRun, scopes: Scopes, listed: Mapping[UUID, VoucherCode]
) -> Differences:
    """How codes stand, and candidates of those that seem to have drifted; none that this listing has shown before."""
    name, began_at = run.connection.name, next(iter(scopes.values())).began_at
    again, unequal = await candidates.note_listed(tx, name, began_at, list(listed.values()))
    mirrored = await db.held(tx, unequal) if unequal else {}
    differences = dict.fromkeys(listed.keys() - again, Difference.EQUAL)
    for one in unequal:
        scope = scopes[listed[one].voucher_id]
        comparison = Comparison(scope.began_at, scope.settled_before)
        differences[one] = comparison.compare(mirrored.get(one), listed[one])
    drifted = [(listed[one].voucher_id, one) for one in unequal if differences[one] in DRIFT]
    if drifted:
        await candidates.note_candidates(tx, name, drifted, is_listed=True)
    if run.has_refused:
        stand = [str(one) for one, difference in differences.items() if difference is Difference.EQUAL]
        await rejected.forget(tx, name, CODES.name, stand)
    return differences


def _ids_of_rejected(page: Page[VoucherCode]) -> list[UUID]:
    """Codes that the API has, in records that cannot be stored: they are not missing."""
    found = []
    for record in page.rejected:
        with suppress(ValueError, TypeError):
            found.append(UUID(record.record_id or ""))
    return found
