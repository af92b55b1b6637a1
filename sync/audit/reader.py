"""Reading the codes of many vouchers together, newest first.

A group costs pages, however many vouchers it has. One that fails as a whole is halved until the voucher that it fails
for stands alone, so that none costs the others.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

from sync.audit.context import CONCERNS_SOME, AuditRun
from sync.audit.store import Scope
from sync.core.api_errors import ApiError, InvalidRequest
from sync.core.bisection import Bisection
from sync.mews import operations
from sync.mews.limits import PageSize
from sync.mews.pages import Page

MAX_RESTARTS = 3
"""So often a listing begins anew whose cursor the API no longer knows."""

P = TypeVar("P")


class Reader(Protocol[P]):
    """Lists some vouchers to their end, or tries to, once."""

    def pages(self, voucher_ids: Sequence[UUID], page_size: PageSize) -> AsyncIterator[Page[P]]: ...

    async def take(self, page: Page[P]) -> None: ...

    def end(self, *, is_whole: bool) -> None: ...


async def read_vouchers(run: AuditRun, scopes: Collection[Scope], begin: Callable[[], Reader[P]]) -> list[Scope]:
    """List vouchers, by a reader for each try; those that were listed to the end. The others are noted as failed."""
    page_size, listed = PageSize(), list[Scope]()
    bisection = Bisection(list(scopes))
    while group := bisection.group:
        error = await _try(run, [scope.voucher_id for scope in group], begin, page_size)
        if error is None:
            listed += group
        elif len(group) == 1:
            await run.fail(group[0], error)
        bisection.tell(went_through=error is None)
    return listed


async def _try(
    run: AuditRun, voucher_ids: Sequence[UUID], begin: Callable[[], Reader[P]], page_size: PageSize
) -> ApiError | None:
    """List vouchers; why they cannot be listed together."""
    error: ApiError | None = None
    for _ in range(1 + MAX_RESTARTS):
        reader = begin()
        count, error = await _take_pages(run, reader, reader.pages(voucher_ids, page_size))
        reader.end(is_whole=error is None)
        # The record of a cursor that is gone from the API says nothing of the vouchers.
        if not count or not isinstance(error, InvalidRequest) or error.names(operations.VOUCHER_IDS):
            break
    return error


async def _take_pages(run: AuditRun, reader: Reader[P], pages: AsyncIterator[Page[P]]) -> tuple[int, ApiError | None]:
    """Take pages while the next ones are read: how many there were, and what ended them too early."""
    count, error = 0, None

    async def take(page: Page[P]) -> None:
        try:
            await reader.take(page)
        finally:
            run.slots.release()

    try:
        async with asyncio.TaskGroup() as takes:
            try:
                async for page in pages:
                    await run.keep_alive()
                    await run.slots.acquire()
                    takes.create_task(take(page))
                    count += 1
            except CONCERNS_SOME as failure:
                error = failure
    except ExceptionGroup as group:
        # One page's fault ends the others; the first tells the cause.
        raise group.exceptions[0] from group
    return count, error
