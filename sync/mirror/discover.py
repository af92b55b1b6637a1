"""Discovery: which enterprises, services and vouchers a token can see.

`enterprises/getAll` → `services/getAll` → `vouchers/getAll`. Not every service can carry vouchers, and one that cannot
spoils the call for its whole group (docs/mews-api.md, *Operations used*): a refused group is halved until what is
refused stands alone, which is then remembered and left out. So are vouchers that are no longer listed: a hotel that a
token has lost would have every pull refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import blake2b
from uuid import UUID

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.connection.guard import admit
from sync.core.api_errors import InvalidRequest
from sync.core.bisection import Bisection
from sync.core.errors import StatementRefused
from sync.mews import operations, wire
from sync.mews.pages import Page
from sync.mews.records import Rejected, Voucher, VoucherAssignment
from sync.mirror import rejected, skipped, upsert
from sync.mirror.store import ENTERPRISES, SERVICES, VOUCHERS, Kind, R, api_object, as_rejected, store_page
from sync.mirror.take_over import take_over
from sync.mirror.windows import chunks
from sync.postgres.engine import in_transaction

ASSIGNMENTS = "VoucherAssignments"
LISTED = (ENTERPRISES.name, SERVICES.name, VOUCHERS.name, ASSIGNMENTS)
"""What a discovery lists, as the API names it."""

Listing = tuple[list[Voucher], list[VoucherAssignment], list[Rejected]]
"""Vouchers, their assignments, and what of both cannot be read."""
NONE: frozenset[bytes] = frozenset()
"""There once: each empty set takes 200 bytes."""


@dataclass(slots=True)
class DiscoverReport:
    """What one discovery saw, how many rows it wrote, which services it found refused, and which vouchers are gone.

    `as_of` is when it began, by the database's clock; `listed` a digest of all that the API listed, of services that
    were not to be `left_out`; `left_for_now`: vouchers to take over once no change of them is being sent. `unreadable`:
    the digests of records that could not be read.
    """

    as_of: datetime
    enterprises: int = 0
    services: int = 0
    vouchers: int = 0
    written: int = 0
    rejected: int = 0
    refused: Sequence[UUID] = ()
    unlisted: Sequence[UUID] = ()
    enterprise_ids: Sequence[UUID] = ()
    left_out: Sequence[UUID] = ()
    listed: bytes = b""
    left_for_now: Sequence[UUID] = ()
    unreadable: frozenset[bytes] = NONE


async def discover(connection: Connection) -> DiscoverReport:
    """One discovery. Raises `AnotherHotel`, and `ApiError`, `DatabaseError` and `Stopped` in their variants."""
    report = DiscoverReport(as_of=await in_transaction(connection.engine, _now))
    listed = await _list_vouchers(connection, report)
    if await in_transaction(connection.engine, lambda tx: skipped.unlisted(tx, connection.name, listed)):
        # One that was changed while its listing was read has moved to a page that was behind us.
        listed |= await _list_vouchers(connection, report)
    report.unlisted = await in_transaction(
        connection.engine, lambda tx: skipped.follow_listing(tx, connection.name, listed)
    )
    taken_over = await take_over(connection.engine, connection.name, listed, report.enterprise_ids)
    report.written += taken_over.taken
    report.left_for_now = taken_over.left

    async def forget_rejected(tx: AsyncConnection) -> None:
        await rejected.forget_stored(tx, connection.name)
        await rejected.forget_unlisted(tx, connection.name, LISTED, report.unreadable)

    await in_transaction(connection.engine, forget_rejected)
    return report


async def _now(tx: AsyncConnection) -> datetime:
    now: datetime = (await tx.execute(select(func.now()))).scalar_one()
    return now


async def _store(connection: Connection, kind: Kind[R], page: Page[R], report: DiscoverReport) -> list[Rejected]:
    """Mirror what one answer brought, and keep what cannot be mirrored; what of it the database has refused."""

    async def store(tx: AsyncConnection, page: Page[R], written: int) -> tuple[int, int, list[Rejected]]:
        written += await kind.store(tx, connection.name, page.records)
        new = await rejected.keep(tx, connection.name, page.rejected)
        return written, new, [one for one in page.rejected if one.sqlstate is not None]

    written, new, refused = await store_page(connection, kind, page, store)
    report.unreadable |= {rejected.digest(one.raw) for one in page.rejected}
    report.written += written
    report.rejected += new
    return refused


async def _list_vouchers(connection: Connection, report: DiscoverReport) -> set[UUID]:
    """Mirror everything down to the vouchers; the ids of all vouchers."""
    report.listed = b""
    report.enterprise_ids = enterprise_ids = await _enterprises(connection, report)
    service_ids: list[UUID] = []
    enterprise_of: dict[UUID, UUID] = {}
    for group in chunks(enterprise_ids, operations.MAX_IDS):
        service_ids += await _services(connection, group, enterprise_of, report)
    refused_before = await in_transaction(
        connection.engine, lambda tx: skipped.skipped_ids(tx, connection.name, "service")
    )
    report.left_out = [*refused_before]
    listed: set[UUID] = set()
    for asked in chunks([one for one in service_ids if one not in refused_before], operations.MAX_IDS):
        listed |= await _vouchers(connection, asked, enterprise_of, report)
    report.enterprises, report.services, report.vouchers = len(enterprise_ids), len(service_ids), len(listed)
    return listed


async def _enterprises(connection: Connection, report: DiscoverReport) -> list[UUID]:
    """Mirror the enterprises, if they are this connection's; the ids of all, those that could not be stored too."""
    ids: list[UUID] = []
    pages = [page async for page in operations.enterprises(connection.client)]
    await admit(connection, [one for page in pages for one in page.records])
    for page in pages:
        report.listed = listed_with(report.listed, page)
        await _store(connection, ENTERPRISES, page, report)
        ids += listed_ids(page)
    return ids


async def _services(
    connection: Connection, enterprise_ids: Sequence[UUID], enterprise_of: dict[UUID, UUID], report: DiscoverReport
) -> list[UUID]:
    """Mirror the services of a group of enterprises, noting whose each is; the ids of all."""
    ids: list[UUID] = []
    async for page in operations.services(connection.client, enterprise_ids):
        report.listed = listed_with(report.listed, page)
        await _store(connection, SERVICES, page, report)
        enterprise_of.update({one.id: one.enterprise_id for one in page.records})
        ids += listed_ids(page)
    return ids


async def _vouchers(
    connection: Connection, service_ids: Sequence[UUID], enterprise_of: dict[UUID, UUID], report: DiscoverReport
) -> set[UUID]:
    """Mirror the vouchers of a group of services, leaving out services that the API refuses; the vouchers' ids."""
    listed: set[UUID] = set()
    bisection = Bisection(service_ids)
    while group := bisection.group:
        refusal = None
        try:
            listing = await _read_vouchers(connection, group, report)
            listed |= await _store_vouchers(connection, listing, enterprise_of, report)
        except InvalidRequest as error:
            if not error.names(operations.SERVICE_IDS):
                raise
            refusal = error
        if refusal and len(group) == 1:
            refuse = partial(skipped.refuse, connection=connection.name, kind="service", ids=group, error=refusal)
            await in_transaction(connection.engine, refuse)
            report.refused = [*report.refused, *group]
        bisection.tell(went_through=refusal is None)
    return listed


async def _store_vouchers(
    connection: Connection, listing: Listing, enterprise_of: dict[UUID, UUID], report: DiscoverReport
) -> set[UUID]:
    """Mirror what a listing of vouchers brought; the vouchers' ids."""
    vouchers, assignments, unreadable = listing
    # The codes of a voucher that cannot be stored are mirrored all the same.
    vouchers += [one for record in unreadable if (one := wire.bare_voucher(record)) is not None]
    # Only some tokens are told a voucher's enterprise; its service's is the same.
    vouchers = [replace(one, enterprise_id=one.enterprise_id or enterprise_of.get(one.service_id)) for one in vouchers]
    refused = await _store(connection, VOUCHERS, Page(vouchers, unreadable, None), report)
    if bare := [found for one in refused if (found := wire.bare_voucher(one)) is not None]:
        bare = [replace(one, enterprise_id=enterprise_of.get(one.service_id)) for one in bare]
        await _store(connection, VOUCHERS, Page(bare, [], None), report)
    await _store_assignments(connection, [one.id for one in vouchers], assignments, report)
    return {one.id for one in vouchers}


async def _store_assignments(
    connection: Connection,
    voucher_ids: Sequence[UUID],
    assignments: Sequence[VoucherAssignment],
    report: DiscoverReport,
) -> None:
    """Store the assignments of vouchers; where the database refuses a voucher's, they are kept together."""
    of_voucher: dict[UUID, list[VoucherAssignment]] = {one: [] for one in voucher_ids}
    for assignment in assignments:
        of_voucher.setdefault(assignment.voucher_id, []).append(assignment)

    async def write(ids: Sequence[UUID], tx: AsyncConnection) -> int:
        await rejected.forget(tx, connection.name, ASSIGNMENTS, [str(one) for one in ids])
        return await upsert.store_assignments(tx, ids, [one for each in ids for one in of_voucher[each]])

    async def goes_through(ids: Sequence[UUID]) -> bool:
        try:
            report.written += await in_transaction(connection.engine, partial(write, ids))
        except StatementRefused as refusal:
            if len(ids) == 1:
                content = [api_object(one) for one in of_voucher[ids[0]]]
                aside = as_rejected(ASSIGNMENTS, ids[0], content, refusal)
                keep = partial(rejected.keep, connection=connection.name, records=[aside])
                report.rejected += await in_transaction(connection.engine, keep)
            return False
        return True

    bisection = Bisection(voucher_ids)
    while group := bisection.group:
        bisection.tell(went_through=await goes_through(group))


async def _read_vouchers(connection: Connection, service_ids: Sequence[UUID], report: DiscoverReport) -> Listing:
    vouchers: list[Voucher] = []
    assignments: list[VoucherAssignment] = []
    unreadable: list[Rejected] = []
    async for page in operations.vouchers(connection.client, service_ids):
        report.listed = listed_with(report.listed, page)
        vouchers += page.vouchers.records
        assignments += page.assignments.records
        unreadable += [*page.vouchers.rejected, *page.assignments.rejected]
    return vouchers, assignments, unreadable


def listed_with(before: bytes, page: Page[R] | operations.VoucherPage) -> bytes:
    """A digest of what was listed before, and of another page."""
    return blake2b(before + msgspec.json.encode(page), digest_size=16).digest()


def listed_ids(page: Page[R]) -> list[UUID]:
    """The ids on a page; those that cannot be stored too, since what hangs on them is read all the same."""
    return [*(one.id for one in page.records), *_rejected_ids(page.rejected)]


def _rejected_ids(records: Sequence[Rejected]) -> Iterator[UUID]:
    for record in records:
        with suppress(ValueError):
            yield UUID(record.record_id or "")
