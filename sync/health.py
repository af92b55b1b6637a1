"""Whether a connection works: logged when it begins to fail and when it works again, not at every try between."""

import time

import structlog

from sync.db import connections
from sync.db.engine import in_transaction
from sync.flows.connection import Connection
from sync.model.errors import DatabaseError, VoucherSyncError

DECISIVE = "pull"
"""The job whose success says that a connection works, to a process that has seen nothing fail yet."""

log = structlog.get_logger()


class Health:
    """What fails at present, by the job that found it; kept in the database for `voucher-sync status`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._errors: dict[str, VoucherSyncError] = {}
        self._failing_since: float | None = None
        self._saved: tuple[str | None] | None = None

    @property
    def errors(self) -> list[VoucherSyncError]:
        """What fails at present, without repeats."""
        return list({str(error): error for error in self._errors.values()}.values())

    def is_failing(self, *jobs: str) -> bool:
        """Whether one of these jobs failed when it last ran."""
        return any(job in self._errors for job in jobs)

    async def note(self, job: str, error: VoucherSyncError | None) -> None:
        """Take the outcome of one run of a job."""
        self._set(job, error)
        text = str(self.errors[0]) if self.errors else None
        if self._saved == (text,):
            return
        if text is None and self._saved is None and job != DECISIVE:
            # What an earlier process saw fail may fail still, and `status` tells since when.
            return
        try:
            name = self._connection.name
            await in_transaction(self._connection.engine, lambda tx: connections.set_state(tx, name, text))
        except DatabaseError as unsaved:
            self._set("state", unsaved)
        else:
            self._saved = (text,)
            self._set("state", None)

    def _set(self, job: str, error: VoucherSyncError | None) -> None:
        if error is None:
            self._errors.pop(job, None)
        else:
            self._errors[job] = error
        if self._errors and self._failing_since is None:
            self._failing_since = time.monotonic()
            log.warning("failing", connection=self._connection.name, job=job, error=str(error))
        elif not self._errors and self._failing_since is not None:
            failed_s = round(time.monotonic() - self._failing_since, 1)
            self._failing_since = None
            log.info("recovered", connection=self._connection.name, failed_s=failed_s)
