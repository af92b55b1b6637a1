"""The operations that are used, each as one function: what goes into its body and what comes out.

Source: docs/mews-api.md, *Operations used*. They raise what `Client.read` and `Client.write` raise.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sync.core.api_errors import ApiError, InvalidRequest, InvalidResponse, RequestTimedOut
from sync.core.errors import ClockRefused
from sync.mews import wire
from sync.mews.client import Client
from sync.mews.limits import MAX_PAGE_SIZE, PageSize, Window, smaller_page
from sync.mews.pages import Listing, Page, read_all
from sync.mews.rate_limiter import Priority
from sync.mews.records import Enterprise, Service, Voucher, VoucherAssignment, VoucherCode

R = TypeVar("R")

ENTERPRISES_GET_ALL = "enterprises/getAll"
SERVICES_GET_ALL = "services/getAll"
VOUCHERS_GET_ALL = "vouchers/getAll"
VOUCHER_CODES_GET_ALL = "voucherCodes/getAll"
VOUCHER_CODES_ADD = "voucherCodes/add"
VOUCHER_CODES_DELETE = "voucherCodes/delete"

ENTERPRISES: Listing[Enterprise] = Listing("Enterprises", wire.EnterpriseWire, required=True)
SERVICES: Listing[Service] = Listing("Services", wire.ServiceWire, required=True)
VOUCHERS: Listing[Voucher] = Listing("Vouchers", wire.VoucherWire, required=False)
VOUCHER_ASSIGNMENTS: Listing[VoucherAssignment] = Listing(
    "VoucherAssignments", wire.VoucherAssignmentWire, required=False
)
VOUCHER_CODES: Listing[VoucherCode] = Listing(
    "VoucherCodes", wire.VoucherCodeWire, required=True, read_all=wire.voucher_codes
)
VOUCHER_CODE_IDS: Listing[UUID] = Listing("VoucherCodes", wire.BareVoucherCodeWire, required=True)
"""As `VOUCHER_CODES`, where nothing but their ids is asked for: read in a third of the time."""

SERVICE_IDS, VOUCHER_IDS = "ServiceIds", "VoucherIds"
"""As the API names a parameter that it refuses: `Invalid VoucherIds`."""
MAX_IDS = 1000
"""Ids in one request."""
CLOCK_TO_DO = (
    "set this machine's clock (NTP) if it is the wrong one; else see that no proxy rewrites the Date header, and tell "
    "the vendor. Until one of them confirms the API's (SYNC_CLOCK_TOLERANCE_S), nothing is pulled and no add sent"
)
EXTENT = {"Vouchers": True, "VoucherAssignments": True, "Rates": False}


@dataclass(frozen=True, slots=True)
class VoucherPage:
    """One answer of `vouchers/getAll`: vouchers, and the rates that they give access to."""

    vouchers: Page[Voucher]
    assignments: Page[VoucherAssignment]


def enterprises(client: Client) -> AsyncIterator[Page[Enterprise]]:
    """Every enterprise that the token can see."""

    async def read_page(cursor: UUID | None) -> Page[Enterprise]:
        return await client.read(ENTERPRISES_GET_ALL, limitation(MAX_PAGE_SIZE, cursor), ENTERPRISES.decode)

    return read_all(ENTERPRISES_GET_ALL, read_page, _next_cursor)


def services(client: Client, enterprise_ids: Sequence[UUID]) -> AsyncIterator[Page[Service]]:
    """Every service of up to 1000 enterprises."""

    async def read_page(cursor: UUID | None) -> Page[Service]:
        parameters = {"EnterpriseIds": enterprise_ids, **limitation(MAX_PAGE_SIZE, cursor)}
        return await client.read(SERVICES_GET_ALL, parameters, SERVICES.decode)

    return read_all(SERVICES_GET_ALL, read_page, _next_cursor)


def vouchers(client: Client, service_ids: Sequence[UUID]) -> AsyncIterator[VoucherPage]:
    """Every voucher of up to 1000 services, deleted ones too.

    `InvalidRequest` if one of the services cannot carry vouchers.
    """

    def decode(body: bytes) -> VoucherPage:
        return VoucherPage(VOUCHERS.decode(body), VOUCHER_ASSIGNMENTS.decode(body))

    async def read_page(cursor: UUID | None) -> VoucherPage:
        parameters = {"Extent": EXTENT, "ServiceIds": service_ids, **limitation(MAX_PAGE_SIZE, cursor)}
        return await client.read(VOUCHERS_GET_ALL, parameters, decode)

    return read_all(VOUCHERS_GET_ALL, read_page, lambda page: _next_cursor(page.vouchers))


async def vouchers_with_values(
    client: Client,
    service_ids: Sequence[UUID],
    values: Sequence[str],
    priority: Priority,
    *,
    voucher_ids: Sequence[UUID] | None = None,
    page_size: int = MAX_PAGE_SIZE,
) -> Page[Voucher]:
    """Vouchers of up to 1000 services that have a code of one of up to 1000 values; an empty page if none has.

    `voucher_ids`: of these up to 1000 vouchers only. `InvalidRequest` if one of the services cannot carry vouchers; any
    other error comes without the API's words, which may quote the values: daemons log it. Whether the API counts
    deleted codes, and upper or lower case, it does not say.
    """
    of_vouchers = {} if voucher_ids is None else {"VoucherIds": voucher_ids}
    asked = {"Extent": {"Vouchers": True}, "ServiceIds": service_ids, "VoucherCodeValues": values, **of_vouchers}
    try:
        return await client.read(VOUCHERS_GET_ALL, {**asked, **limitation(page_size, None)}, VOUCHERS.decode, priority)
    except InvalidRequest:
        raise
    except ApiError as error:
        raise (error if error.status is None else error.redacted()) from None


async def voucher_codes(
    client: Client,
    voucher_ids: Sequence[UUID],
    window: Window | None,
    *,
    page_size: int,
    cursor: UUID | None,
    priority: Priority = Priority.PULL,
) -> Page[VoucherCode]:
    """One page of the codes of up to 1000 vouchers that were updated within a window, newest first; None: of them all.

    `InvalidRequest` for an unknown voucher or cursor, `RequestTimedOut` when less must be asked for.
    """
    updated = {"UpdatedUtc": {"StartUtc": wire.utc(window.start), "EndUtc": wire.utc(window.end)}} if window else {}
    parameters = {"VoucherIds": voucher_ids, **updated, **limitation(page_size, cursor)}
    return await client.read(VOUCHER_CODES_GET_ALL, parameters, VOUCHER_CODES.decode, priority)


async def voucher_code_ids(
    client: Client, voucher_ids: Sequence[UUID], *, page_size: int, cursor: UUID | None, priority: Priority
) -> Page[UUID]:
    """As `voucher_codes` of them all, but no more than the codes' ids."""
    parameters = {"VoucherIds": voucher_ids, **limitation(page_size, cursor)}
    return await client.read(VOUCHER_CODES_GET_ALL, parameters, VOUCHER_CODE_IDS.decode, priority)


def all_voucher_codes(
    client: Client, voucher_ids: Sequence[UUID], window: Window | None, priority: Priority, page_size: PageSize
) -> AsyncIterator[Page[VoucherCode]]:
    """Every page of what `voucher_codes` reads; the page shrinks as the API calls it too heavy.

    Raises as that does: `RequestTimedOut` once the smallest page is too heavy.
    """
    read_page = partial(voucher_codes, client, voucher_ids, window, priority=priority)
    return _all_pages(client, read_page, page_size)


def all_voucher_code_ids(
    client: Client, voucher_ids: Sequence[UUID], priority: Priority, page_size: PageSize
) -> AsyncIterator[Page[UUID]]:
    """As `all_voucher_codes` without a window, but no more than the codes' ids."""
    return _all_pages(client, partial(voucher_code_ids, client, voucher_ids, priority=priority), page_size)


class _ReadPage(Protocol[R]):
    def __call__(self, *, page_size: int, cursor: UUID | None) -> Awaitable[Page[R]]: ...


def _all_pages(client: Client, read_once: _ReadPage[R], page_size: PageSize) -> AsyncIterator[Page[R]]:
    async def read_page(cursor: UUID | None) -> Page[R]:
        while True:
            try:
                return await read_once(page_size=page_size.count, cursor=cursor)
            except RequestTimedOut:
                if (smaller := smaller_page(page_size.count)) is None:
                    raise
                page_size.count = smaller
                await client.back_off()

    return read_all(
        VOUCHER_CODES_GET_ALL, read_page, lambda page: None if page.is_last(page_size.count) else page.cursor
    )


async def voucher_codes_by_id(
    client: Client, voucher_ids: Sequence[UUID], code_ids: Sequence[UUID], priority: Priority
) -> list[Page[VoucherCode]]:
    """Up to 1000 codes of up to 1000 vouchers, whenever they were updated.

    `InvalidRequest` if one of them is unknown to the API.
    """

    async def read_page(cursor: UUID | None) -> Page[VoucherCode]:
        parameters = {"VoucherIds": voucher_ids, "VoucherCodeIds": code_ids, **limitation(MAX_PAGE_SIZE, cursor)}
        return await client.read(VOUCHER_CODES_GET_ALL, parameters, VOUCHER_CODES.decode, priority)

    return [page async for page in read_all(VOUCHER_CODES_GET_ALL, read_page, _next_cursor)]


class NewVoucherCode(Protocol):
    """What the API is told of a code to add."""

    @property
    def voucher_id(self) -> UUID | None: ...
    @property
    def value(self) -> str | None: ...
    @property
    def validity_start_utc(self) -> datetime | None: ...
    @property
    def validity_end_utc(self) -> datetime | None: ...


async def add_voucher_codes(
    client: Client, enterprise_id: UUID | None, codes: Sequence[NewVoucherCode], *, timeout_s: float
) -> Page[VoucherCode]:
    """Add up to 1000 codes, of one hotel's vouchers; the new codes, in no particular order.

    Only a portfolio token needs the hotel; to others it makes no difference.
    """
    parameters = {"VoucherCodeParameters": [_code_parameters(code) for code in codes], **_of_enterprise(enterprise_id)}
    return await client.write(VOUCHER_CODES_ADD, parameters, VOUCHER_CODES.decode, timeout_s)


async def delete_voucher_codes(
    client: Client, enterprise_id: UUID | None, code_ids: Sequence[UUID], *, timeout_s: float
) -> None:
    """Delete up to 1000 codes of one hotel."""
    parameters = {"VoucherCodeIds": code_ids, **_of_enterprise(enterprise_id)}
    await client.write(VOUCHER_CODES_DELETE, parameters, wire.nothing, timeout_s)


async def server_now(client: Client) -> datetime:
    """The server's time, asked for with the cheapest call where no answer has told it, or the last one not rightly.

    Another node of the API may answer then. Raises `ClockRefused` where that one's clock is not believed either.
    """
    clock = client.server_clock
    if (known := clock.now()) is not None and clock.refused is None:
        return known
    await client.read(ENTERPRISES_GET_ALL, limitation(1, None), ENTERPRISES.decode)
    if clock.refused is None and (now := clock.now()) is not None:
        return now
    if clock.refused:
        raise ClockRefused(f"{clock.refused}: {CLOCK_TO_DO}")
    words = "the answer has no Date header that can be read, and no other clock is safe to go by"
    raise InvalidResponse(ENTERPRISES_GET_ALL, words)


def limitation(page_size: int, cursor: UUID | None) -> dict[str, Any]:
    """The `Limitation` of a request; a null cursor is left out, since absent is what the API documents for none."""
    return {"Limitation": {"Count": page_size} | ({"Cursor": cursor} if cursor else {})}


def _of_enterprise(enterprise_id: UUID | None) -> dict[str, Any]:
    return {"EnterpriseId": enterprise_id} if enterprise_id else {}


def _code_parameters(code: NewVoucherCode) -> dict[str, Any]:
    validity = {"ValidityStartUtc": code.validity_start_utc, "ValidityEndUtc": code.validity_end_utc}
    given = {name: wire.utc(instant) for name, instant in validity.items() if instant}
    return {"VoucherId": code.voucher_id, "Value": code.value, **given}


def _next_cursor(page: Page[Any]) -> UUID | None:
    return None if page.is_last(MAX_PAGE_SIZE) else page.cursor
