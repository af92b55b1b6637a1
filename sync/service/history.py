"""What the runs of a connection did, kept in the database for `voucher-sync status`."""

import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Any

from sync.connection.connection import Connection
from sync.core.api_errors import ApiError
from sync.core.errors import DatabaseBusy, DatabaseError, VoucherSyncError
from sync.core.outages import API_IS_AWAY
from sync.logger import structlog
from sync.postgres.engine import in_transaction
from sync.service import runs, samples
from sync.service.forgetting import forget_old

log = structlog.get_logger()


class History:
    """Notes runs that changed something, and those that failed in another way than the one before of their kind."""

    __slots__ = ("_connection", "_last_errors")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last_errors: dict[str, str] = {}

    async def note(
        self, kind: str, began_s: float, counts: Mapping[str, int], error: VoucherSyncError | None, *, is_news: bool
    ) -> None:
        """Take the outcome of one run, which began at `began_s` of the monotonic clock."""
        words = str(error.redacted() if isinstance(error, ApiError) else error) if error else None
        sort = _sort(error)
        if not is_news and sort == self._last_errors.get(kind):
            return
        lasted = timedelta(seconds=time.monotonic() - began_s)
        try:
            note = partial(runs.note, lasted=lasted, counts=counts, error=words)
            await in_transaction(self._connection.engine, lambda tx: note(tx, self._connection.name, kind))
        except DatabaseError as unsaved:
            # The same trouble ends the job itself, or the next one, and is told there.
            log.debug("run_not_noted", connection=self._connection.name, kind=kind, error=type(unsaved).__name__)
        else:
            self._last_errors.pop(kind, None)
            if sort is not None:
                self._last_errors[kind] = sort

    async def prune(self) -> None:
        """Forget what is old, and keep less of what is older. Raises `DatabaseError`."""
        await in_transaction(self._connection.engine, samples.thin)
        await in_transaction(self._connection.engine, forget_old)


def _sort(error: VoucherSyncError | None) -> str | None:
    """What makes a failure another one; not its words, which name the call."""
    if isinstance(error, API_IS_AWAY):
        # Refused, timed out, 502, 503, not tried at all: an outage is all of them in turn, and would fill the history.
        return "the API is away"
    if isinstance(error, ApiError):
        return f"{type(error).__name__} {error.status}"
    if isinstance(error, DatabaseBusy):
        return type(error).__name__  # it names whoever stands in the way, and what he does just now
    return str(error) if error else None


def counts_of(report: Any) -> dict[str, int]:
    """The numbers of a report, by name."""
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    return {name: value for name, value in values.items() if type(value) is int}
