"""Every way in which a call can fail is mapped, and a new one of httpx's would be noticed."""

import os
import resource
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import pytest

from sync.core import api_errors
from sync.mews import failures
from sync.mews.transport import Transport

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def response(status: int, body: bytes = b"", **headers: str) -> httpx.Response:
    return httpx.Response(
        status, content=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@pytest.mark.parametrize(
    ("status", "kind", "is_processed_for_sure_not"),
    [
        (201, api_errors.InvalidResponse, False),
        (202, api_errors.InvalidResponse, False),
        (204, api_errors.InvalidResponse, False),
        (206, api_errors.InvalidResponse, False),
        (301, api_errors.NotFound, True),
        (400, api_errors.InvalidRequest, True),
        (401, api_errors.Unauthorized, True),
        (403, api_errors.Forbidden, True),
        (404, api_errors.NotFound, True),
        (408, api_errors.RequestTimedOut, False),
        (409, api_errors.Conflict, True),
        (413, api_errors.PayloadTooLarge, True),
        (418, api_errors.UndocumentedAnswer, True),
        (429, api_errors.RateLimited, True),
        (500, api_errors.ServerError, False),
        (502, api_errors.ServerError, False),
        (503, api_errors.ServerError, False),
        (504, api_errors.ServerError, False),
    ],
)
def test_every_status_has_its_error(
    status: int, kind: type[api_errors.ApiError], is_processed_for_sure_not: bool
) -> None:
    answer = response(status, b'{"Message": "why"}', Request_Id="r-1", Content_Type="application/json")
    error = failures.from_response("a/b", answer, now=NOW)
    assert type(error) is kind
    assert isinstance(error, api_errors.NotProcessed) is is_processed_for_sure_not
    assert (error.api_message, error.request_id, error.status) == ("why", "r-1", status)
    assert all(part in str(error) for part in ("a/b", "why", "r-1", str(status)))


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; Charset=UTF-8"])
def test_a_media_type_is_the_api_s_in_capitals_too(content_type: str) -> None:
    assert failures.is_from_api(response(200, Request_Id="r-1", Content_Type=content_type))


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("headers", [{}, {"Content_Type": "text/html", "Request_Id": "r-1"}])
def test_only_the_api_itself_judges_what_was_sent(status: int, headers: dict[str, str]) -> None:
    error = failures.from_response("a/b", response(status, b"<html>Blocked</html>", **headers), now=NOW)
    assert type(error) is api_errors.UndocumentedAnswer


def subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(subclasses(one) for one in kind.__subclasses__()))


def test_every_exception_that_httpx_can_raise_in_a_call_is_mapped() -> None:
    abstract = {httpx.TransportError, httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError}
    raised = {one for one in subclasses(httpx.TransportError) if one.__module__.startswith("httpx")} - abstract
    raised |= {httpx.DecodingError, httpx.TooManyRedirects}
    assert raised == set(failures.BY_EXCEPTION)


@pytest.mark.parametrize("exception", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_a_connection_that_never_was_is_not_processed(exception: httpx.HTTPError) -> None:
    assert isinstance(failures.from_exception("a/b", exception), api_errors.NotProcessed)


async def test_a_connection_that_this_machine_has_no_descriptor_for_is_told_as_that() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    transport = Transport("http://127.0.0.1:9", max_connections=1, max_response_bytes=1)
    with suppress(httpx.ConnectError):
        await transport.post("/", b"", timeout_s=10)  # the first call loads modules, from files
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(httpx.ConnectError) as raised:
            await transport.post("/", b"", timeout_s=10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await transport.aclose()
    told = str(failures.from_exception("a/b", raised.value))
    assert told.startswith("a/b: the API cannot be reached: the operating system refused: Too many open files; ")


@pytest.mark.parametrize(
    "exception", [httpx.ReadError("reset"), httpx.RemoteProtocolError("closed"), httpx.HTTPError("?")]
)
def test_a_connection_that_broke_leaves_the_outcome_unknown(exception: httpx.HTTPError) -> None:
    assert isinstance(failures.from_exception("a/b", exception), api_errors.OutcomeUnknown)


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [
        (None, None),
        ("7", 7.0),
        (" 30 ", 30.0),
        ("Sat, 31 Jan 2026 12:00:05 GMT", 5.0),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
        ("3601", 3600.0),
        ("9" * 400, 3600.0),
        ("Sun, 31 Jan 2027 12:00:05 GMT", 3600.0),
        ("soon", None),
        ("-3", None),
    ],
)
def test_retry_after_in_both_its_forms(header: str | None, expected_s: float | None) -> None:
    assert failures.retry_after_s(header, now=NOW) == expected_s


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"{", b'{"Message": 5}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_the_apis_is_said_to_be_so(body: bytes) -> None:
    assert failures.api_message(body) == "the body is not the API's JSON"


@pytest.mark.parametrize("before", ["", "x" * (failures.MAX_MESSAGE_CHARACTERS - 5)], ids=["whole", "cut"])
def test_nothing_is_left_of_a_token_that_a_message_quotes(before: str) -> None:
    answer = response(403, f'{{"Message": "{before}the-token"}}'.encode())
    assert failures.from_response("a/b", answer, now=NOW, secrets=["the-token"]).api_message == f"{before}***"


def test_a_message_is_one_short_line() -> None:
    assert failures.api_message(b'{"Message": "a\\n  b"}') == "a b"
    assert len(failures.api_message(b'{"Message": "' + b"x" * 9999 + b'"}')) == failures.MAX_MESSAGE_CHARACTERS


def test_an_answer_that_names_the_call_by_a_token_does_not_bring_it_along() -> None:
    answer = response(400, b'{"Message": "why"}', Request_Id="r the-token", Content_Type="application/json")
    told = failures.from_response("a/b", answer, now=NOW, secrets=["the-token"])
    too_long = failures.too_long("a/b", answer, ["the-token"])
    assert (told.request_id, too_long.request_id) == ("r ***", "r ***")


def test_what_a_proxy_says_instead_of_a_connection_is_words_without_a_token() -> None:
    refusal = httpx.ProxyError("407 No \x1b]0;title\x07 the-token")
    told = failures.from_exception("a/b", refusal, ["the-token"])
    assert told.api_message == "407 No ]0;title ***"
