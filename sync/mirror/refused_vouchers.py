"""Which vouchers of a group it is that the API refuses."""

from collections.abc import Sequence
from uuid import UUID

from sync.core.api_errors import InvalidRequest
from sync.core.bisection import Bisection
from sync.mews import operations
from sync.mews.client import Client
from sync.mews.limits import Window

MAX_PROBES = 64
"""Calls spent at a time; 20 at most find one voucher in a thousand."""


async def refused_among(client: Client, voucher_ids: Sequence[UUID], window: Window | None) -> list[UUID]:
    """Vouchers that a refused group is refused for; not all of them yet, where that would take too many calls."""
    if len(voucher_ids) == 1:
        return list(voucher_ids)
    refused: list[UUID] = []
    bisection, probes = Bisection(voucher_ids, is_refused=True), 0
    while (group := bisection.group) and probes < MAX_PROBES:
        probes += 1
        is_refused = await _is_refused(client, group, window)
        if is_refused and len(group) == 1:
            refused += group
        bisection.tell(went_through=not is_refused)
    return sorted(refused)


async def _is_refused(client: Client, voucher_ids: Sequence[UUID], window: Window | None) -> bool:
    try:
        await operations.voucher_codes(client, voucher_ids, window, page_size=1, cursor=None)
    except InvalidRequest as error:
        if not error.names(operations.VOUCHER_IDS):
            raise
        return True
    return False
