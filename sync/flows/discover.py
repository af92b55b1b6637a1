"""Discovery: which enterprises, services and vouchers a token can see.

`enterprises/getAll` → `services/getAll` → `vouchers/getAll`. Not every service can carry vouchers, and one that cannot
spoils the call for its whole group (mews-api.md, *Operations used*): a refused group is halved until the culprit stands
alone, which is then remembered and left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from sync.db import mirror, refusals, rejected
from sync.db.engine import transaction
from sync.flows.connection import Connection
from sync.mews import operations
from sync.model.errors import InvalidRequest
from sync.model.records import Rejected, Service, Voucher, VoucherAssignment
from sync.model.windows import chunks

MAX_IDS = 1000


@dataclass(slots=True)
class DiscoverReport:
    """What one discovery saw, how many rows it wrote, and which services it found refused."""

    enterprises: int = 0
    services: int = 0
    vouchers: int = 0
    written: int = 0
    rejected: int = 0
    refused: list[UUID] = field(default_factory=list)


async def discover(connection: Connection) -> DiscoverReport:
    """One discovery. Raises `ApiError`, `DatabaseError` and `Stopped` in their variants."""
    report = DiscoverReport()
    enterprise_ids = await _enterprises(connection, report)
    services: list[Service] = []
    for group in chunks(enterprise_ids, MAX_IDS):
        services += await _services(connection, group, report)
    enterprise_of = {service.id: service.enterprise_id for service in services}
    async with transaction(connection.engine) as tx:
        skipped = await refusals.refused_ids(tx, connection.name, "service")
    for service_ids in chunks([service.id for service in services if service.id not in skipped], MAX_IDS):
        await _vouchers(connection, service_ids, enterprise_of, report)
    return report


async def _enterprises(connection: Connection, report: DiscoverReport) -> list[UUID]:
    ids: list[UUID] = []
    async for page in operations.enterprises(connection.client):
        async with transaction(connection.engine) as tx:
            report.written += await mirror.store_enterprises(tx, connection.name, page.records)
            report.rejected += await rejected.keep(tx, connection.name, page.rejected)
        ids += [enterprise.id for enterprise in page.records]
    report.enterprises = len(ids)
    return ids


async def _services(connection: Connection, enterprise_ids: Sequence[UUID], report: DiscoverReport) -> list[Service]:
    services: list[Service] = []
    async for page in operations.services(connection.client, enterprise_ids):
        async with transaction(connection.engine) as tx:
            report.written += await mirror.store_services(tx, connection.name, page.records)
            report.rejected += await rejected.keep(tx, connection.name, page.rejected)
        services += page.records
    report.services += len(services)
    return services


async def _vouchers(
    connection: Connection, service_ids: Sequence[UUID], enterprise_of: dict[UUID, UUID], report: DiscoverReport
) -> None:
    """Mirror the vouchers of a group of services, refusing those that the API refuses."""
    try:
        vouchers, assignments, unreadable = await _read_vouchers(connection, service_ids)
    except InvalidRequest as error:
        if len(service_ids) > 1:
            middle = len(service_ids) // 2
            await _vouchers(connection, service_ids[:middle], enterprise_of, report)
            await _vouchers(connection, service_ids[middle:], enterprise_of, report)
            return
        async with transaction(connection.engine) as tx:
            await refusals.refuse(tx, connection.name, "service", service_ids, error)
        report.refused += service_ids
        return
    # Only some tokens are told a voucher's enterprise; its service's is the same.
    vouchers = [replace(one, enterprise_id=one.enterprise_id or enterprise_of.get(one.service_id)) for one in vouchers]
    async with transaction(connection.engine) as tx:
        report.written += await mirror.store_vouchers(tx, connection.name, vouchers)
        report.written += await mirror.store_assignments(tx, [one.id for one in vouchers], assignments)
        report.rejected += await rejected.keep(tx, connection.name, unreadable)
    report.vouchers += len(vouchers)


async def _read_vouchers(
    connection: Connection, service_ids: Sequence[UUID]
) -> tuple[list[Voucher], list[VoucherAssignment], list[Rejected]]:
    vouchers: list[Voucher] = []
    assignments: list[VoucherAssignment] = []
    unreadable: list[Rejected] = []
    async for page in operations.vouchers(connection.client, service_ids):
        vouchers += page.vouchers.records
        assignments += page.assignments.records
        unreadable += [*page.vouchers.rejected, *page.assignments.rejected]
    return vouchers, assignments, unreadable
