"""Codes that a listing did not show: whether they are gone, told without listing all of their vouchers once more.

One may have moved to a page that was behind us; then it changed meanwhile, and a window shows it. And what is active
still, the API finds by its value. For the rest, and where a listing costs no more, vouchers are listed again.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import candidates
from sync.audit.candidates import Unlisted
from sync.audit.context import CONCERNS_SOME, AuditRun
from sync.audit.store import Scope
from sync.connection.server_time import server_now
from sync.mews import operations
from sync.mews.limits import MAX_PAGE_SIZE, PageSize, Window
from sync.mews.rate_limiter import Priority
from sync.mirror.windows import chunks

LONGEST_WINDOW = timedelta(days=1)
"""Of more time than this, as before a backfill has ended, a window shows too much."""
LOOK_AHEAD = timedelta(minutes=1)


async def left_to_list_again(run: AuditRun, scopes: Mapping[UUID, Scope], codes: int) -> list[UUID]:
    """The vouchers of which a listing alone tells whether their unlisted codes are gone; they have so many `codes`."""
    unlisted = await _load(run, scopes)
    calls = 2 + -(-len(unlisted) // operations.MAX_IDS)
    if calls >= codes / MAX_PAGE_SIZE or not await _drop_changed(run, scopes):
        return list(scopes)
    unlisted = await _load(run, scopes)
    told = [one for one in unlisted if one.is_found_by_value]
    again = {one.voucher_id for one in unlisted if not one.is_found_by_value}
    for some in chunks(told, operations.MAX_IDS):
        try:
            again |= await _with_values(run, some)
        except CONCERNS_SOME:
            return list(scopes)
    return sorted(again)


async def _load(run: AuditRun, scopes: Mapping[UUID, Scope]) -> list[Unlisted]:
    return await run.do(lambda tx: candidates.load_unlisted(tx, run.connection.name, list(scopes)))


async def _drop_changed(run: AuditRun, scopes: Mapping[UUID, Scope]) -> bool:
    """Drop what was changed since the listing began; whether that could be read."""
    starts = [scope.settled_before for scope in scopes.values() if scope.settled_before]
    end = await server_now(run.connection) + LOOK_AHEAD
    if len(starts) < len(scopes) or end - min(starts) > LONGEST_WINDOW:
        return False
    window = Window(min(starts), end)
    try:
        pages = operations.all_voucher_codes(run.connection.client, list(scopes), window, Priority.AUDIT, PageSize())
        async for page in pages:
            await run.keep_alive()
            found = [code.id for code in page.records]

            async def drop(tx: AsyncConnection, found: Sequence[UUID] = found) -> None:
                await candidates.drop_listed_after_all(tx, run.connection.name, found)

            if page.rejected:
                return False
            await run.do(drop)
    except CONCERNS_SOME:
        return False
    return True


async def _with_values(run: AuditRun, unlisted: Sequence[Unlisted]) -> set[UUID]:
    """Those vouchers that have a code of one of the values, of whichever."""
    await run.keep_alive()
    vouchers = sorted({one.voucher_id for one in unlisted})
    values = sorted({one.value for one in unlisted if one.value})
    services = sorted({one.service_id for one in unlisted})
    page = await operations.vouchers_with_values(
        run.connection.client, services, values, Priority.AUDIT, voucher_ids=vouchers
    )
    return set(vouchers) if page.rejected else {one.id for one in page.records}
