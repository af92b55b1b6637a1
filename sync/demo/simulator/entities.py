"""What the simulated API knows, as plain values. All instants are aware, in UTC and of whole seconds."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

import msgspec

ServiceType = Literal["Bookable", "Additional"]
VoucherType = Literal["Public", "PartnerCompany", "TravelAgency"]


class Operation(StrEnum):
    """An operation of the API, by the end of its path."""

    GET_ENTERPRISES = "enterprises/getAll"
    GET_SERVICES = "services/getAll"
    GET_VOUCHERS = "vouchers/getAll"
    GET_CODES = "voucherCodes/getAll"
    ADD_CODES = "voucherCodes/add"
    DELETE_CODES = "voucherCodes/delete"

    @property
    def writes(self) -> bool:
        """Whether the operation changes anything."""
        return self in {Operation.ADD_CODES, Operation.DELETE_CODES}


class Dated(Protocol):
    """What pages are made of."""

    @property
    def id(self) -> UUID: ...
    @property
    def updated_utc(self) -> datetime | None: ...


class Owned(Dated, Protocol):
    """What belongs to an enterprise."""

    @property
    def enterprise_id(self) -> UUID: ...


class Enterprise(msgspec.Struct, frozen=True, kw_only=True):
    """A hotel."""

    id: UUID
    name: str
    time_zone: str
    created_utc: datetime
    updated_utc: datetime | None

    @property
    def enterprise_id(self) -> UUID:
        """Its own id: whatever belongs to an enterprise is asked for it, and an enterprise belongs to itself."""
        return self.id


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """Something an enterprise sells. Only some services carry vouchers; nothing in the API's answers tells which."""

    id: UUID
    enterprise_id: UUID
    name: str
    type: ServiceType
    carries_vouchers: bool
    is_active: bool
    created_utc: datetime
    updated_utc: datetime | None


class Voucher(msgspec.Struct, frozen=True, kw_only=True):
    """A voucher, to which codes belong."""

    id: UUID
    service_id: UUID
    enterprise_id: UUID
    name: str
    type: VoucherType
    company_id: UUID | None = None
    travel_agency_id: UUID | None = None
    occupiable_interval_start_utc: datetime | None = None
    occupiable_interval_end_utc: datetime | None = None
    external_identifier: str | None = None
    created_utc: datetime
    updated_utc: datetime | None
    is_active: bool = True


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that a voucher opens."""

    id: UUID
    voucher_id: UUID
    rate_id: UUID


class Code(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A voucher code. Everything but its ids and `is_active` may be null in the API."""

    id: UUID
    voucher_id: UUID
    value: str | None = None
    validity_start_utc: datetime | None = None
    validity_end_utc: datetime | None = None
    created_utc: datetime | None = None
    updated_utc: datetime | None = None
    is_active: bool = True

    def is_usable(self, at: datetime) -> bool:
        """Whether it is active, and within its validity."""
        has_begun = self.validity_start_utc is None or self.validity_start_utc <= at
        return self.is_active and has_begun and (self.validity_end_utc is None or at < self.validity_end_utc)


@dataclass(slots=True)
class Token:
    """An AccessToken: what it may see and do. A plain one belongs to one enterprise, a portfolio one to many."""

    text: str = field(repr=False)
    name: str
    portfolio: bool
    enterprise_ids: set[UUID]
    operations: set[Operation]

    def sees(self, record: Owned) -> bool:
        """Whether the record is within the token's scope."""
        return record.enterprise_id in self.enterprise_ids
