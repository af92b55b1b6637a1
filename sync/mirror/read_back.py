"""Looking at the API for what a write may have done: everything read goes into the mirror."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.core.api_errors import InvalidRequest, RequestTimedOut
from sync.core.bisection import Bisection
from sync.mews import operations
from sync.mews.limits import PageSize, Window
from sync.mews.pages import Page
from sync.mews.rate_limiter import Priority
from sync.mews.records import VoucherCode
from sync.mirror import rejected, upsert
from sync.mirror.refused_vouchers import refused_among
from sync.mirror.store import CODES, store_page
from sync.mirror.windows import ReadLimits, reduce, split
from sync.postgres.engine import in_transaction


async def read_changed(
    connection: Connection, voucher_ids: Sequence[UUID], start: datetime, end: datetime
) -> Sequence[UUID]:
    """Read what was updated in some time of up to 1000 vouchers; the vouchers that could be read.

    What the API calls too heavy is asked for in smaller pieces, and vouchers that it refuses are left out.
    """
    left, page_size, limit = list(split(start, end)), PageSize(), None
    while left and voucher_ids:
        window, *others = left
        try:
            await _read_pages(connection, voucher_ids, window, page_size)
        except RequestTimedOut:
            reduced = reduce(ReadLimits(page_size.count, limit), window)
            if reduced is None and len(voucher_ids) == 1:
                raise
            await connection.client.back_off()
            if reduced is None:
                return await _read_halves(connection, voucher_ids, window.start, end)
            limit = reduced.window_limit
            left = [*split(window.start, window.end, limit), *others]
        except InvalidRequest as error:
            voucher_ids = await shown_among(connection, voucher_ids, error, window)
        else:
            left = others
    return voucher_ids


async def _read_halves(
    connection: Connection, voucher_ids: Sequence[UUID], start: datetime, end: datetime
) -> Sequence[UUID]:
    """As `read_changed`, of fewer vouchers at a time."""
    middle = len(voucher_ids) // 2
    halves = (voucher_ids[:middle], voucher_ids[middle:])
    return [shown for half in halves for shown in await read_changed(connection, half, start, end)]


async def read_everything(connection: Connection, voucher_ids: Sequence[UUID]) -> None:
    """Read all codes of up to 1000 vouchers, also those that are in no window."""
    await _read_pages(connection, voucher_ids, None, PageSize())


async def read_codes(
    connection: Connection,
    voucher_ids: Sequence[UUID],
    code_ids: Sequence[UUID],
    *,
    store: bool = True,
    priority: Priority = Priority.PUSH,
) -> list[VoucherCode]:
    """Read up to 1000 codes of up to 1000 vouchers by their ids; none of those that the API does not know.

    `store`: into the mirror. `InvalidRequest` if it is one of the vouchers that the API refuses.
    """
    found: list[VoucherCode] = []
    bisection = Bisection(code_ids)
    while group := bisection.group:
        try:
            pages = await operations.voucher_codes_by_id(connection.client, voucher_ids, group, priority)
        except (InvalidRequest, RequestTimedOut) as error:
            is_for_vouchers = isinstance(error, InvalidRequest) and error.names(operations.VOUCHER_IDS)
            if is_for_vouchers or (isinstance(error, RequestTimedOut) and len(group) == 1):
                raise
            bisection.tell(went_through=False)
            continue
        for page in pages if store else ():
            await _store(connection, page)
        found += [code for page in pages for code in page.records]
        bisection.tell(went_through=True)
    return found


async def read_deleted(connection: Connection, least_age: timedelta = timedelta()) -> int:
    """Read what the API says of codes that were deleted here at least so long ago, 1000 a call, as long as it tells
    anything new. Returns the number of codes that it does not show as deleted yet, of the next 1000.
    """

    async def load() -> list[tuple[UUID, UUID]]:
        return await in_transaction(connection.engine, lambda tx: upsert.noted_deletes(tx, connection.name, least_age))

    left = await load()
    while left:
        await _read_of_shown(connection, left)
        before, left = left, await load()
        if not set(before).difference(left):
            break
    return len(left)


async def _read_of_shown(connection: Connection, codes: Sequence[tuple[UUID, UUID]]) -> None:
    """Read codes, each given with its voucher, but for those whose vouchers the API refuses."""
    voucher_ids: Sequence[UUID] = sorted({voucher_id for _, voucher_id in codes})
    while voucher_ids:
        shown = set(voucher_ids)
        of_these = [code_id for code_id, voucher_id in codes if voucher_id in shown]
        try:
            await read_codes(connection, voucher_ids, of_these)
        except InvalidRequest as error:
            voucher_ids = await shown_among(connection, voucher_ids, error)
        else:
            return


async def shown_among(
    connection: Connection, voucher_ids: Sequence[UUID], error: InvalidRequest, window: Window | None = None
) -> Sequence[UUID]:
    """The vouchers without those for which the API refuses them all; raises `error` where it is not for them."""
    if not error.names(operations.VOUCHER_IDS):
        raise error
    refused = set(await refused_among(connection.client, voucher_ids, window))
    if not refused:
        raise error
    return [one for one in voucher_ids if one not in refused]


async def _read_pages(
    connection: Connection, voucher_ids: Sequence[UUID], window: Window | None, page_size: PageSize
) -> None:
    async for page in operations.all_voucher_codes(connection.client, voucher_ids, window, Priority.PUSH, page_size):
        await _store(connection, page)


async def _store(connection: Connection, page: Page[VoucherCode]) -> None:
    async def store(tx: AsyncConnection, page: Page[VoucherCode], _written: int) -> None:
        await upsert.store_voucher_codes(tx, connection.name, page.records)
        await rejected.keep(tx, connection.name, page.rejected)

    await store_page(connection, CODES, page, store)
