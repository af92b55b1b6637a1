"""Whether a connection works: logged when it begins to fail and when it works again, not at every try between."""

import time

import structlog

from sync.db import connections
from sync.db.engine import transaction
from sync.flows.connection import Connection
from sync.model.errors import DatabaseError, VoucherSyncError

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

    async def note(self, job: str, error: VoucherSyncError | None) -> None:
        """Take the outcome of one run of a job."""
        self._set(job, error)
        text = str(self.errors[0]) if self.errors else None
        if self._saved == (text,):
            return
        try:
            async with transaction(self._connection.engine) as tx:
                await connections.set_state(tx, self._connection.name, text)
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
