"""Every error that this service raises on purpose.

    VoucherSyncError
    ├── SettingsError                 a setting is missing or wrong
    ├── DatabaseError                 the mirror's database
    │   ├── DatabaseUnavailable       cannot be reached, went away, or has no room
    │   │   └── DatabaseFull, CommitUnknown   takes no more sessions at present; went away at a commit
    │   ├── DatabaseBusy              somebody else's transaction stands in the way
    │   │   └── DatabaseLocked        it holds a lock, for longer than is waited
    │   ├── NotMigrated               reached, but its schema is not this version's
    │   │   └── MigratedFurther       it is a newer version's
    │   ├── Unsuitable, NotAllowed    reached, but of another encoding, release or pooler; its user may not do that
    │   ├── NotAdopted, IncarnationChanged   restored or copied, and nobody agreed to it; its server is another
    │   └── StatementRefused          something on a table refuses what is written, perhaps for one row
    ├── AnotherHotel                  the tokens are not for the hotels that are mirrored
    ├── ClockRefused                  no clock here confirms the API's
    ├── InternalError                 a fault of this service itself; the log has the traceback
    ├── Stopped                       given up because the service is stopping; nothing was in flight
    ├── TooMuchMissing, AuditRunning, AuditMissed   of audits: it changed nothing; is under way; did not begin
    ├── Unreconciled, Unsent          of changes it is unknown whether they were made; they were due and not sent
    └── ApiError                      one call of the Mews Connector API
        ├── NotProcessed              certainly without effect
        │   ├── NotConnected          no connection came about, nothing was sent
        │   ├── CircuitOpen           not tried: too many calls failed just before
        │   ├── InvalidRequest        400: malformed, or an id in the wrong state
        │   ├── Unauthorized          401: token, integration or permission
        │   ├── Forbidden             403: a business rule; the message is for people
        │   ├── NotFound              404 or a redirect
        │   ├── Conflict              409: the data changed meanwhile
        │   ├── Discontinued          410: ended by the vendor, or tried to for hours
        │   ├── PayloadTooLarge       413: the body must be split
        │   ├── RateLimited           429: wait `retry_after_s`
        │   └── UndocumentedAnswer    a refusal that the API does not document, as from a proxy or firewall
        └── OutcomeUnknown            a write may or may not have happened
            ├── NotFromApi            answered by something on the way
            ├── RequestTimedOut       408: ask for less
            │   └── ResponseTooLarge  so is an answer that is longer than it may be
            ├── ServerError           5xx
            ├── ConnectionLost        broken or timed out after something was sent
            └── InvalidResponse       status 200 with a body that is not what was asked for

Foreign errors become one of these in one place each: `sync.mews.failures` for HTTP, `sync.postgres.engine` for
PostgreSQL. No message carries a token; that of an `ApiError` may quote a code's value until it is `redacted`.
"""

from typing import Self


class VoucherSyncError(Exception):
    """Names the cause and the next step; shown to the operator as it is."""


class SettingsError(VoucherSyncError):
    """A setting is missing or wrong."""


class DatabaseError(VoucherSyncError):
    """The mirror's database."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached, went away in the middle, or takes nothing at present; that passes by itself."""


class DatabaseFull(DatabaseUnavailable):
    """The database takes no more sessions at present, of this role, of this database or at all."""


class CommitUnknown(DatabaseUnavailable):
    """The database went away at a commit: it is unknown whether what was done stands."""


class DatabaseBusy(DatabaseError):
    """Somebody else's transaction stands in the way: a deadlock, or a lock that is held for long. Nothing was done."""


class DatabaseLocked(DatabaseBusy):
    """Somebody else's transaction held a lock for longer than is waited. Nothing was done."""


class NotMigrated(DatabaseError):
    """The database answers, but its schema is not the one this version works with."""


class NotAdopted(DatabaseError):
    """The database was restored or copied, so that what it has queued may be done already: nothing is sent from it."""


class IncarnationChanged(DatabaseError):
    """The database may be another one than it was a moment ago. Nothing was done."""


class StatementRefused(DatabaseError):
    """A constraint, trigger, index or privilege refuses a statement, perhaps for one of its rows only: `sqlstate` is
    PostgreSQL's code, `words` names what refuses, and neither holds a value."""

    def __init__(self, message: str, sqlstate: str, words: str) -> None:
        super().__init__(message, sqlstate, words)
        self.message, self.sqlstate, self.words = message, sqlstate, words

    def __str__(self) -> str:
        return self.message


class MigratedFurther(NotMigrated):
    """The database's schema is one that only a newer version knows."""


class Unsuitable(DatabaseError):
    """The database answers, but is not one that this service can work with."""


class NotAllowed(DatabaseError):
    """The database answers, but its user lacks a privilege."""


class AnotherHotel(VoucherSyncError):
    """The tokens are for another API, or for other hotels, than those that the database mirrors."""


class ClockRefused(VoucherSyncError):
    """The API's clock is further from every other one than it may be, so that no instant is taken from it."""


class InternalError(VoucherSyncError):
    """A fault of this service itself, whose traceback is in the log."""


class Stopped(VoucherSyncError):
    """Given up because the service is stopping; nothing was in flight."""


class TooMuchMissing(VoucherSyncError):
    """An audit found so much missing that it changed nothing, and waits for somebody to accept the loss."""


class AuditRunning(VoucherSyncError):
    """An audit of the same connection is under way."""


class AuditMissed(VoucherSyncError):
    """An audit did not begin at its time; it is made up for."""


class Unreconciled(VoucherSyncError):
    """It is unknown whether changes were made, and a look is due later."""


class Unsent(VoucherSyncError):
    """Changes that were due could not be sent; they go later."""


class ApiError(VoucherSyncError):
    """The call of `operation`, as `voucherCodes/getAll`, failed with the HTTP `status` (None without an answer), the
    API's words as `api_message`, and its name for the call as `request_id`, which the vendor's support asks for."""

    summary = "the call failed"

    def __init__(
        self,
        operation: str,
        detail: str = "",
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(operation, detail)
        self.operation, self.api_message = operation, detail
        self.status, self.request_id, self.retry_after_s = status, request_id, retry_after_s

    def redacted(self) -> Self:
        """The same without the API's words, which may quote a code's value where the call carried some."""
        return type(self)(
            self.operation, status=self.status, request_id=self.request_id, retry_after_s=self.retry_after_s
        )

    def __str__(self) -> str:
        status = f" ({self.status})" if self.status else ""
        message = f": {self.api_message}" if self.api_message else ""
        request = f" [Request-Id {self.request_id}]" if self.request_id else ""
        return f"{self.operation}: {self.summary}{status}{message}{request}"


class NotProcessed(ApiError):
    """The call certainly had no effect."""


class OutcomeUnknown(ApiError):
    """If the call was a write, it may have happened."""


class NotConnected(NotProcessed):
    """No connection came about, so nothing was sent."""

    summary = "the API cannot be reached"

    def redacted(self) -> Self:
        """The same: nothing was sent that could be quoted, and without the reason nobody can help."""
        return self


class CircuitOpen(NotProcessed):
    """Not tried, because too many calls failed just before; `retry_after_s` until the next probe."""

    summary = "not tried, the API has been failing"


class InvalidRequest(NotProcessed):
    """400: malformed, or `Invalid {Parameter}`: an id that does not exist or is in the wrong state."""

    summary = "refused as invalid"

    def names(self, parameter: str) -> bool:
        """Whether it is for this parameter, for example `VoucherIds`, that the API refuses."""
        return parameter in self.api_message


class Unauthorized(NotProcessed):
    """401: the token is invalid or expired, the integration disabled, or this operation not permitted."""

    summary = "not authorised"


class Forbidden(NotProcessed):
    """403: a business rule was broken."""

    summary = "refused by a rule"


class NotFound(NotProcessed):
    """404 or a redirect: the platform address is probably wrong."""

    summary = "this is not the API's address"


class Conflict(NotProcessed):
    """409: the data changed meanwhile."""

    summary = "the data changed meanwhile"


class Discontinued(NotProcessed):
    """410: the vendor has ended the operation, or tries that out for some hours."""

    summary = "the vendor has discontinued this, or tries that out; update voucher-sync if it stays"


class PayloadTooLarge(NotProcessed):
    """413: the request's body must be split."""

    summary = "the request is too large"


class RateLimited(NotProcessed):
    """429: too many requests; `retry_after_s` says how long to wait, when the API says it."""

    summary = "too many requests"


class UndocumentedAnswer(NotProcessed):
    """A refusal that the API does not document; of a read, a proxy or firewall on the way may have made it."""

    summary = "refused in an unexpected way"


class RequestTimedOut(OutcomeUnknown):
    """408: the API gave up; ask for fewer vouchers, a shorter window or a smaller page."""

    summary = "too heavy for the API"


class ResponseTooLarge(RequestTimedOut):
    """Status 200, and a body that is longer than it may be: it was not read."""

    summary = "the answer is longer than SYNC_MAX_RESPONSE_MB allows; raise it if this stays"


class ServerError(OutcomeUnknown):
    """5xx: a fault of the API or of a proxy on the way."""

    summary = "the API failed"


class ConnectionLost(OutcomeUnknown):
    """The connection broke, or time ran out, after something was sent."""

    summary = "the connection was lost"


class NotFromApi(OutcomeUnknown):
    """An answer to a write, of whatever status, that is not the API's own, and so proves nothing of it."""

    summary = "something on the way, as a proxy or firewall, answered in the API's place"


class InvalidResponse(OutcomeUnknown):
    """Status 200, and a body that is not the JSON that was asked for."""

    summary = "the answer cannot be read"
