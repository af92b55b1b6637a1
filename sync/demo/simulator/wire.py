"""The bodies that the API answers with."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sync.demo.simulator.answers import Answer
from sync.demo.simulator.entities import Assignment, Code, Enterprise, Service, ServiceType, Voucher, VoucherType

ActivityState = Literal["Active", "Deleted"]
Activity = Literal["both", "IsActive", "ActivityState"]
"""Which properties say whether a voucher or a code is active: the schema has both, the vendor's examples only one."""


class Shown(Struct, rename="pascal", kw_only=True):
    """An object as the API shows it."""


class ShownEnterprise(Shown, kw_only=True):
    """An enterprise."""

    id: UUID
    name: str
    time_zone_identifier: str
    created_utc: datetime
    updated_utc: datetime | None


class ServiceData(Shown, kw_only=True):
    """The part of a service that depends on its type."""

    discriminator: ServiceType


class ShownService(Shown, kw_only=True):
    """A service."""

    id: UUID
    enterprise_id: UUID
    is_active: bool
    names: dict[str, str]
    data: ServiceData
    created_utc: datetime
    updated_utc: datetime | None


class ShownVoucher(Shown, kw_only=True):
    """A voucher."""

    id: UUID
    service_id: UUID
    enterprise_id: UUID
    name: str
    type: VoucherType
    company_id: UUID | None
    travel_agency_id: UUID | None
    occupiable_interval_start_utc: datetime | None
    occupiable_interval_end_utc: datetime | None
    external_identifier: str | None
    created_utc: datetime
    updated_utc: datetime | None
    is_active: bool | UnsetType
    activity_state: ActivityState | UnsetType


class ShownAssignment(Shown, kw_only=True):
    """A voucher's assignment to a rate."""

    id: UUID
    voucher_id: UUID
    rate_id: UUID


class ShownCode(Shown, kw_only=True):
    """A voucher code."""

    id: UUID
    voucher_id: UUID
    value: str | None
    validity_start_utc: datetime | None
    validity_end_utc: datetime | None
    created_utc: datetime | None
    updated_utc: datetime | None
    is_active: bool | UnsetType
    activity_state: ActivityState | UnsetType


Lists = dict[str, Sequence[Shown]]


def page(lists: Lists, *, items: int, cursor: UUID | None) -> Answer:
    """The answer to a `getAll`: its lists by name, and where the next page starts."""
    return Answer(200, msgspec.json.encode(lists | {"Cursor": cursor}), items=items, cursor=cursor)


def enterprise(record: Enterprise) -> ShownEnterprise:
    """An enterprise as the API shows it."""
    return ShownEnterprise(
        id=record.id,
        name=record.name,
        time_zone_identifier=record.time_zone,
        created_utc=record.created_utc,
        updated_utc=record.updated_utc,
    )


def service(record: Service) -> ShownService:
    """A service as the API shows it."""
    return ShownService(
        id=record.id,
        enterprise_id=record.enterprise_id,
        is_active=record.is_active,
        names={"en-US": record.name},
        data=ServiceData(discriminator=record.type),
        created_utc=record.created_utc,
        updated_utc=record.updated_utc,
    )


def voucher(record: Voucher, activity: Activity) -> ShownVoucher:
    """A voucher as the API shows it."""
    is_active, state = _activity(record.is_active, activity)
    return ShownVoucher(
        id=record.id,
        service_id=record.service_id,
        enterprise_id=record.enterprise_id,
        name=record.name,
        type=record.type,
        company_id=record.company_id,
        travel_agency_id=record.travel_agency_id,
        occupiable_interval_start_utc=record.occupiable_interval_start_utc,
        occupiable_interval_end_utc=record.occupiable_interval_end_utc,
        external_identifier=record.external_identifier,
        created_utc=record.created_utc,
        updated_utc=record.updated_utc,
        is_active=is_active,
        activity_state=state,
    )


def assignment(record: Assignment) -> ShownAssignment:
    """An assignment as the API shows it."""
    return ShownAssignment(id=record.id, voucher_id=record.voucher_id, rate_id=record.rate_id)


def code(record: Code, activity: Activity) -> ShownCode:
    """A code as the API shows it."""
    is_active, state = _activity(record.is_active, activity)
    return ShownCode(
        id=record.id,
        voucher_id=record.voucher_id,
        value=record.value,
        validity_start_utc=record.validity_start_utc,
        validity_end_utc=record.validity_end_utc,
        created_utc=record.created_utc,
        updated_utc=record.updated_utc,
        is_active=is_active,
        activity_state=state,
    )


def _activity(is_active: bool, activity: Activity) -> tuple[bool | UnsetType, ActivityState | UnsetType]:
    state: ActivityState = "Active" if is_active else "Deleted"
    return (UNSET if activity == "ActivityState" else is_active, UNSET if activity == "IsActive" else state)
