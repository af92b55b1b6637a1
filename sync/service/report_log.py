"""What is logged of a discovery, of a pull, and of changes of which a push makes nothing."""

from collections.abc import Sequence
from uuid import UUID

from sync.logger import structlog
from sync.mirror.discover import DiscoverReport
from sync.mirror.pull_report import PullReport
from sync.outbox.completer import PushReport
from sync.service.history import counts_of

MAX_IDS_LOGGED = 10

log = structlog.get_logger()


def log_report(event: str, connection: str, report: DiscoverReport | PullReport, *, is_news: bool) -> None:
    """Counts, at INFO only where something was written; and as warnings what is left out or could not be stored."""
    (log.info if is_news else log.debug)(event, connection=connection, **counts_of(report))
    if report.refused:
        _warn_of_skipped("refused", connection, event, report.refused)
    if isinstance(report, DiscoverReport) and report.unlisted:
        _warn_of_skipped("unlisted", connection, event, report.unlisted)
    if report.rejected:
        log.warning("rejected_records", connection=connection, flow=event, new=report.rejected)


def warn_of_changes(connection: str, report: PushReport) -> None:
    """As warnings, how many changes are held, rest or failed."""
    for event, count in (
        ("held", report.held),
        ("changes_refused_by_table", report.refused),
        ("changes_failed", report.failed),
    ):
        if count:
            log.warning(event, connection=connection, count=count)


def _warn_of_skipped(reason: str, connection: str, flow: str, ids: Sequence[UUID]) -> None:
    shown = [str(one) for one in ids[:MAX_IDS_LOGGED]]
    log.warning("skipped", reason=reason, connection=connection, flow=flow, count=len(ids), ids=shown)
