"""What an audit keeps: whose it is, what it has seen, and what it is to look at once more.

No transaction touches more than a few thousand rows, however many a voucher has, but for the one that notes which codes
of a voucher are not listed; those rows are nobody else's.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, any_, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit.compare import Difference, MirroredCode
from sync.audit.tables import audit_candidates, audit_seen, audits, voucher_audits
from sync.core.errors import AuditRunning
from sync.mews.records import VoucherCode
from sync.mirror.skipped import is_skipped
from sync.mirror.tables import coverage, voucher_codes, vouchers

ALIVE_FOR = timedelta(minutes=5)
"""An audit that is silent for so long was left by its process, and may be taken over."""
SLICE = 10_000


@dataclass(frozen=True, slots=True)
class Audit:
    """An audit that is ours: `owner` alone may go on with it. `is_resumed`: another process had begun it."""

    id: int
    connection: str
    owner: UUID
    is_resumed: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """One voucher's comparison, begun at `began_at` by the database's clock; see `sync.audit.compare.Comparison`."""

    voucher_id: UUID
    began_at: datetime
    settled_before: datetime | None


async def begin(tx: AsyncConnection, connection: str) -> Audit:
    """Begin an audit, or take over one that was left; `AuditRunning` where one is under way."""
    owner, alive_until = uuid4(), func.now() + ALIVE_FOR
    is_open = (audits.c.connection == connection, audits.c.finished_at.is_(None))
    taken = update(audits).where(*is_open, audits.c.alive_until < func.now())
    found = (await tx.execute(taken.values(owner=owner, alive_until=alive_until).returning(audits.c.id))).scalar()
    if found is not None:
        return Audit(found, connection, owner, is_resumed=True)
    new = insert(audits).values(connection=connection, owner=owner, alive_until=alive_until)
    begun = (await tx.execute(new.on_conflict_do_nothing().returning(audits.c.id))).scalar()
    if begun is None:
        raise AuditRunning(
            "an audit of this connection is under way: wait for its end, which `voucher-sync status` shows; one whose "
            f"process has died is taken over after {ALIVE_FOR.total_seconds() / 60:g} minutes"
        )
    return Audit(begun, connection, owner, is_resumed=False)


async def keep_alive(tx: AsyncConnection, audit: Audit) -> None:
    """Say that the audit goes on; `AuditRunning` where it was taken over meanwhile."""
    mine = (audits.c.id == audit.id, audits.c.owner == audit.owner, audits.c.finished_at.is_(None))
    if not (await tx.execute(update(audits).where(*mine).values(alive_until=func.now() + ALIVE_FOR))).rowcount:
        raise AuditRunning("this audit was taken over by another process, since it had been silent for too long")


async def release(tx: AsyncConnection, audit: Audit) -> None:
    """Leave an audit that is not finished, for whoever comes next to take over at once."""
    mine = (audits.c.id == audit.id, audits.c.owner == audit.owner)
    await tx.execute(update(audits).where(*mine).values(alive_until=func.now() - timedelta(seconds=1)))


async def finish(tx: AsyncConnection, audit: Audit, braked: str | None) -> None:
    """End an audit."""
    await tx.execute(
        update(audits).where(audits.c.id == audit.id).values(finished_at=func.clock_timestamp(), braked=braked)
    )


async def left_to_list(tx: AsyncConnection, audit: Audit) -> list[UUID]:
    """Vouchers that this audit has not listed yet, without those that are not read at present."""
    is_listed = (
        select(literal(1))
        .where(voucher_audits.c.voucher_id == vouchers.c.id, voucher_audits.c.audit_id == audit.id)
        .exists()
    )
    of_connection = (vouchers.c.connection == audit.connection, ~is_skipped(vouchers.c.connection, vouchers.c.id))
    return list(
        (await tx.execute(select(vouchers.c.id).where(*of_connection, ~is_listed).order_by(vouchers.c.id))).scalars()
    )


async def left_to_confirm(tx: AsyncConnection, audit: Audit) -> list[Scope]:
    """Vouchers that were listed, and whose findings are not confirmed yet."""
    columns = (voucher_audits.c.voucher_id, voucher_audits.c.began_at, voucher_audits.c.settled_before)
    open_ = (voucher_audits.c.audit_id == audit.id, voucher_audits.c.finished_at.is_(None))
    return [Scope(*row) for row in await tx.execute(select(*columns).where(*open_).order_by(columns[0]))]


async def begin_voucher(tx: AsyncConnection, voucher_id: UUID, overlap: timedelta) -> Scope:
    """Fix from when on what changes in a voucher is not to be judged."""
    complete = select(coverage.c.complete_through).where(coverage.c.voucher_id == voucher_id).scalar_subquery()
    row = (await tx.execute(select(func.now().label("now"), (complete - overlap).label("settled")))).one()
    return Scope(voucher_id, row.now, row.settled)


async def clear_slice(tx: AsyncConnection, connection: str, voucher_id: UUID | None = None) -> bool:
    """Forget some of what was seen, or some candidates of a voucher; whether there is more.

    In the order of the primary key: without statistics of a table that was just filled, another way may take minutes.
    """
    table = audit_seen if voucher_id is None else audit_candidates
    of_these = [table.c.connection == connection]
    if voucher_id is not None:
        of_these.append(audit_candidates.c.voucher_id == voucher_id)
    ordered = select(table.c.code_id).where(*of_these).order_by(table.c.code_id)
    last = (await tx.execute(ordered.offset(SLICE - 1).limit(1))).scalar()
    if last is not None:
        of_these.append(table.c.code_id <= last)
    await tx.execute(delete(table).where(*of_these))
    return last is not None


async def held(tx: AsyncConnection, code_ids: Sequence[UUID]) -> dict[UUID, MirroredCode]:
    """The mirror's rows of these codes."""
    columns = [voucher_codes.c[name] for name in VoucherCode._fields]
    query = select(*columns, voucher_codes.c.mirrored_at, voucher_codes.c.missing_since)
    rows = await tx.execute(query.where(_is_one_of(voucher_codes.c.id, code_ids)))
    return {
        row.id: MirroredCode(VoucherCode(*row[: len(columns)]), row.mirrored_at, row.missing_since is not None)
        for row in rows
    }


async def note_seen(tx: AsyncConnection, connection: str, code_ids: Sequence[UUID]) -> None:
    """Note codes that the API lists."""
    given = select(literal(connection), func.pg_catalog.unnest(literal(list(code_ids), ARRAY(UUID_TYPE))))
    await tx.execute(insert(audit_seen).from_select(["connection", "code_id"], given).on_conflict_do_nothing())


async def note_candidates(
    tx: AsyncConnection, connection: str, voucher_id: UUID, code_ids: Sequence[UUID], *, is_listed: bool
) -> None:
    """Note codes to be looked at once more."""
    ids = func.pg_catalog.unnest(literal(list(code_ids), ARRAY(UUID_TYPE)))
    given = select(literal(connection), literal(voucher_id, UUID_TYPE), ids, literal(is_listed))
    names = ["connection", "voucher_id", "code_id", "is_listed"]
    await tx.execute(insert(audit_candidates).from_select(names, given).on_conflict_do_nothing())


async def unlisted(tx: AsyncConnection, connection: str, scope: Scope) -> AsyncIterator[list[UUID]]:
    """The mirror's codes of a voucher that the API did not list and nobody wrote meanwhile, a slice at a time."""
    is_seen = (
        select(literal(1))
        .where(audit_seen.c.connection == connection, audit_seen.c.code_id == voucher_codes.c.id)
        .exists()
    )
    query = select(voucher_codes.c.id).where(
        voucher_codes.c.voucher_id == scope.voucher_id,
        voucher_codes.c.missing_since.is_(None),
        voucher_codes.c.mirrored_at < scope.began_at,
        ~is_seen,
    )
    async for rows in (await tx.stream(query)).partitions(SLICE):
        yield [row.id for row in rows]


async def drop_seen_candidates(tx: AsyncConnection, connection: str, voucher_id: UUID) -> None:
    """Keep of the unlisted candidates of a voucher those that a second listing did not see either."""
    is_seen = (
        select(literal(1))
        .where(audit_seen.c.connection == connection, audit_seen.c.code_id == audit_candidates.c.code_id)
        .exists()
    )
    unlisted = (
        audit_candidates.c.connection == connection,
        audit_candidates.c.voucher_id == voucher_id,
        ~audit_candidates.c.is_listed,
    )
    await tx.execute(delete(audit_candidates).where(*unlisted, is_seen))


async def count_candidates(tx: AsyncConnection, connection: str, voucher_id: UUID | None = None) -> int:
    """How many codes the API did not list, of a voucher or of all."""
    unlisted = [audit_candidates.c.connection == connection, ~audit_candidates.c.is_listed]
    if voucher_id is not None:
        unlisted.append(audit_candidates.c.voucher_id == voucher_id)
    return int((await tx.execute(select(func.count()).where(*unlisted))).scalar_one())


async def count_held(tx: AsyncConnection, connection: str) -> int:
    """Codes of a connection that the API had when it was last asked."""
    present = (voucher_codes.c.connection == connection, voucher_codes.c.missing_since.is_(None))
    return int((await tx.execute(select(func.count()).where(*present))).scalar_one())


async def some_candidates(
    tx: AsyncConnection, connection: str, voucher_id: UUID, after: UUID | None, limit: int
) -> dict[UUID, bool]:
    """Candidates of a voucher in the order of their ids, each with whether the API listed it."""
    columns = (audit_candidates.c.code_id, audit_candidates.c.is_listed)
    of_voucher = [audit_candidates.c.connection == connection, audit_candidates.c.voucher_id == voucher_id]
    if after is not None:
        of_voucher.append(audit_candidates.c.code_id > after)
    rows = await tx.execute(select(*columns).where(*of_voucher).order_by(audit_candidates.c.code_id).limit(limit))
    return {row.code_id: row.is_listed for row in rows}


async def results(tx: AsyncConnection, audit: Audit) -> list[tuple[UUID, dict[Difference, int], int]]:
    """What was found in each voucher of an audit, and how much of it was repaired."""
    rows = await tx.execute(select(voucher_audits).where(voucher_audits.c.audit_id == audit.id))
    return [
        (row["voucher_id"], {difference: row[difference.value] for difference in Difference}, row["repaired"])
        for row in rows.mappings()
    ]


async def save_listed(
    tx: AsyncConnection, audit: Audit, scope: Scope, counts: Mapping[Difference, int], error: str | None = None
) -> None:
    """Note that a voucher was listed, or why it could not be."""
    values = {
        "voucher_id": scope.voucher_id,
        "connection": audit.connection,
        "audit_id": audit.id,
        "began_at": scope.began_at,
        "settled_before": scope.settled_before,
        "finished_at": func.clock_timestamp() if error else None,
        "error": error,
        "repaired": 0,
        **{difference.value: counts.get(difference, 0) for difference in Difference},
    }
    statement = insert(voucher_audits).values(values)
    await tx.execute(statement.on_conflict_do_update(index_elements=[voucher_audits.c.voucher_id], set_=values))


async def save_confirmed(tx: AsyncConnection, scope: Scope, counts: Mapping[Difference, int], repaired: int) -> None:
    """Note what was confirmed of a voucher's candidates."""
    added = {
        difference.value: voucher_audits.c[difference.value] + counts.get(difference, 0) for difference in Difference
    }
    of_voucher = voucher_audits.c.voucher_id == scope.voucher_id
    await tx.execute(
        update(voucher_audits).where(of_voucher).values(**added, repaired=repaired, finished_at=func.clock_timestamp())
    )


def _is_one_of(column: ColumnElement[UUID], ids: Sequence[UUID]) -> ColumnElement[bool]:
    return column == any_(literal(list(ids), ARRAY(UUID_TYPE)))
