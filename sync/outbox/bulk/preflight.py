"""Whether staged values exist already anywhere in what a token sees, asked before anything is queued.

The mirror and the outbox are asked first, and of what they do not know the API, 1000 values a call. Neither is enough
alone: the mirror may lag, and whether the API's search counts deleted codes is not documented (docs/mews-api.md).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.api_errors import InvalidRequest, PayloadTooLarge, RequestTimedOut, Unauthorized
from sync.core.bisection import Bisection
from sync.mews import operations
from sync.mews.client import Client
from sync.mews.limits import PageSize
from sync.mews.rate_limiter import Priority
from sync.mirror.windows import chunks
from sync.outbox.bulk import staging

MAX_VALUES = 1000
"""Values in one request."""


async def refuse_taken(tx: AsyncConnection, client: Client, on_progress: Callable[[int, int], None]) -> int:
    """Mark staged lines whose value exists in any voucher, or is queued for one; how many. Raises `ApiError`.

    `on_progress` takes how many values the API was asked for, and of how many. They are asked for in the places that an
    audit may have, so that a daemon beside this goes on.
    """
    refused = await staging.refuse_anywhere(tx)
    asked, left = 0, await staging.count_good(tx)
    search: _Search | None = None
    async for values in staging.good_values(tx, MAX_VALUES):
        if search is None:
            hotels = [one.id async for page in operations.enterprises(client) for one in page.records]
            refused += await staging.refuse_unseen(tx, hotels)
            search = _Search(tx, client, await _carriers(client, hotels, values[0]))
        refused += await search.refuse(values)
        asked += len(values)
        on_progress(asked, left)
    return refused


async def _carriers(client: Client, hotels: Sequence[UUID], value: str) -> list[UUID]:
    """Their services that the token sees and that can carry vouchers: one that cannot has the whole call refused."""
    carriers: list[UUID] = []
    for group in chunks(hotels, operations.MAX_IDS):
        service_ids = [one.id async for page in operations.services(client, group) for one in page.records]
        for asked in chunks(service_ids, operations.MAX_IDS):
            carriers += await _carriers_among(client, asked, value)
    return carriers


async def _carriers_among(client: Client, service_ids: Sequence[UUID], value: str) -> list[UUID]:
    carriers: list[UUID] = []
    bisection = Bisection(service_ids)
    while group := bisection.group:
        refusal = None
        try:
            await operations.vouchers_with_values(client, group, [value], Priority.AUDIT, page_size=1)
        except InvalidRequest as error:
            if not error.names(operations.SERVICE_IDS):
                raise
            refusal = error
        else:
            carriers += group
        bisection.tell(went_through=refusal is None)
    return carriers


class _Search:
    """Asks for values in the vouchers of services that can carry any, `carriers`."""

    def __init__(self, tx: AsyncConnection, client: Client, carriers: Sequence[UUID]) -> None:
        self._tx, self._client, self._carriers = tx, client, carriers
        self._listed = set[UUID]()

    async def refuse(self, values: Sequence[str]) -> int:
        """Mark lines with those of up to 1000 values that the API finds; how many, also of other values.

        It tells in which vouchers it finds any, not which: that is read off the newest codes of these, a thousand in a
        call. What of the rest it finds is asked for until each stands alone, so nothing that it finds is passed over.
        """
        refused, left = 0, list(values)
        while left:
            holders = await self._holders(left)
            if holders is None:
                return refused
            new = holders - self._listed
            marked, left = await self._refuse_listed(sorted(new), left)
            refused += marked
            if not marked:
                return refused + await staging.refuse_values(self._tx, await self._alone(left))
        return refused

    async def _holders(self, values: Sequence[str]) -> set[UUID] | None:
        """Vouchers that have any of these values, as far as the API shows which; None: it finds none."""
        holders, is_found = set[UUID](), False
        for group in chunks(self._carriers, operations.MAX_IDS):
            try:
                page = await operations.vouchers_with_values(self._client, group, values, Priority.AUDIT)
            except (RequestTimedOut, PayloadTooLarge):
                is_found = True
            else:
                holders.update(voucher.id for voucher in page.records)
                is_found = is_found or bool(page.records or page.rejected)
        return holders if is_found else None

    async def _refuse_listed(self, vouchers: Sequence[UUID], values: list[str]) -> tuple[int, list[str]]:
        """Mark lines with values of these vouchers, from the newest codes on while there are any; how many, and what
        of `values` is left."""
        self._listed.update(vouchers)
        refused, page_size = 0, PageSize()
        for group in chunks(vouchers, operations.MAX_IDS):
            # Too heavy, deleted just now, or not permitted: then what is left of them is asked for.
            with suppress(RequestTimedOut, InvalidRequest, Unauthorized):
                async for page in operations.all_voucher_codes(self._client, group, None, Priority.AUDIT, page_size):
                    listed = {code.value for code in page.records if code.value is not None}
                    marked = await staging.refuse_values(self._tx, list(listed))
                    if not marked:
                        break
                    refused, values = refused + marked, [value for value in values if value not in listed]
        return refused, values

    async def _alone(self, values: Sequence[str]) -> list[str]:
        """Those of values of which some are found that the API finds, each asked for until it stands alone.

        What is too much for the API in one call is halved, too: an import of hours must not end with one such answer.
        """
        taken: list[str] = []
        bisection = Bisection(values, is_refused=len(values) > 1)
        while group := bisection.group:
            try:
                is_found = await self._is_found(group)
            except (RequestTimedOut, PayloadTooLarge):
                if len(group) == 1:
                    raise
                is_found = True
            if is_found and len(group) == 1:
                taken += group
            bisection.tell(went_through=not is_found)
        return taken

    async def _is_found(self, values: Sequence[str]) -> bool:
        for group in chunks(self._carriers, operations.MAX_IDS):
            page = await operations.vouchers_with_values(self._client, group, values, Priority.AUDIT, page_size=1)
            if page.records or page.rejected:
                return True
        return False
