"""The bodies that the API accepts: every property it knows, with its type and limits. Anything else is refused."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from sync.demo.simulator.entities import Operation, ServiceType

Filled = Annotated[str, Meta(min_length=1)]
Ids = Annotated[list[UUID], Meta(min_length=1, max_length=1000)]
Instant = Annotated[datetime, Meta(tz=True)]


class Properties(Struct, rename="pascal", forbid_unknown_fields=True, kw_only=True):
    """An object of the API, whose schemas all say `additionalProperties: false`."""


class Limitation(Properties, kw_only=True):
    """Which page is asked for."""

    count: Annotated[int, Meta(ge=1, le=1000)]
    cursor: UUID | None = None


class Interval(Properties, kw_only=True):
    """A time interval."""

    start_utc: Instant
    end_utc: Instant


class Body(Properties, kw_only=True):
    """What every body carries."""

    client_token: Filled
    access_token: Filled
    client: Filled
    language_code: Filled | None = None
    culture_code: Filled | None = None


class Listing(Body, kw_only=True):
    """What every `getAll` takes."""

    limitation: Limitation
    updated_utc: Interval | None = None
    enterprise_ids: Ids | None = None


class GetEnterprises(Listing, kw_only=True):
    """`enterprises/getAll`."""


class GetServices(Listing, kw_only=True):
    """`services/getAll`."""

    service_ids: Ids | None = None
    service_type: ServiceType | None = None


class Extent(Properties, kw_only=True):
    """Which lists the answer to `vouchers/getAll` holds. The last two are deprecated and bring nothing any more."""

    vouchers: bool | None = None
    voucher_assignments: bool | None = None
    rates: bool | None = None
    voucher_codes: bool | None = None
    companies: bool | None = None


class GetVouchers(Listing, kw_only=True):
    """`vouchers/getAll`."""

    extent: Extent
    service_ids: Ids
    voucher_ids: Ids | None = None
    voucher_code_values: Annotated[list[Filled], Meta(min_length=1, max_length=1000)] | None = None
    activity_states: Annotated[list[Literal["Active", "Deleted"]], Meta(min_length=1, max_length=1000)] | None = None


class GetCodes(Listing, kw_only=True):
    """`voucherCodes/getAll`."""

    voucher_ids: Ids
    voucher_code_ids: Ids | None = None


class Write(Body, kw_only=True):
    """What both writes take."""

    enterprise_id: UUID | None = None


class CodeParameters(Properties, kw_only=True):
    """A code to add."""

    voucher_id: UUID
    value: Annotated[str, Meta(min_length=1, max_length=128)]
    validity_start_utc: Instant | None = None
    validity_end_utc: Instant | None = None


class AddCodes(Write, kw_only=True):
    """`voucherCodes/add`."""

    voucher_code_parameters: Annotated[list[CodeParameters], Meta(min_length=1, max_length=1000)]


class DeleteCodes(Write, kw_only=True):
    """`voucherCodes/delete`."""

    voucher_code_ids: Ids


Request = GetEnterprises | GetServices | GetVouchers | GetCodes | AddCodes | DeleteCodes

BODIES: dict[Operation, type[Request]] = {
    Operation.GET_ENTERPRISES: GetEnterprises,
    Operation.GET_SERVICES: GetServices,
    Operation.GET_VOUCHERS: GetVouchers,
    Operation.GET_CODES: GetCodes,
    Operation.ADD_CODES: AddCodes,
    Operation.DELETE_CODES: DeleteCodes,
}
