"""Every fault, as a client sees it."""

import asyncio

import httpx
import pytest

from sync.demo.simulator import (
    BAD_DAY,
    Close,
    Drip,
    Endless,
    Fault,
    Faults,
    Hang,
    HiddenWrite,
    HtmlPage,
    MalformedJson,
    Operation,
    PartialAdd,
    PartialAnswer,
    RawBody,
    RetryAfter,
    Slow,
    Status,
    TruncatedBody,
)
from tests.simulator.helpers import Stage


class EnoughError(Exception):
    """A client's, of an answer."""


ADD, DELETE, READ = Operation.ADD_CODES, Operation.DELETE_CODES, Operation.GET_CODES


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 409, 413, 429, 500])
async def test_a_status_comes_in_the_apis_own_form_and_nothing_happens(stage: Stage, code: int) -> None:
    stage.simulator.faults.script(ADD, Status(code, "Told to fail"))
    answer = await stage.write("A")
    assert answer.status_code == code
    assert answer.json() == {
        "Message": "Told to fail",
        "RequestId": answer.headers["Request-Id"],
        "Details": None,
    }
    assert stage.world.codes.truth == {}
    assert stage.simulator.violations == []
    assert stage.simulator.requests[-1].fault == Status(code, "Told to fail")


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_a_gateways_status_comes_as_a_page(stage: Stage, code: int) -> None:
    stage.simulator.faults.script(READ, Status(code, retry_after=RetryAfter(7)), Status(code, html=False))
    page, own = await stage.read(), await stage.read()
    assert (page.status_code, page.headers["Content-Type"], page.headers["Retry-After"]) == (code, "text/html", "7")
    assert page.text.startswith("<!DOCTYPE html>")
    assert (own.status_code, own.json()["Message"]) == (code, "Simulated fault")


async def test_what_stands_before_the_api_may_answer_without_a_request_id(stage: Stage) -> None:
    stage.simulator.faults.script(ADD, Status(403, html=True), Status(403, html=True, named=False))
    answers = [await stage.write("A"), await stage.write("A")]
    assert ["Request-Id" in answer.headers for answer in answers] == [True, False]
    assert stage.world.codes.truth == {}


@pytest.mark.parametrize("code", [408, 500, 504])
async def test_a_status_may_hide_that_the_write_was_done(stage: Stage, code: int) -> None:
    stage.simulator.faults.script(ADD, Status(code, processed=True))
    assert (await stage.write("A")).status_code == code
    assert await stage.values() == ["A"]


@pytest.mark.parametrize("processed", [False, True])
async def test_a_connection_closes_before_or_after_the_write(stage: Stage, processed: bool) -> None:
    stage.simulator.faults.script(ADD, Close(processed=processed))
    with pytest.raises(httpx.RemoteProtocolError):
        await stage.write("A")
    assert await stage.values() == (["A"] if processed else [])
    assert [record.status for record in stage.simulator.requests] == [None, 200]


async def test_a_slow_answer_waits_after_the_write(stage: Stage) -> None:
    stage.simulator.faults.script(ADD, Slow(3))
    assert (await stage.write("A")).status_code == 200
    assert stage.time.slept_s == [3]


@pytest.mark.parametrize("late_effect", [False, True])
async def test_a_slow_write_is_finished_although_the_client_has_gone(late_effect: bool) -> None:
    waiting, release = asyncio.Event(), asyncio.Event()

    async def wait(seconds: float) -> None:
        assert seconds == 3
        waiting.set()
        await release.wait()

    stage = Stage()
    stage.simulator = stage.new_simulator(sleep=wait)
    stage.simulator.faults.script(ADD, Slow(3, late_effect=late_effect))
    finished = asyncio.Event()

    async def note(_: object) -> None:
        finished.set()

    stage.simulator.on_answer = note
    async with stage.simulator.serve() as stage.address, stage.http:
        write = asyncio.create_task(stage.write("A"))
        await waiting.wait()
        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
        assert await stage.values() == ([] if late_effect else ["A"])
        finished.clear()
        release.set()
        await finished.wait()
        assert await stage.values() == ["A"]


@pytest.mark.parametrize("processed", [False, True])
async def test_a_hanging_answer_never_comes(stage: Stage, processed: bool) -> None:
    stage.simulator.faults.script(ADD, Hang(processed=processed))
    arrived = asyncio.Event()

    async def note(_: object) -> None:
        arrived.set()

    stage.simulator.on_answer = note
    write = asyncio.create_task(stage.write("A"))
    await arrived.wait()
    assert await stage.values() == (["A"] if processed else [])
    assert not write.done()
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    assert stage.simulator.requests[0].status is None


async def test_malformed_json_arrives_whole(stage: Stage) -> None:
    stage.simulator.faults.script(None, MalformedJson(), times=2)
    added = await stage.write("A")
    read = await stage.read()
    for answer in (added, read):
        assert answer.status_code == 200
        with pytest.raises(ValueError, match="Expecting"):
            answer.json()
    assert await stage.values() == ["A"]


async def test_a_truncated_body_breaks_the_connection(stage: Stage) -> None:
    stage.simulator.faults.script(ADD, TruncatedBody())
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        await stage.write("A")
    assert await stage.values() == ["A"]


@pytest.mark.parametrize("processed", [False, True])
async def test_a_page_of_html_may_come_with_status_200(stage: Stage, processed: bool) -> None:
    stage.simulator.faults.script(ADD, HtmlPage(processed=processed))
    answer = await stage.write("A")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    assert await stage.values() == (["A"] if processed else [])


async def test_a_dripping_body_comes_byte_by_byte(stage: Stage) -> None:
    stage.add("A")
    stage.simulator.faults.script(READ, Drip(0.25))
    answer = await stage.read()
    assert answer.json()["VoucherCodes"][0]["Value"] == "A"
    assert stage.time.slept_s == [0.25] * len(answer.content)


@pytest.mark.parametrize("processed", [False, True])
async def test_an_endless_body_goes_on_until_the_client_has_enough(stage: Stage, processed: bool) -> None:
    stage.simulator.faults.script(ADD, Endless(processed=processed))
    seen = list[bytes]()

    async def have_enough(answer: httpx.Response) -> None:
        assert (answer.status_code, "Content-Length" in answer.headers) == (200, False)
        async for part in answer.aiter_bytes(1000):
            seen.append(part)
            if len(seen) == 5000:
                raise EnoughError

    stage.http.event_hooks = {"response": [have_enough]}
    with pytest.raises(EnoughError):
        await stage.write("A")
    stage.http.event_hooks = {}
    assert (b'"A"' in seen[0], set(seen[1:])) == (processed, {b" " * 1000})
    assert await stage.values() == (["A"] if processed else [])


async def test_an_add_may_stop_in_the_middle(stage: Stage) -> None:
    stage.simulator.faults.script(ADD, PartialAdd(2))
    answer = await stage.write("A", "B", "C")
    assert (answer.status_code, answer.json()["Message"]) == (500, "Internal server error")
    assert sorted(value or "" for value in await stage.values()) == ["A", "B"]


async def test_an_add_may_be_answered_in_part(stage: Stage) -> None:
    stage.simulator.faults.script(ADD, PartialAnswer(2))
    answer = await stage.write("A", "B", "C")
    assert (answer.status_code, [code["Value"] for code in answer.json()["VoucherCodes"]]) == (200, ["A", "B"])
    assert sorted(value or "" for value in await stage.values()) == ["A", "B", "C"]


async def test_one_write_may_become_readable_late(stage: Stage) -> None:
    stage.simulator.faults.script(ADD, HiddenWrite(10), None)
    assert (await stage.write("late")).status_code == 200
    assert (await stage.write("at once")).status_code == 200
    assert await stage.values() == ["at once"]
    stage.time.advance(10)
    assert sorted(value or "" for value in await stage.values()) == ["at once", "late"]


async def test_a_deletion_may_become_readable_late(stage: Stage) -> None:
    [code] = stage.add("A")
    stage.simulator.faults.script(DELETE, HiddenWrite(10))
    await stage.erase(code)
    assert [code["IsActive"] for code in (await stage.read()).json()["VoucherCodes"]] == [True]
    stage.time.advance(10)
    assert [code["IsActive"] for code in (await stage.read()).json()["VoucherCodes"]] == [False]


async def test_any_bytes_may_be_the_body(stage: Stage) -> None:
    stage.simulator.faults.script(READ, RawBody(b'{"VoucherCodes": 7}'), RawBody(b"\x00\xff", 203, "image/png"))
    assert (await stage.read()).json() == {"VoucherCodes": 7}
    answer = await stage.read()
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (203, b"\x00\xff", "image/png")


async def test_a_refusal_by_the_rules_shows_through_a_fault_that_processes(stage: Stage) -> None:
    stage.simulator.faults.script(READ, Slow(1))
    assert (await stage.read(count=0)).status_code == 400


async def test_violations_are_noted_even_if_the_call_meets_a_fault(stage: Stage) -> None:
    stage.simulator.faults.script(READ, Status(500))
    assert (await stage.read(count=0)).status_code == 500
    assert len(stage.simulator.violations) == 1


def test_a_script_is_played_in_order_and_then_over() -> None:
    faults = Faults()
    faults.script(ADD, Status(500), None, times=2)
    faults.script(None, Status(503))
    drawn = [faults.draw(operation) for operation in (ADD, READ, READ, ADD, ADD, ADD, ADD)]
    assert drawn == [Status(500), Status(503), None, None, Status(500), None, None]


@pytest.mark.parametrize("fault", [PartialAdd(), PartialAnswer(), HiddenWrite(1)])
@pytest.mark.parametrize("operation", [READ, None])
def test_a_fault_of_writes_cannot_be_scripted_for_reads(fault: Fault, operation: Operation | None) -> None:
    with pytest.raises(ValueError, match="cannot happen to"):
        Faults().script(operation, fault)


def test_chance_is_the_same_for_the_same_seed_and_keeps_to_its_operations() -> None:
    def draws(seed: int) -> list[Fault | None]:
        faults = Faults()
        faults.by_chance({Status(500): 0.5, PartialAdd(): 0.5}, seed=seed, operations=[ADD, READ])
        return [faults.draw((ADD, READ, DELETE)[number % 3]) for number in range(300)]

    assert draws(1) == draws(1) != draws(2)
    assert set(draws(1)[0::3]) == {Status(500), PartialAdd()}
    assert set(draws(1)[1::3]) == {Status(500), None}
    assert set(draws(1)[2::3]) == {None}


def test_a_bad_day_has_every_kind_in_its_share_and_can_stop() -> None:
    faults = Faults()
    faults.by_chance(BAD_DAY, seed=1)
    drawn = [faults.draw(ADD) for _ in range(20_000)]
    for fault, probability in BAD_DAY.items():
        assert probability / 2 < drawn.count(fault) / len(drawn) < probability * 2
    faults.stop()
    assert {faults.draw(ADD) for _ in range(1000)} == {None}


def test_probabilities_above_one_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="above 1"):
        Faults().by_chance({Status(500): 0.6, Close(): 0.5}, seed=1)
