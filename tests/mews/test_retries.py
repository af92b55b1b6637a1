"""What a read tries again by itself and what it raises at once, and in whose words."""

import pytest

from sync.core import api_errors
from sync.demo.simulator import Close, Fault, HtmlPage, MalformedJson, RawBody, RetryAfter, Status, TruncatedBody
from sync.mews.client_settings import RetryPolicy
from sync.mews.operations import ENTERPRISES_GET_ALL
from tests.mews.helpers import ONCE, fail, opened, read, script
from tests.support.mirror import IMPATIENT, Mirror


@pytest.mark.parametrize(
    "fault",
    [
        Status(409),
        Status(429),
        Status(429, retry_after=RetryAfter(1, "seconds")),
        Status(429, retry_after=RetryAfter(0.2, "date")),
        Status(500),
        Status(502),
        Status(503),
        Status(503, html=False),
        Close(),
        TruncatedBody(),
        MalformedJson(),
        HtmlPage(),
        RawBody(b"{}"),
        RawBody(b""),
    ],
    ids=repr,
)
async def test_a_read_is_tried_again_after_what_may_pass(api: Mirror, fault: Fault) -> None:
    script(api, fault)
    async with opened(api) as client:
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 2
    assert api.simulator.violations == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, api_errors.InvalidRequest),
        (401, api_errors.Unauthorized),
        (403, api_errors.Forbidden),
        (404, api_errors.NotFound),
        (408, api_errors.RequestTimedOut),
        (413, api_errors.PayloadTooLarge),
    ],
)
async def test_what_will_not_pass_is_raised_at_once_in_the_apis_words(
    api: Mirror, status: int, kind: type[api_errors.ApiError]
) -> None:
    script(api, Status(status, "Told to fail"), times=9)
    async with opened(api) as client:
        error = await fail(client)
    (request,) = api.simulator.requests
    assert type(error) is kind
    assert (error.status, error.api_message, error.request_id) == (status, "Told to fail", request.request_id)
    assert all(part in str(error) for part in (ENTERPRISES_GET_ALL, str(status), "Told to fail", request.request_id))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Status(500), api_errors.ServerError),
        (Close(), api_errors.ConnectionLost),
        (HtmlPage(), api_errors.InvalidResponse),
    ],
    ids=repr,
)
async def test_in_the_end_the_last_failure_is_raised(
    api: Mirror, fault: Fault, kind: type[api_errors.ApiError]
) -> None:
    script(api, fault, times=9)
    async with opened(api, retry_policy=RetryPolicy(max_attempts=3, backoff=IMPATIENT.backoff)) as client:
        assert type(await fail(client)) is kind
    assert len(api.simulator.requests) == 3


async def test_an_answer_that_cannot_be_read_keeps_its_request_id(api: Mirror) -> None:
    script(api, MalformedJson())
    async with opened(api, retry_policy=ONCE) as client:
        error = await fail(client)
    assert (error.status, error.request_id) == (200, api.simulator.requests[0].request_id)


async def test_a_server_that_is_not_there_is_not_connected(api: Mirror) -> None:
    gone = Mirror("no database")
    async with gone.served():
        pass
    async with opened(api, address=gone.address) as client:
        error = await fail(client)
    assert isinstance(error, api_errors.NotConnected | api_errors.CircuitOpen)
    assert "cannot be reached" in str(error)
