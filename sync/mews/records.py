"""What is mirrored, as plain values: the API's records in the database's words.

All instants are aware and in UTC. `None` stands wherever the API says null.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID


class Record(Protocol):
    """Whatever has an id of the API's."""

    @property
    def id(self) -> UUID: ...


@dataclass(frozen=True, slots=True)
class Enterprise:
    """A hotel: one property in the API's terms."""

    id: UUID
    name: str
    time_zone: str | None


@dataclass(frozen=True, slots=True)
class Service:
    """Something an enterprise sells; vouchers hang on services."""

    id: UUID
    enterprise_id: UUID
    name: str | None
    type: str | None
    is_active: bool


@dataclass(frozen=True, slots=True)
class Voucher:
    """A voucher, to which codes belong."""

    id: UUID
    service_id: UUID
    enterprise_id: UUID | None
    name: str | None
    type: str | None
    company_id: UUID | None
    travel_agency_id: UUID | None
    occupiable_interval_start_utc: datetime | None
    occupiable_interval_end_utc: datetime | None
    external_identifier: str | None
    created_utc: datetime | None
    updated_utc: datetime | None
    is_active: bool


class VoucherAssignment(NamedTuple):
    """A rate that a voucher gives access to."""

    voucher_id: UUID
    rate_id: UUID


class VoucherCode(NamedTuple):
    """One code of a voucher, with the columns of `mews.voucher_codes` in their order.

    A tuple, not a dataclass: a page of 1000 is turned into one array a column by `zip(*codes)`.
    """

    id: UUID
    voucher_id: UUID
    value: str | None
    validity_start_utc: datetime | None
    validity_end_utc: datetime | None
    created_utc: datetime | None
    updated_utc: datetime | None
    is_active: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be stored: kept as the API sent it, with the reason.

    `kind` is the API's name of the list it came in, for example `VoucherCodes`; `raw` its JSON text. `sqlstate`: the
    database's code, where it is the database that refuses it; then `raw` is what was read of it.
    """

    kind: str
    record_id: str | None
    raw: str
    reason: str
    sqlstate: str | None = None
