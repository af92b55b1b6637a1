"""Whether a connection works: logged when it begins to fail, when it fails for another reason, and when it works again,
not at every try between.
"""

import time
from collections import Counter
from functools import cache, partial

from sync.connection.connection import Connection
from sync.core.api_errors import CircuitOpen
from sync.core.errors import DatabaseError, VoucherSyncError
from sync.core.outages import API_IS_AWAY, is_outage
from sync.logger import structlog
from sync.postgres.engine import in_transaction
from sync.service import states
from sync.service.states import Missed, Standing
from sync.service.status import remedies

DECISIVE = "pull"
"""The job whose success says that a connection works, to a process that has seen nothing fail yet: it needs the API and
the database."""
SELDOM = {"audit", "push"}
"""Jobs that end hours later, or have nothing to do when all is well again: the decisive one ends their outages. The
others are tried again within seconds, and see for themselves."""
NO_OUTAGES: frozenset[str] = frozenset()
"""There once: each empty set takes 200 bytes."""
UNSAVED = "state"
"""Stands for the note in the database itself."""

MISSED_S = 5.0
"""What nobody could note for less, as where a line was cut, was no outage."""
CAUSE_LASTS_S = 60.0
"""Another reason is told no sooner after the one before: an API that fails by turns in several ways would fill the
log."""

log = structlog.get_logger()


class Health:
    """What fails at present, by the job that found it; kept in the database for `voucher-sync status`.

    `runs` counts by job and whether it failed how its runs ended since the process began.
    """

    __slots__ = (
        "_connection", "_errors", "_failing_since", "_outages", "_saved", "_told_at", "_told_cause", "runs",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.runs: Counter[tuple[str, bool]] = Counter()
        self._errors: dict[str, VoucherSyncError] = {}
        self._outages = NO_OUTAGES
        self._failing_since: float | None = None
        self._told_cause, self._told_at = "", 0.0
        self._saved: Standing | None = None

    @property
    def errors(self) -> list[VoucherSyncError]:
        """What fails at present, without repeats."""
        return list({str(error): error for error in self._errors.values()}.values())

    @property
    def standing(self) -> Standing | None:
        """What `status` is to tell: why the connection fails, or that it works; None: not known yet."""
        errors = [error for job, error in self._errors.items() if job != UNSAVED]
        if errors:
            return Standing(str(errors[0]), type(errors[0]).__name__)
        # What an earlier process saw fail may fail still, and `status` tells since when.
        return None if self._saved is None else Standing()

    @property
    def missed(self) -> Missed | None:
        """What the database does not know of, since it took no note of it."""
        unsaved, since = self._errors.get(UNSAVED), self._failing_since
        lasted_s = 0.0 if since is None else time.monotonic() - since
        return Missed(str(unsaved), lasted_s) if unsaved and lasted_s >= MISSED_S else None

    def is_failing(self, *jobs: str) -> bool:
        """Whether one of these jobs failed when it last ran."""
        return any(job in self._errors for job in jobs)

    def is_outage(self, job: str) -> bool:
        """Whether a job failed since the API or the database is away, and not for a reason of its own."""
        return job in self._outages

    @property
    def is_platform_away(self) -> bool:
        """Whether the API answers no connection at all."""
        return self._connection.client.is_platform_away

    async def note(self, job: str, error: VoucherSyncError | None) -> None:
        """Take the outcome of one run of a job."""
        self.runs[_outcome(job, error is not None)] += 1
        self._set(job, error)
        unsaved: DatabaseError | None = None
        standing, missed = self.standing or (Standing() if job == DECISIVE else None), self.missed
        if missed or (standing is not None and standing != self._saved):
            try:
                name = self._connection.name
                note = partial(states.note, name=name, standing=standing, missed=missed)
                unsaved = await in_transaction(self._connection.engine, note)
            except DatabaseError as error_of_note:
                unsaved = error_of_note
            if unsaved is None:  # else it is noted anew with the next run
                self._saved = standing or self._saved
        self._set(UNSAVED, unsaved)

    def _set(self, job: str, error: VoucherSyncError | None) -> None:
        if error is None:
            for one in {job} | (self._over() if job == DECISIVE else frozenset()):
                self._errors.pop(one, None)
            self._outages = self._outages.intersection(self._errors) or NO_OUTAGES
        else:
            self._errors[job] = _told_only(error)
            self._note_kind(job, error)
        if self._errors and self._failing_since is None:
            self._failing_since = time.monotonic()
            self._tell("failing", *next(iter(self._errors.items())))
        elif self._errors:
            self._tell_of_another_cause()
        elif self._failing_since is not None:
            failed_s = round(time.monotonic() - self._failing_since, 1)
            self._failing_since = None
            log.info("recovered", connection=self._connection.name, failed_s=failed_s)

    def _tell_of_another_cause(self) -> None:
        job, error = next(iter(self._errors.items()))
        # What was not tried says nothing of why the last call failed.
        is_another = _cause(error) != self._told_cause and not isinstance(error, CircuitOpen)
        if is_another and time.monotonic() - self._told_at >= CAUSE_LASTS_S:
            self._tell("fails_otherwise", job, error)

    def _tell(self, event: str, job: str, error: VoucherSyncError) -> None:
        self._told_cause, self._told_at = _cause(error), time.monotonic()
        log.warning(event, connection=self._connection.name, job=job, error=str(error))

    def _over(self) -> frozenset[str]:
        """The jobs whose outage is over: those that come seldom, and those that were not tried and may be now."""
        is_closed = not self._connection.client.is_probing
        untried = {one for one in self._outages if is_closed and isinstance(self._errors[one], CircuitOpen)}
        return (self._outages & SELDOM) | untried

    def _note_kind(self, job: str, error: VoucherSyncError) -> None:
        # One call's 503 says nothing about the API, but the circuit opens when nothing else comes through either.
        if is_outage(error) or (isinstance(error, API_IS_AWAY) and self._connection.client.is_probing):
            self._outages |= {job}
        else:
            self._outages -= {job}


@cache
def _outcome(job: str, has_failed: bool) -> tuple[str, bool]:
    """There once: thousands of connections count by the same few."""
    return job, has_failed


def _cause(error: VoucherSyncError) -> str:
    """What `status` says has happened: two ways of failing alike are no news."""
    kind = type(error).__name__
    return remedies.HEADLINES.get(kind, kind)


def _told_only(error: VoucherSyncError) -> VoucherSyncError:
    """The error without where it was raised: kept for an outage's hours, those frames are tens of kilobytes of each
    connection.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
