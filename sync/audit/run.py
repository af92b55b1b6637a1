"""The audit: every code of every voucher, without a time filter, compared with the mirror row by row.

First all vouchers are listed, many together, and what seems to have drifted is noted. Then, unless so much is missing
that the API itself must be at fault, each of those codes is looked at once more before it counts as drift, and before
it is mended: a code may have moved between two pages, or have changed meanwhile.
"""

from collections import Counter
from collections.abc import Mapping
from shlex import quote
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import candidates, pages
from sync.audit import store as db
from sync.audit.compare import Difference, is_suspicious_loss
from sync.audit.confirm import confirm_group
from sync.audit.context import AuditRun, AuditSettings, OnProgress, for_each
from sync.audit.grouping import group_vouchers
from sync.audit.listing import list_group
from sync.audit.report import AuditReport
from sync.connection.connection import Connection
from sync.core.plurals import percent, plural
from sync.mirror import counts, rejected
from sync.postgres.engine import in_transaction


async def audit(
    connection: Connection, settings: AuditSettings, on_progress: OnProgress = lambda report: None
) -> AuditReport:
    """One audit, or the rest of one that another process left.

    Raises `AuditRunning`, `DatabaseError`, `Stopped`, and `ApiError` where it concerns more than some vouchers.
    """
    epoch = connection.tenure.epoch
    ours = await in_transaction(connection.engine, lambda tx: db.begin(tx, connection.name, epoch))
    try:
        return await _audit(AuditRun(connection, settings, ours, on_progress))
    except BaseException:
        await in_transaction(connection.engine, lambda tx: db.release(tx, ours))
        raise


async def _audit(run: AuditRun) -> AuditReport:
    name = run.connection.name
    run.connection.refusals.forget()
    run.has_rejected = await run.do(lambda tx: rejected.has_any(tx, name))
    sizes = await run.do(lambda tx: db.count_codes(tx, name))
    await _list_all(run, sizes)
    run.report.braked = await _guard_against_loss(run)
    await _confirm_all(run, sizes)
    await _finish(run)
    await run.do(lambda tx: counts.correct(tx, name))
    return run.report


async def _list_all(run: AuditRun, sizes: Mapping[UUID, int]) -> None:
    report, name = run.report, run.connection.name
    voucher_ids = await run.do(lambda tx: db.left_to_list(tx, run.audit))
    report.vouchers_left = len(voucher_ids)
    report.left_out = await run.do(lambda tx: db.count_left_out(tx, name))
    await run.do(lambda tx: pages.forget_all(tx, name))

    async def list_some(group: list[UUID]) -> None:
        await list_group(run, group)
        report.vouchers_done += len(group)
        report.vouchers_left -= len(group)
        run.on_progress(report)

    await for_each(group_vouchers(voucher_ids, sizes), list_some)


async def _confirm_all(run: AuditRun, sizes: Mapping[UUID, int]) -> None:
    scopes = {scope.voucher_id: scope for scope in await run.do(lambda tx: db.left_to_confirm(tx, run.audit))}

    async def confirm_some(group: list[UUID]) -> None:
        await confirm_group(run, {one: scopes[one] for one in group}, sizes)

    await for_each(group_vouchers(list(scopes), sizes), confirm_some)


async def _finish(run: AuditRun) -> None:
    """End the audit, and take into the report what was found in all of it."""

    async def finish(tx: AsyncConnection) -> list[tuple[UUID, dict[Difference, int], int]]:
        await rejected.forget_stored(tx, run.connection.name)
        await db.finish(tx, run.audit, run.report.braked)
        return await db.results(tx, run.audit)

    for voucher_id, found, repaired in await run.do(finish):
        # With what the process compared that had begun this audit.
        voucher = run.voucher(voucher_id)
        voucher.counts, voucher.repaired = +Counter(found), repaired


async def _guard_against_loss(run: AuditRun) -> str | None:
    """Why nothing may be changed: so much is missing that it looks like a fault of the API, or of the token."""
    name, share = run.connection.name, run.settings.max_loss
    missing = await run.do(lambda tx: candidates.count_unlisted(tx, name))
    mirrored = await run.do(lambda tx: db.count_mirrored(tx, name))
    if run.settings.accept_loss or not is_suspicious_loss(missing, mirrored, share=share):
        return None
    much = f"more than {percent(share)}" if missing > share * mirrored else "which is all of them"
    # Else the loss of every hotel would be accepted with this one's.
    of_this = f" --connection {quote(name)}" if run.connection.identity.is_stored else ""
    return (
        f"the API no longer lists {missing:,} of the {plural(mirrored, 'code')} of this connection, {much}: nothing "
        f"was changed; if that is right, run `voucher-sync audit --repair --accept-loss{of_this}`"
    )
