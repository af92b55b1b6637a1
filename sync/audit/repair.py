"""Mending what an audit found, as far as users' constraints and triggers let it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import overwrite, store
from sync.audit.compare import DRIFT, Difference, MirroredCode, columns_that_differ
from sync.connection.connection import Connection
from sync.core.errors import StatementRefused
from sync.mews.records import Rejected, VoucherCode
from sync.mirror import rejected
from sync.mirror.rejected import ALTERED
from sync.mirror.store import CODES, api_object, as_raw, as_rejected, set_aside, target_of
from sync.mirror.tables import voucher_codes
from sync.postgres.engine import in_transaction
from sync.postgres.refused_rows import Target, write_all

EARLIEST = datetime.min.replace(tzinfo=UTC)
MARK_MISSING = Target(voucher_codes, overwrite.mark_missing, id_of=lambda row: row[0])
OVERWRITE = Target(voucher_codes, overwrite.overwrite, id_of=lambda row: row[0].id)


async def repair(
    connection: Connection,
    differences: Mapping[UUID, Difference],
    here: Mapping[UUID, MirroredCode],
    there: Mapping[UUID, VoucherCode],
) -> tuple[set[UUID], set[UUID]]:
    """Bring the mirror's rows to what the API says; the codes that were mended, and those whose rows cannot be.

    Raises `DatabaseError` in its variants, where no row can be.
    """
    marked, written, aside = await _write(connection, differences, here, there)
    code_ids = [*marked, *(code.id for code in written)]
    stand = await in_transaction(connection.engine, partial(store.mirrored, code_ids=code_ids))
    altered = {code.id: why for code in written if (why := _alteration(stand.get(code.id), code)) is not None}
    aside += [as_rejected(CODES.name, one.id, api_object(one), altered[one.id]) for one in written if one.id in altered]
    taken = [str(code.id) for code in written if code.id not in altered]

    async def note(tx: AsyncConnection) -> None:
        await rejected.keep(tx, connection.name, aside)
        await rejected.forget(tx, connection.name, CODES.name, taken)

    await in_transaction(connection.engine, note)
    mended = {one for one in marked if one in stand and stand[one].is_missing}
    mended |= {code.id for code in written if _is_mended(stand.get(code.id), here.get(code.id), code)}
    return mended, {UUID(one.record_id) for one in aside if one.record_id}


async def _write(
    connection: Connection,
    differences: Mapping[UUID, Difference],
    here: Mapping[UUID, MirroredCode],
    there: Mapping[UUID, VoucherCode],
) -> tuple[list[UUID], list[VoucherCode], list[Rejected]]:
    """The codes that were marked as missing, those that were written, and what is refused of them."""
    ids = _by_kind(differences)
    engine = connection.engine
    missing = [(one, here[one].mirrored_at) for one in ids[Difference.ONLY_MIRRORED]]
    wrong = [(there[one], here[one].mirrored_at) for one in ids[Difference.DIFFERING]]
    absent = [there[one] for one in ids[Difference.ONLY_LISTED]]
    marked = await write_all(engine, MARK_MISSING, missing)
    overwritten = await write_all(engine, OVERWRITE, wrong)
    added = await write_all(engine, target_of(connection, CODES), absent)
    aside = [
        *(set_aside(connection, CODES, here[row[0]].code, why) for row, why in marked.refused),
        *(set_aside(connection, CODES, row[0], why) for row, why in overwritten.refused),
        *(set_aside(connection, CODES, code, why) for code, why in added.refused),
    ]
    written = [*(code for code, _ in overwritten.stored), *added.stored]
    return [one for one, _ in marked.stored], written, aside


async def refused_before(
    connection: Connection, differences: Mapping[UUID, Difference], there: Mapping[UUID, VoucherCode]
) -> set[UUID]:
    """Codes that drifted, and that are known to be refused as the API has them now."""
    raws = {
        as_raw(api_object(there[one])): one
        for one, difference in differences.items()
        if difference in DRIFT and one in there
    }
    known = partial(rejected.refused_before, connection=connection.name, raws=list(raws))
    return {raws[raw] for raw in await in_transaction(connection.engine, known)}


def _by_kind(differences: Mapping[UUID, Difference]) -> dict[Difference, list[UUID]]:
    ids: dict[Difference, list[UUID]] = {difference: [] for difference in Difference}
    for one, difference in differences.items():
        ids[difference].append(one)
    return ids


def _is_mended(stands: MirroredCode | None, before: MirroredCode | None, code: VoucherCode) -> bool:
    """Whether a row was written since it was compared, and is what the API says."""
    is_written = stands is not None and (before is None or stands.mirrored_at > before.mirrored_at)
    return is_written and stands is not None and stands.code == code and not stands.is_missing


def _alteration(stands: MirroredCode | None, code: VoucherCode) -> StatementRefused | None:
    """What a trigger or rule has done to a code that was just written; None where it stands there as it was written."""
    if stands is None:
        return StatementRefused("", ALTERED, f"a trigger or rule of {voucher_codes.fullname} drops the row")
    is_fresher = (stands.code.updated_utc or EARLIEST) > (code.updated_utc or EARLIEST)
    if columns := [] if is_fresher else columns_that_differ(stands.code, code):
        words = f"a trigger or rule of {voucher_codes.fullname} alters {', '.join(columns)}"
        return StatementRefused("", ALTERED, words)
    return None
