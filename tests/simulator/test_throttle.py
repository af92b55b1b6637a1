"""The budget of requests, and the silence that a 429 asks for."""

from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest

from sync.demo.simulator import UNLIMITED, Close, Operation, RateLimit, RetryAfter, Status
from tests.simulator.helpers import PORTFOLIO, START, Stage

BUDGET = RateLimit(requests=3, window_s=30)


async def served(limit: RateLimit) -> AsyncIterator[Stage]:
    stage = Stage(rate_limit=limit)
    async with stage.simulator.serve() as stage.address, stage.http:
        yield stage


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async for stage in served(getattr(request, "param", BUDGET)):
        yield stage


async def test_the_window_slides(stage: Stage) -> None:
    answers = []
    for pause in (0, 10, 10, 9.9, 0.1, 0, 10):
        stage.time.advance(pause)
        answers.append((await stage.read()).status_code)
    #                   t=0  10   20   29.9 30   30   40
    assert answers == [200, 200, 200, 429, 200, 429, 200]


@pytest.mark.long
async def test_the_default_is_200_requests_in_30_seconds() -> None:
    async for stage in served(RateLimit()):
        statuses = [(await stage.read()).status_code for _ in range(201)]
        assert statuses == [200] * 200 + [429]
        stage.time.advance(30)
        assert (await stage.read()).status_code == 200


async def test_rejected_requests_do_not_count(stage: Stage) -> None:
    answers = [await stage.read() for _ in range(10)]
    assert answers[-1].status_code == 429
    stage.time.advance(30)
    assert [(await stage.read()).status_code for _ in range(4)] == [200, 200, 200, 429]


async def test_each_token_has_its_own_budget(stage: Stage) -> None:
    assert [(await stage.read()).status_code for _ in range(4)][-1] == 429
    assert (await stage.read(token=PORTFOLIO)).status_code == 200


async def test_all_operations_and_failed_requests_share_the_budget(stage: Stage) -> None:
    stage.simulator.faults.script(Operation.GET_CODES, Status(500))
    assert (await stage.write("A")).status_code == 200
    assert (await stage.read()).status_code == 500
    assert (await stage.read(count=0)).status_code == 400
    assert (await stage.read()).status_code == 429


async def test_strangers_have_no_budget(stage: Stage) -> None:
    assert {(await stage.read(AccessToken="stranger")).status_code for _ in range(5)} == {401}


@pytest.mark.parametrize(
    "stage",
    [
        RateLimit(requests=3),
        RateLimit(requests=3, retry_after_form="date"),
        RateLimit(requests=3, retry_after_form=None),
    ],
    indirect=True,
    ids=["seconds", "date", "absent"],
)
async def test_a_429_says_when_to_come_back(stage: Stage, request: pytest.FixtureRequest) -> None:
    await stage.read()
    stage.time.advance(10.4)
    answers = [await stage.read() for _ in range(3)]
    assert answers[-1].status_code == 429
    header = answers[-1].headers.get("Retry-After")
    if "absent" in request.node.name:
        assert header is None
    elif "date" in request.node.name:
        assert parsedate_to_datetime(header) == START + timedelta(seconds=30)
    else:
        assert header == "20"
    assert stage.simulator.violations == ["request 4 (voucherCodes/getAll): over the budget of 3 requests in 30 s"]


@pytest.mark.parametrize("stage", [RateLimit(requests=3, enforced=False)], indirect=True)
async def test_a_limit_that_is_not_enforced_is_noted_all_the_same(stage: Stage) -> None:
    assert {(await stage.read()).status_code for _ in range(5)} == {200}
    assert len(stage.simulator.violations) == 2


@pytest.mark.long
@pytest.mark.parametrize("stage", [UNLIMITED], indirect=True)
async def test_without_a_limit_nothing_is_refused_or_noted(stage: Stage) -> None:
    assert {(await stage.read()).status_code for _ in range(250)} == {200}
    assert stage.simulator.violations == []


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_scripted_429_asks_for_silence_and_does_not_count(stage: Stage, form: str) -> None:
    wait = RetryAfter(5, "seconds") if form == "seconds" else RetryAfter(5, "date")
    stage.simulator.faults.script(Operation.GET_CODES, Status(429, retry_after=wait))
    answer = await stage.read()
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == {"seconds": "5", "date": "Sun, 01 Mar 2026 12:00:05 GMT"}[form]
    stage.time.advance(0.4)
    assert (await stage.read()).status_code == 200
    assert stage.simulator.violations == []
    stage.time.advance(4.5)
    assert (await stage.read()).status_code == 200
    assert stage.simulator.violations == [
        "request 3 (voucherCodes/getAll): sent before the Retry-After of a 429 was over"
    ]
    stage.time.advance(0.1)
    assert (await stage.read()).status_code == 200
    assert len(stage.simulator.violations) == 1


async def test_a_second_429_prolongs_the_silence(stage: Stage) -> None:
    faults = [Status(429, retry_after=RetryAfter(seconds)) for seconds in (2, 10)]
    stage.simulator.faults.script(Operation.GET_CODES, *faults)
    await stage.read()
    await stage.read()
    stage.time.advance(3)
    await stage.read()
    assert len(stage.simulator.violations) == 1


async def test_a_429_without_retry_after_asks_for_nothing(stage: Stage) -> None:
    stage.simulator.faults.script(Operation.GET_CODES, Status(429))
    answer = await stage.read()
    assert "Retry-After" not in answer.headers
    stage.time.advance(1)
    await stage.read()
    assert stage.simulator.violations == []


async def test_a_request_without_an_answer_counts(stage: Stage) -> None:
    stage.simulator.faults.script(Operation.GET_CODES, Close(), times=3)
    for _ in range(3):
        with pytest.raises(httpx.TransportError):
            await stage.read()
    assert (await stage.read()).status_code == 429


async def test_a_date_with_a_fraction_is_rounded_up(stage: Stage) -> None:
    stage.time.advance(0.5)
    stage.simulator.faults.script(Operation.GET_CODES, Status(429, retry_after=RetryAfter(5, "date")))
    assert (await stage.read()).headers["Retry-After"] == "Sun, 01 Mar 2026 12:00:06 GMT"
