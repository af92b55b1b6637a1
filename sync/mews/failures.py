"""Every way in which a call can fail, mapped once to the error tree.

Source: docs/mews-api.md, *Limits and errors*; what httpx can raise is its documented exception hierarchy.
"""

import errno
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from sync.core import api_errors
from sync.core.outages import refusal
from sync.core.printable import in_a_line

BY_STATUS: dict[int, type[api_errors.ApiError]] = {
    400: api_errors.InvalidRequest,
    401: api_errors.Unauthorized,
    403: api_errors.Forbidden,
    404: api_errors.NotFound,
    408: api_errors.RequestTimedOut,
    409: api_errors.Conflict,
    410: api_errors.Discontinued,
    413: api_errors.PayloadTooLarge,
    429: api_errors.RateLimited,
}

JUDGES_CONTENT = frozenset({api_errors.InvalidRequest, api_errors.Forbidden, api_errors.Discontinued})
"""What only the API itself can say of what was sent, or of itself."""

BY_EXCEPTION: dict[type[httpx.HTTPError], type[api_errors.ApiError]] = {
    # Nothing was sent before these.
    httpx.ConnectError: api_errors.NotConnected,
    httpx.ConnectTimeout: api_errors.NotConnected,
    httpx.PoolTimeout: api_errors.NotConnected,
    httpx.UnsupportedProtocol: api_errors.NotConnected,
    httpx.ProxyError: api_errors.NotConnected,
    httpx.LocalProtocolError: api_errors.NotConnected,
    # Something may have been sent before these.
    httpx.ReadTimeout: api_errors.ConnectionLost,
    httpx.WriteTimeout: api_errors.ConnectionLost,
    httpx.ReadError: api_errors.ConnectionLost,
    httpx.WriteError: api_errors.ConnectionLost,
    httpx.CloseError: api_errors.ConnectionLost,
    httpx.RemoteProtocolError: api_errors.ConnectionLost,
    httpx.DecodingError: api_errors.InvalidResponse,
    httpx.TooManyRedirects: api_errors.NotFound,
}

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
MAX_MESSAGE_CHARACTERS = 500
MAX_REQUEST_ID_CHARACTERS = 100
MAX_RETRY_AFTER_S = 3600.0
"""A date that is wrong by a year must not silence the service for one, nor put off a change until then."""


class _ErrorBody(msgspec.Struct):
    Message: str = ""


def from_response(
    operation: str, response: httpx.Response, *, now: datetime, secrets: Sequence[str] = ()
) -> api_errors.ApiError:
    """The error that an answer other than 200 stands for; an answer that echoes `secrets` does not bring them along."""
    status = response.status_code
    error = BY_STATUS.get(status) or _by_class(status)
    if error in JUDGES_CONTENT and not is_from_api(response):
        error = api_errors.UndocumentedAnswer
    return error(
        operation,
        api_message(response.content, secrets),
        status=status,
        request_id=request_id(response, secrets),
        retry_after_s=retry_after_s(response.headers.get("Retry-After"), now=now),
    )


def not_from_api(error: api_errors.ApiError) -> api_errors.NotFromApi:
    """What an answer to a write proves that the API has not given itself: nothing."""
    return api_errors.NotFromApi(error.operation, status=error.status, retry_after_s=error.retry_after_s)


def _by_class(status: int) -> type[api_errors.ApiError]:
    """What a status that has no entry of its own stands for."""
    if 200 <= status < 300:
        # Said to be done, in a form that was not asked for: a write sent again after it would be done twice.
        return api_errors.InvalidResponse
    if status < 400:
        return api_errors.NotFound
    return api_errors.UndocumentedAnswer if status < 500 else api_errors.ServerError


def too_long(operation: str, response: httpx.Response, secrets: Sequence[str] = ()) -> api_errors.ApiError:
    """The error that an answer of 200 stands for whose body was too long to be read."""
    if not is_from_api(response):
        # Asking the API for less does not shorten what a proxy puts in its place.
        return api_errors.InvalidResponse(operation, "too long, and not the API's own", status=200)
    return api_errors.ResponseTooLarge(operation, status=200, request_id=request_id(response, secrets))


def from_exception(operation: str, exception: httpx.HTTPError, secrets: Sequence[str] = ()) -> api_errors.ApiError:
    """The error that a failure of the connection stands for. Its words may be a proxy's, or quote what came for a
    header: they bring no `secrets` along either.
    """
    words = _shown(_describe(exception), secrets)[:MAX_MESSAGE_CHARACTERS]
    for kind in type(exception).__mro__:
        if error := BY_EXCEPTION.get(kind):
            return error(operation, words)
    # An exception that httpx may grow later says nothing about whether the request was sent.
    return api_errors.ConnectionLost(operation, words)


def api_message(body: bytes, secrets: Sequence[str] = ()) -> str:
    """The `Message` of an error's body without `secrets`, or a note that a proxy answered with something else."""
    try:
        message = msgspec.json.decode(body, type=_ErrorBody).Message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "the body is not the API's JSON" if body else ""
    return _shown(message, secrets)[:MAX_MESSAGE_CHARACTERS]


def request_id(response: httpx.Response, secrets: Sequence[str] = ()) -> str | None:
    """The API's name for the call, which the vendor's support asks for; without `secrets`."""
    name = response.headers.get("Request-Id")
    return _shown(name, secrets)[:MAX_REQUEST_ID_CHARACTERS] if name else None


def _shown(words: str, secrets: Sequence[str]) -> str:
    # Before it is cut: a part of one would be left at the end.
    for secret in secrets:
        words = words.replace(secret, "***")
    # A NUL or half a surrogate pair would make the database refuse to keep it.
    return in_a_line(words)


def retry_after_s(header: str | None, *, now: datetime) -> float | None:
    """Seconds to wait, an hour at most, by a `Retry-After` header in either of its forms; `now`: the server's clock."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return min(float(header), MAX_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()), MAX_RETRY_AFTER_S)


def is_from_api(response: httpx.Response) -> bool:
    """Whether the API itself answered, which puts its name for the call on every answer, or something on the way."""
    is_json = response.headers.get("Content-Type", "").lower().startswith("application/json")
    return is_json and "Request-Id" in response.headers


def _describe(exception: httpx.HTTPError) -> str:
    # Of a connection that this machine itself refuses to make the outermost error says only that none came about.
    for cause in _causes(exception):
        if isinstance(cause, OSError) and cause.errno in NO_DESCRIPTORS:
            return f"{refusal(cause)}; raise what this host lets it have (`ulimit -n`)"
    return str(exception) or type(exception).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from; of a group, as of a host's several addresses, the first."""
    while error is not None:
        yield error
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
