"""Whether staged values exist already anywhere in what a token sees, asked before anything is queued.

The mirror and the outbox are asked first, and of what they do not know the API, 1000 values a call. Neither is enough
alone: the mirror may lag, and whether the API's search counts deleted codes is not documented (docs/mews-api.md).
"""

from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.api_errors import InvalidRequest, PayloadTooLarge, RequestTimedOut
from sync.core.bisection import Bisection
from sync.mews import operations
from sync.mews.client import Client
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
    carriers: list[UUID] | None = None
    async for values in staging.good_values(tx, MAX_VALUES):
        if carriers is None:
            hotels = [one.id async for page in operations.enterprises(client) for one in page.records]
            refused += await staging.refuse_unseen(tx, hotels)
            carriers = await _carriers(client, hotels, values[0])
        if taken := await _taken(client, carriers, values):
            refused += await staging.refuse_values(tx, taken)
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


async def _taken(client: Client, service_ids: Sequence[UUID], values: Sequence[str]) -> list[str]:
    """Those of up to 1000 values that the API finds, each asked for until it stands alone.

    What is too much for the API in one call is halved, too: an import of hours must not end with one such answer.
    """
    taken: list[str] = []
    bisection = Bisection(values)
    while group := bisection.group:
        try:
            is_found = await _is_found(client, service_ids, group)
        except (RequestTimedOut, PayloadTooLarge):
            if len(group) == 1:
                raise
            is_found = True
        if is_found and len(group) == 1:
            taken += group
        bisection.tell(went_through=not is_found)
    return taken


async def _is_found(client: Client, service_ids: Sequence[UUID], values: Sequence[str]) -> bool:
    for group in chunks(service_ids, operations.MAX_IDS):
        page = await operations.vouchers_with_values(client, group, values, Priority.AUDIT, page_size=1)
        if page.records or page.rejected:
            return True
    return False
