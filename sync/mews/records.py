"""What is mirrored, as plain values: the API's records in the database's words.

All instants are aware and in UTC. `None` stands wherever the API says null.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, overload
from uuid import UUID

from sync.core.uuids import UuidColumn


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

    A tuple, not a dataclass: `columns_of` turns a page of 1000 into its columns by `zip(*codes)`.
    """

    id: UUID
    voucher_id: UUID
    value: str | None
    validity_start_utc: datetime | None
    validity_end_utc: datetime | None
    created_utc: datetime | None
    updated_utc: datetime | None
    is_active: bool


class VoucherCodes(Sequence[VoucherCode]):
    """The codes of a page as their columns, in the order of `VoucherCode`.

    A code is made only for whoever asks for one: a pull, which stores what it reads, needs none.
    """

    def __init__(self, ids: UuidColumn, voucher_ids: UuidColumn, *others: Sequence[Any]) -> None:
        self.ids, self.voucher_ids = ids, voucher_ids
        self.columns: Sequence[Sequence[Any]] = (ids, voucher_ids, *others)

    def __len__(self) -> int:
        return len(self.columns[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as that of a list

    def __iter__(self) -> Iterator[VoucherCode]:
        return map(VoucherCode._make, zip(*self.columns, strict=True))

    @overload
    def __getitem__(self, index: int) -> VoucherCode: ...
    @overload
    def __getitem__(self, index: slice) -> "VoucherCodes": ...
    def __getitem__(self, index: int | slice) -> "VoucherCode | VoucherCodes":
        if isinstance(index, int):
            return VoucherCode._make(column[index] for column in self.columns)
        return VoucherCodes(self.ids[index], self.voucher_ids[index], *(column[index] for column in self.columns[2:]))


def columns_of(codes: Sequence[VoucherCode]) -> Sequence[Sequence[Any]]:
    """The columns of codes, of which there is at least one, in the order of `VoucherCode`."""
    return codes.columns if isinstance(codes, VoucherCodes) else list(zip(*codes, strict=True))


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
