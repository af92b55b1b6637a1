"""The second look at what seems to have drifted, and mending what has.

Each batch is forgotten in the transaction that counts it, so that a process that dies loses no more than one batch.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import candidates as seen
from sync.audit import store as db
from sync.audit.candidates import Candidate
from sync.audit.compare import Comparison, Difference, MirroredCode, columns_that_differ
from sync.audit.context import CONCERNS_SOME, AuditRun
from sync.audit.gone import left_to_list_again
from sync.audit.listing import Scopes, list_again
from sync.audit.repair import refused_before, repair
from sync.core.api_errors import ApiError
from sync.core.bisection import Bisection
from sync.mews.rate_limiter import Priority
from sync.mews.records import VoucherCode
from sync.mirror.read_back import read_codes

MAX_BY_ID = 500


async def confirm_group(run: AuditRun, scopes: Scopes, sizes: Mapping[UUID, int]) -> None:
    """Look once more at what seems to have drifted in up to 1000 vouchers, and mend what has.

    `sizes`: how many codes each is known to have.
    """
    if not run.report.braked:
        unlisted = await run.do(lambda tx: seen.with_unlisted(tx, run.connection.name, list(scopes)))
        if unlisted:
            codes = sum(sizes.get(one, 0) for one in unlisted)
            unlisted = await left_to_list_again(run, {one: scopes[one] for one in unlisted}, codes)
        if unlisted:
            await list_again(run, {one: scopes[one] for one in unlisted})

    async def take(tx: AsyncConnection) -> list[Candidate]:
        return await seen.some_candidates(tx, run.connection.name, list(scopes), MAX_BY_ID)

    while candidates := await run.do(take):
        await run.keep_alive()
        await _confirm_some(run, scopes, candidates)
    await run.do(lambda tx: db.finish_vouchers(tx, run.audit, list(scopes)))


async def _confirm_some(run: AuditRun, scopes: Scopes, candidates: Sequence[Candidate]) -> None:
    """Compare codes once more, mend them, and count them."""
    # The mirror's rows are read first: whatever writes them from now on makes them ones that are left alone.
    mirrored = await run.do(lambda tx: db.mirrored(tx, [one.code_id for one in candidates]))
    listed, failed = await _read_by_id(run, candidates)
    for voucher_id, error in failed.items():
        await run.fail(scopes[voucher_id], error)
    # A code that drifted from one voucher to another is a candidate of both: the one that lists it counts.
    left = sorted((one for one in candidates if one.voucher_id not in failed), key=lambda one: one.is_listed)
    voucher_of = {one.code_id: one.voucher_id for one in left if one.code_id in mirrored or one.code_id in listed}
    differences = {
        one: _comparison(scopes, voucher_id).compare(mirrored.get(one), listed.get(one))
        for one, voucher_id in voucher_of.items()
    }
    for one, difference in differences.items():
        if difference is Difference.DIFFERING:
            columns = columns_that_differ(mirrored[one].code, listed[one]) or ["missing_since"]
            run.voucher(voucher_of[one]).columns.update(columns)
    mended, refused = await _mend(run, differences, mirrored, listed)
    counts: defaultdict[UUID, Counter[Difference]] = defaultdict(Counter)
    for one, difference in (differences | dict.fromkeys(refused, Difference.REFUSED)).items():
        counts[voucher_of[one]][difference] += 1
    repaired = Counter(voucher_of[one] for one in mended)
    for voucher_id, count in repaired.items():
        run.voucher(voucher_id).repaired += count

    async def note(tx: AsyncConnection) -> None:
        await db.require_ours(tx, run.audit)
        await db.add_confirmed(tx, counts, repaired)
        await seen.drop_candidates(tx, run.connection.name, candidates)

    await run.do(note)


async def _mend(
    run: AuditRun,
    differences: dict[UUID, Difference],
    mirrored: dict[UUID, MirroredCode],
    listed: dict[UUID, VoucherCode],
) -> tuple[set[UUID], set[UUID]]:
    """The codes that were mended, if that is wanted, and those whose rows cannot be."""
    if run.settings.repair and not run.report.braked:
        return await repair(run.connection, differences, mirrored, listed)
    return set(), await refused_before(run.connection, differences, listed)


async def _read_by_id(
    run: AuditRun, candidates: Sequence[Candidate]
) -> tuple[dict[UUID, VoucherCode], dict[UUID, ApiError]]:
    """The codes that the API had listed, as they are now, and the vouchers that it refuses, with its reason."""
    codes_of: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for one in candidates:
        if one.is_listed:
            codes_of[one.voucher_id].append(one.code_id)
    found: dict[UUID, VoucherCode] = {}
    failed: dict[UUID, ApiError] = {}
    bisection = Bisection(list(codes_of))
    while group := bisection.group:
        code_ids = [one for voucher_id in group for one in codes_of[voucher_id]]
        try:
            codes = await read_codes(run.connection, group, code_ids, store=False, priority=Priority.AUDIT)
        except CONCERNS_SOME as error:
            if len(group) == 1:
                failed[group[0]] = error
            bisection.tell(went_through=False)
        else:
            found.update((code.id, code) for code in codes)
            bisection.tell(went_through=True)
    return found, failed


def _comparison(scopes: Scopes, voucher_id: UUID) -> Comparison:
    return Comparison(scopes[voucher_id].began_at, scopes[voucher_id].settled_before)
