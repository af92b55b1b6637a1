"""The API's JSON, read into records (`sync.mews.records`), and instants written the API's way.

Shapes: docs/mews-api.md, *Operations used* and *Voucher codes*. Unknown fields are ignored. `record()` raises
ValueError for what the database cannot store.
"""

from datetime import UTC, datetime
from operator import attrgetter
from uuid import UUID

import msgspec

from sync.core.uuids import UuidColumn
from sync.mews.records import Enterprise, Rejected, Service, Voucher, VoucherAssignment, VoucherCode, VoucherCodes

MAX_VALUE_CHARACTERS = 500
TOO_LONG = f"a code's value is longer than {MAX_VALUE_CHARACTERS} characters"


class Wire(msgspec.Struct, rename="pascal"):
    """A JSON object of the API, with its property names in PascalCase."""


class EnterpriseWire(Wire):
    id: UUID
    name: str
    time_zone_identifier: str | None = None

    def record(self) -> Enterprise:
        return Enterprise(self.id, text(self.name), optional_text(self.time_zone_identifier))


class ServiceDataWire(Wire):
    discriminator: str | None = None


class ServiceWire(Wire):
    id: UUID
    enterprise_id: UUID
    is_active: bool = True
    name: str | None = None
    names: dict[str, str] | None = None
    data: ServiceDataWire | None = None

    def record(self) -> Service:
        names = self.names or {}
        name = self.name or names.get("en-US") or next(iter(names.values()), None)
        kind = self.data.discriminator if self.data else None
        return Service(self.id, self.enterprise_id, optional_text(name), optional_text(kind), self.is_active)


class VoucherWire(Wire):
    id: UUID
    service_id: UUID
    enterprise_id: UUID | None = None
    name: str | None = None
    type: str | None = None
    company_id: UUID | None = None
    travel_agency_id: UUID | None = None
    occupiable_interval_start_utc: datetime | None = None
    occupiable_interval_end_utc: datetime | None = None
    external_identifier: str | None = None
    created_utc: datetime | None = None
    updated_utc: datetime | None = None
    is_active: bool | None = None
    activity_state: str | None = None

    def record(self) -> Voucher:
        return Voucher(
            self.id,
            self.service_id,
            self.enterprise_id,
            optional_text(self.name),
            optional_text(self.type),
            self.company_id,
            self.travel_agency_id,
            optional_instant(self.occupiable_interval_start_utc),
            optional_instant(self.occupiable_interval_end_utc),
            optional_text(self.external_identifier),
            optional_instant(self.created_utc),
            optional_instant(self.updated_utc),
            activity(self.is_active, self.activity_state),
        )


class VoucherAssignmentWire(Wire):
    voucher_id: UUID
    rate_id: UUID

    def record(self) -> VoucherAssignment:
        return VoucherAssignment(self.voucher_id, self.rate_id)


class VoucherCodeWire(Wire):
    id: UUID
    voucher_id: UUID
    value: str | None = None
    validity_start_utc: datetime | None = None
    validity_end_utc: datetime | None = None
    created_utc: datetime | None = None
    updated_utc: datetime | None = None
    is_active: bool | None = None
    activity_state: str | None = None

    def record(self) -> VoucherCode:
        return VoucherCode(
            self.id,
            self.voucher_id,
            code_value(self.value),
            optional_instant(self.validity_start_utc),
            optional_instant(self.validity_end_utc),
            optional_instant(self.created_utc),
            optional_instant(self.updated_utc),
            activity(self.is_active, self.activity_state),
        )


class BareVoucherCodeWire(Wire):
    """That there is such a code."""

    id: UUID

    def record(self) -> UUID:
        return self.id


class VoucherCodeColumns(Wire, gc=False):
    """A code of which the ids are left as texts, to be read with those of the whole page."""

    id: str
    voucher_id: str
    value: str | None = None
    validity_start_utc: datetime | None = None
    validity_end_utc: datetime | None = None
    created_utc: datetime | None = None
    updated_utc: datetime | None = None
    is_active: bool | None = None
    activity_state: str | None = None


COLUMNS: msgspec.json.Decoder[list[VoucherCodeColumns]] = msgspec.json.Decoder(list[VoucherCodeColumns])
_COLUMNS = [attrgetter(name) for name in VoucherCode._fields]


def voucher_codes(items: msgspec.Raw) -> VoucherCodes:
    """A list of codes, read and checked column by column.

    It takes nothing that `VoucherCodeWire` does not, and raises ValueError for some of what that one takes: ids without
    hyphens, and instants that are not in UTC.
    """
    read = COLUMNS.decode(items)
    ids, voucher_ids, values, *instants, are_active = (list(map(of, read)) for of in _COLUMNS)
    _check_values([value for value in values if value is not None])
    if not {instant.tzinfo for column in instants for instant in column if instant is not None} <= {UTC}:
        raise ValueError("an instant is not in UTC")
    if None in are_active:
        are_active = [activity(one.is_active, one.activity_state) for one in read]
    return VoucherCodes(UuidColumn(ids), UuidColumn(voucher_ids), values, *instants, are_active)


def _check_values(values: list[str]) -> None:
    if values and max(map(len, values)) > MAX_VALUE_CHARACTERS:
        raise ValueError(TOO_LONG)
    text("".join(values))


class BareVoucherWire(Wire):
    """As much of a voucher as its codes need."""

    id: UUID
    service_id: UUID


def bare_voucher(rejected: Rejected) -> Voucher | None:
    """A voucher without anything that may keep it from being stored; None if not even its ids can be read.

    It has no `updated_utc`, so it never replaces what is stored of the voucher, and gives way to the next readable one.
    """
    if rejected.kind != "Vouchers":
        return None
    try:
        ids = msgspec.json.decode(rejected.raw, type=BareVoucherWire)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    nothing = dict.fromkeys(name for name in Voucher.__slots__ if name not in {"id", "service_id", "is_active"})
    return Voucher(id=ids.id, service_id=ids.service_id, is_active=True, **nothing)


def text(value: str) -> str:
    """A text that PostgreSQL can store; ValueError otherwise."""
    if "\x00" in value:
        raise ValueError("a text contains NUL, which PostgreSQL cannot store")
    value.encode()  # a lone surrogate is no character of UTF-8: UnicodeEncodeError, a ValueError
    return value


def optional_text(value: str | None) -> str | None:
    """As `text`, with null as it is."""
    return value if value is None else text(value)


def code_value(value: str | None) -> str | None:
    """A code's value. The API takes 128 characters; far longer ones would not fit the mirror's indexes."""
    if value is not None and len(value) > MAX_VALUE_CHARACTERS:
        raise ValueError(TOO_LONG)
    return optional_text(value)


def optional_instant(value: datetime | None) -> datetime | None:
    """An instant in UTC; one without a zone is in UTC already, since the API's property names say so."""
    if value is None or value.tzinfo is UTC:
        return value
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("an instant lies outside the years 1 to 9999 in UTC") from error


def activity(is_active: bool | None, activity_state: str | None) -> bool:
    """Whether a record is active: `IsActive`, or the deprecated `ActivityState` where that is all there is."""
    if is_active is not None:
        return is_active
    if activity_state in {"Active", "Deleted"}:
        return activity_state == "Active"
    raise ValueError("neither IsActive nor a known ActivityState is given")


def nothing(body: bytes) -> None:
    """Reads the answer to a write that tells nothing: an empty object. Raises ValueError for anything else.

    Other objects are no proof: what stands between may answer with status 200 and `{"error": "blocked"}`.
    """
    if msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
        raise ValueError("the answer is not the empty object")


def utc(instant: datetime) -> str:
    """An instant as the API reads it, for example `2026-01-31T00:00:00Z`."""
    # Not by `strftime`, which writes the year 999 with three digits.
    return instant.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
