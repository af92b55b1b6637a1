"""Codes that a listing did not show: whether they are gone, told without listing all of their vouchers once more.

One may have moved to a page that was behind us; then it changed meanwhile, and a window shows it. And what is active
still, the API finds by its value, where it finds another code of the voucher so, which it listed and which may be used
just when that one may. For the rest, and where a listing costs no more, vouchers are listed again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import candidates
from sync.audit.candidates import Mirrored, Usable
from sync.audit.context import CONCERNS_SOME, AuditRun
from sync.audit.store import Scope
from sync.connection.server_time import server_now
from sync.core.api_errors import InvalidResponse
from sync.mews import operations
from sync.mews.limits import MAX_PAGE_SIZE, PageSize, Window
from sync.mews.rate_limiter import Priority
from sync.mirror.windows import chunks

LONGEST_WINDOW = timedelta(days=1)
"""Of more time than this, as before a backfill has ended, a window shows too much."""
SHORTEST_WINDOW = timedelta(seconds=1)
"""The API counts whole seconds, and takes equal ends for equality."""
LOOK_AHEAD = timedelta(minutes=1)


async def left_to_list_again(run: AuditRun, scopes: Mapping[UUID, Scope], codes: int) -> list[UUID]:
    """The vouchers of which a listing alone tells whether their unlisted codes are gone; they have so many `codes`."""
    server_utc = await server_now(run.connection)
    unlisted = await _load(run, scopes, server_utc)
    calls = 3 + -(-len(unlisted) // operations.MAX_IDS)
    if calls >= codes / MAX_PAGE_SIZE or not await _drop_changed(run, scopes, server_utc + LOOK_AHEAD):
        return list(scopes)
    unlisted = await _load(run, scopes, server_utc)
    again = {one.voucher_id for one in unlisted if one.usable is None}
    try:
        for usable in Usable:
            alike = [one for one in unlisted if one.usable is usable and one.voucher_id not in again]
            again |= await _not_told(run, alike, usable, server_utc)
    except CONCERNS_SOME:
        return list(scopes)
    return sorted(again)


async def _load(run: AuditRun, scopes: Mapping[UUID, Scope], server_utc: datetime) -> list[Mirrored]:
    load = partial(candidates.load_unlisted, connection=run.connection.name, voucher_ids=list(scopes))
    return await run.do(partial(load, server_utc=server_utc))


async def _not_told(run: AuditRun, unlisted: Sequence[Mirrored], usable: Usable, server_utc: datetime) -> set[UUID]:
    """The vouchers of such codes in which the API finds one of them, or does not find what it has listed."""
    vouchers = sorted({one.voucher_id for one in unlisted})
    load = partial(candidates.load_listed, connection=run.connection.name, voucher_ids=vouchers)
    listed = await run.do(partial(load, usable=usable, server_utc=server_utc)) if vouchers else []
    # Whether it searches what is deleted or not usable at present, or in all vouchers, the API does not say.
    searched = await _with_values(run, listed) if listed else set[UUID]()
    again = set(vouchers) - searched
    for some in chunks([one for one in unlisted if one.voucher_id in searched], operations.MAX_IDS):
        again |= await _with_values(run, some)
    return again


async def _drop_changed(run: AuditRun, scopes: Mapping[UUID, Scope], end: datetime) -> bool:
    """Drop what was changed since the listing began; whether that could be read."""
    starts = [scope.settled_before for scope in scopes.values() if scope.settled_before]
    # It lies ahead where the API's clock was put back since: then no window shows what has changed.
    if len(starts) < len(scopes) or not SHORTEST_WINDOW <= end - min(starts) <= LONGEST_WINDOW:
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


async def _with_values(run: AuditRun, codes: Sequence[Mirrored]) -> set[UUID]:
    """Those of the codes' vouchers that have one of their values. Raises `InvalidResponse` if not all can be read."""
    await run.keep_alive()
    vouchers = sorted({one.voucher_id for one in codes})
    values = sorted({one.value for one in codes if one.value})
    services = sorted({one.service_id for one in codes})
    page = await operations.vouchers_with_values(
        run.connection.client, services, values, Priority.AUDIT, voucher_ids=vouchers
    )
    if page.rejected:
        raise InvalidResponse(operations.VOUCHERS_GET_ALL, "a voucher in it cannot be read")
    return {one.id for one in page.records}
