"""What an audit keeps of itself: whose it is, and what it found in which voucher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    any_,
    bindparam,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import owners
from sync.audit.compare import Difference, MirroredCode
from sync.audit.owners import ALIVE_FOR
from sync.audit.tables import audit_candidates, audits, voucher_audits
from sync.connection.tables import freshness
from sync.core.errors import AuditRunning, VoucherSyncError
from sync.mews.records import VoucherCode
from sync.mirror.skipped import is_skipped
from sync.mirror.tables import coverage, voucher_codes, vouchers

UNDER_WAY = "an audit of this connection is under way: wait for its end, which `voucher-sync status` shows"
NOT_BEGUN = "nothing is mirrored yet, so there is nothing to compare: start `voucher-sync once`, or `run`"


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


async def begin(tx: AsyncConnection, connection: str, epoch: int | None = None) -> Audit:
    """Begin an audit, or take over one that was left; `AuditRunning` where one is under way.

    `epoch`: of the tenure of a replica that has the connection; None for whoever works without owning it.
    """
    owner = owners.name(epoch)
    values = {"owner": owner, "alive_until": func.now() + ALIVE_FOR, "owner_process": owners.describe(owner)}
    is_open = (audits.c.connection == connection, audits.c.finished_at.is_(None))
    told = (audits.c.owner, owners.process_told(), (audits.c.alive_until - func.now()).label("left_in"))
    known = (await tx.execute(select(*told).where(*is_open))).one_or_none()
    gone = known.owner if known and owners.is_gone(known.process) else None
    taken = update(audits).where(*is_open, or_(owners.is_left(), audits.c.owner == gone))
    found = (await tx.execute(taken.values(values).returning(audits.c.id))).scalar()
    if found is not None:
        return Audit(found, connection, owner, is_resumed=True)
    new = insert(audits).values(values | {"connection": connection})
    begun = (await tx.execute(new.on_conflict_do_nothing().returning(audits.c.id))).scalar()
    if begun is None:
        raise AuditRunning(UNDER_WAY + (owners.describe_silence(known.process, known.left_in) if known else ""))
    return Audit(begun, connection, owner, is_resumed=False)


async def keep_alive(tx: AsyncConnection, audit: Audit) -> None:
    """Say that the audit goes on; `AuditRunning` where it was taken over meanwhile."""
    _require((await tx.execute(update(audits).where(*_is(audit)).values(alive_until=func.now() + ALIVE_FOR))).rowcount)


async def require_ours(tx: AsyncConnection, audit: Audit) -> None:
    """`AuditRunning` where it was taken over: others may have forgotten its pages, or counted what it found."""
    _require((await tx.execute(select(audits.c.id).where(*_is(audit)))).scalar())


async def release(tx: AsyncConnection, audit: Audit) -> None:
    """Leave an audit that is not finished, for whoever comes next to take over at once."""
    mine = (audits.c.id == audit.id, audits.c.owner == audit.owner)
    await tx.execute(update(audits).where(*mine).values(alive_until=func.now() - timedelta(seconds=1)))


async def finish(tx: AsyncConnection, audit: Audit, braked: str | None) -> None:
    """End an audit; `AuditRunning` where it was taken over."""
    ended = {"finished_at": func.clock_timestamp(), "braked": braked}
    _require((await tx.execute(update(audits).where(*_is(audit)).values(ended))).rowcount)


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


async def count_left_out(tx: AsyncConnection, connection: str) -> int:
    """How many vouchers no audit compares, since they are not read at present."""
    is_left_out = (vouchers.c.connection == connection, is_skipped(vouchers.c.connection, vouchers.c.id))
    return int((await tx.execute(select(func.count()).select_from(vouchers).where(*is_left_out))).scalar_one())


async def require_begun(tx: AsyncConnection, connection: str) -> None:
    """Raise `VoucherSyncError` where nothing was ever mirrored for a connection, nor found to be nothing."""
    has_vouchers = select(vouchers.c.id).where(vouchers.c.connection == connection).exists()
    caught_up = (freshness.c.name == connection, freshness.c.caught_up_as_of.is_not(None))
    has_caught_up = select(freshness.c.name).where(*caught_up).exists()
    if not (await tx.execute(select(or_(has_vouchers, has_caught_up)))).scalar_one():
        raise VoucherSyncError(NOT_BEGUN)


async def left_to_confirm(tx: AsyncConnection, audit: Audit) -> list[Scope]:
    """Vouchers that were listed, and whose findings are not confirmed yet."""
    columns = (voucher_audits.c.voucher_id, voucher_audits.c.began_at, voucher_audits.c.settled_before)
    open_ = (voucher_audits.c.audit_id == audit.id, voucher_audits.c.finished_at.is_(None))
    return [Scope(*row) for row in await tx.execute(select(*columns).where(*open_).order_by(columns[0]))]


async def begin_vouchers(tx: AsyncConnection, voucher_ids: Sequence[UUID], overlap: timedelta) -> list[Scope]:
    """Fix from when on what changes in vouchers is not to be judged."""
    stable_before = (coverage.c.complete_through - overlap).label("stable_before")
    query = select(coverage.c.voucher_id, func.now(), stable_before).where(
        is_one_of(coverage.c.voucher_id, voucher_ids)
    )
    return [Scope(*row) for row in await tx.execute(query)]


async def count_codes(tx: AsyncConnection, connection: str) -> dict[UUID, int]:
    """How many codes the mirror has of each voucher."""
    counted = select(voucher_codes.c.voucher_id, func.count()).where(_is_own(connection))
    return {row[0]: row[1] for row in await tx.execute(counted.group_by(voucher_codes.c.voucher_id))}


async def mirrored(tx: AsyncConnection, code_ids: Sequence[UUID]) -> dict[UUID, MirroredCode]:
    """The mirror's rows of these codes."""
    columns = [voucher_codes.c[name] for name in VoucherCode._fields]
    query = select(*columns, voucher_codes.c.mirrored_at, voucher_codes.c.missing_since)
    rows = await tx.execute(query.where(is_one_of(voucher_codes.c.id, code_ids)))
    return {
        row.id: MirroredCode(VoucherCode(*row[: len(columns)]), row.mirrored_at, row.missing_since is not None)
        for row in rows
    }


async def count_mirrored(tx: AsyncConnection, connection: str) -> int:
    """Codes of a connection that the API had when it was last asked."""
    present = (_is_own(connection), voucher_codes.c.missing_since.is_(None))
    return int((await tx.execute(select(func.count()).where(*present))).scalar_one())


async def results(tx: AsyncConnection, audit: Audit) -> list[tuple[UUID, dict[Difference, int], int]]:
    """What was found in each voucher of an audit, and how much of it was repaired."""
    rows = await tx.execute(select(voucher_audits).where(voucher_audits.c.audit_id == audit.id))
    return [
        (row["voucher_id"], {difference: row[difference.value] for difference in Difference}, row["repaired"])
        for row in rows.mappings()
    ]


async def save_listed(
    tx: AsyncConnection,
    audit: Audit,
    scopes: Sequence[Scope],
    counts: Mapping[UUID, Mapping[Difference, int]],
    error: str | None = None,
) -> None:
    """Note that vouchers were listed, or why they could not be; `AuditRunning` where the audit was taken over."""
    if not scopes:
        return
    await require_ours(tx, audit)
    values = [
        {
            "voucher_id": scope.voucher_id,
            "connection": audit.connection,
            "audit_id": audit.id,
            "began_at": scope.began_at,
            "settled_before": scope.settled_before,
            "error": error,
            **{difference.value: counts[scope.voucher_id].get(difference, 0) for difference in Difference},
        }
        for scope in scopes
    ]
    new = insert(voucher_audits).values(finished_at=func.clock_timestamp() if error else None, repaired=0)
    names = [*values[0], "finished_at", "repaired"]
    replaced = {name: new.excluded[name] for name in names}
    await tx.execute(new.on_conflict_do_update(index_elements=[voucher_audits.c.voucher_id], set_=replaced), values)


async def add_confirmed(
    tx: AsyncConnection, counts: Mapping[UUID, Mapping[Difference, int]], repaired: Mapping[UUID, int]
) -> None:
    """Add what was confirmed of vouchers' candidates."""
    if not counts:
        return
    names = [*(difference.value for difference in Difference), "repaired"]
    added = {name: voucher_audits.c[name] + bindparam(f"new_{name}", type_=BigInteger) for name in names}
    statement = (
        update(voucher_audits).where(voucher_audits.c.voucher_id == bindparam("of", type_=UUID_TYPE)).values(added)
    )
    values = [
        {"of": one, "new_repaired": repaired.get(one, 0)}
        | {f"new_{difference.value}": found.get(difference, 0) for difference in Difference}
        for one, found in counts.items()
    ]
    await tx.execute(statement, values)


async def finish_vouchers(tx: AsyncConnection, audit: Audit, voucher_ids: Sequence[UUID]) -> None:
    """Note of vouchers that nothing of them is to be looked at any more, where it is so."""
    has_candidates = (
        select(literal(1))
        .where(
            audit_candidates.c.connection == audit.connection,
            audit_candidates.c.voucher_id == voucher_audits.c.voucher_id,
        )
        .exists()
    )
    mine = (voucher_audits.c.audit_id == audit.id, is_one_of(voucher_audits.c.voucher_id, voucher_ids))
    open_ = (voucher_audits.c.finished_at.is_(None), ~has_candidates)
    await tx.execute(update(voucher_audits).where(*mine, *open_).values(finished_at=func.clock_timestamp()))


def _is_own(connection: str) -> ColumnElement[bool]:
    """Whether a code is of a connection's vouchers, by which an index leads to it: there are those of all hotels."""
    return voucher_codes.c.voucher_id.in_(select(vouchers.c.id).where(vouchers.c.connection == connection))


def _is(audit: Audit) -> tuple[ColumnElement[bool], ...]:
    return audits.c.id == audit.id, audits.c.owner == audit.owner, audits.c.finished_at.is_(None)


def _require(found: object) -> None:
    if not found:
        raise AuditRunning("this audit was taken over by another process, which took this one for dead")


def is_one_of(column: ColumnElement[UUID], ids: Sequence[UUID]) -> ColumnElement[bool]:
    """Whether a column has one of these ids."""
    return column == any_(literal(list(ids), ARRAY(UUID_TYPE)))
