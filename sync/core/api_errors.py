"""What a call of the Mews Connector API fails with.

    ApiError
    ├── NotProcessed                  certainly without effect
    │   ├── NotConnected              no connection came about, nothing was sent
    │   ├── CircuitOpen               not tried: too many calls failed just before
    │   ├── InvalidRequest            400: malformed, or an id in the wrong state
    │   ├── Unauthorized              401: token, integration or permission
    │   ├── Forbidden                 403: a business rule; the message is for people
    │   ├── NotFound                  404 or a redirect
    │   ├── Conflict                  409: the data changed meanwhile
    │   ├── Discontinued              410: ended by the vendor, or tried to for hours
    │   ├── PayloadTooLarge           413: the body must be split
    │   ├── RateLimited               429: wait `retry_after_s`
    │   └── UndocumentedAnswer        a refusal that the API does not document, as from a proxy or firewall
    └── OutcomeUnknown                a write may or may not have happened
        ├── NotFromApi                answered by something on the way
        ├── RequestTimedOut           408: ask for less
        │   └── ResponseTooLarge      so is an answer that is longer than it may be
        ├── ServerError               5xx
        ├── ConnectionLost            broken or timed out after something was sent
        └── InvalidResponse           status 200 with a body that is not what was asked for

What httpx raises becomes one of these in `sync.mews.failures`. No message carries a token; one may quote a code's value
until it is `redacted`.
"""

from typing import Self

from sync.core.errors import VoucherSyncError


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
