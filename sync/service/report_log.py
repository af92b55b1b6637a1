"""What is logged of a discovery and of a pull."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from sync.mirror.discover import DiscoverReport
from sync.mirror.pull_report import PullReport
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


def _warn_of_skipped(reason: str, connection: str, flow: str, ids: Sequence[UUID]) -> None:
    shown = [str(one) for one in ids[:MAX_IDS_LOGGED]]
    log.warning("skipped", reason=reason, connection=connection, flow=flow, count=len(ids), ids=shown)
