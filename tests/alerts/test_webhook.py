"""Who is told may be away, slow, or told of many at once."""

import asyncio
from contextlib import suppress
from random import Random

import pytest

from sync.alerts.conditions import LASTS_S
from sync.alerts.kept import Kept
from sync.alerts.post import NotTold, Poster
from sync.alerts.run import Alerter, Webhook, ping
from sync.postgres.engine import make_engine
from tests.alerts.helpers import Time, alerting, hold_one, set_state
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox
from tests.support.receiver import Receiver
from tests.support.statements import statements


async def test_a_webhook_that_is_away_is_told_later_with_the_same_id(
    mirror: Mirror, outbox: Outbox, receiver: Receiver
) -> None:
    await hold_one(mirror, outbox)
    receiver.statuses = [500, 302]
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter:
        await alerter.look()
        await alerter.look()
        assert len(receiver.calls) == 1, "it rests after a failure"
        for time.now_s in (1000, 2000, 3000):
            await alerter.look()
    assert [call.json["event"] for call in receiver.calls] == ["raised"] * 3
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1


async def test_an_outage_of_many_hotels_is_noted_by_as_many_statements_as_one_of_few(
    mirror: Mirror, receiver: Receiver
) -> None:
    fails = (
        "INSERT INTO sync.connections (name, state, error) "
        "SELECT '{0} ' || i, 'failing', 'away' FROM generate_series(1, {1}) AS i"
    )
    engine, time, said = make_engine(mirror.database_url), Time(), list[int]()
    async with Poster(receiver.url) as poster:
        alerter = Alerter(
            engine,
            list,
            Webhook(poster, None, Random(1), time),
            host="a-host",
            stuck=list,
            kept=Kept(None, ""),
            clock=time,
        )
        for name, count in (("few", 2), ("many", 50)):
            await mirror.execute(fails.format(name, count))
            await alerter.look()
            time.now_s += LASTS_S
            with statements(engine) as sent:
                await alerter.look()
            said.append(len(sent))
        await mirror.execute("UPDATE sync.connections SET state = 'ok', error = NULL")
        await alerter.look()
        time.now_s += LASTS_S
        with statements(engine) as sent:
            await alerter.look()
        said.append(len(sent))
    await engine.dispose()
    assert [len(call.json["changes"]) for call in receiver.calls] == [2, 50, 52]
    assert len(set(said)) == 1, said


async def test_of_what_is_told_together_one_failure_counts_and_nobody_who_is_away_is_asked_again(
    mirror: Mirror, outbox: Outbox
) -> None:
    tries = 0

    def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.transport.abort()

    await hold_one(mirror, outbox)
    await set_state(mirror, "the API is away")
    await mirror.execute(
        "INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason) "
        "VALUES ('default', '\\x00', 'VoucherCodes', '{}', 'no id')"
    )
    time = Time()
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        away = Receiver(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        async with alerting(mirror.database_url, away, time) as alerter:
            await alerter.look()
            first = tries
            time.now_s = LASTS_S
            await alerter.look()
    assert (first, tries) == (1, 2), "of two messages one was tried, and one again after the pause of a first failure"


async def test_whoever_sends_to_a_host_that_cannot_be_is_pinged_again_after_the_next_cycle(receiver: Receiver) -> None:
    """As a captive portal may do. What is read of that host must not end all pings."""
    receiver.statuses, receiver.location = [303], "http://xn--a-ecp.ru/"
    two = asyncio.Semaphore(2)

    async def complete() -> None:
        await two.acquire()

    async with Poster(receiver.url) as poster:
        pinging = asyncio.create_task(ping(poster, complete))
        await asyncio.wait([pinging, asyncio.create_task(receiver.call(2))], return_when=asyncio.FIRST_COMPLETED)
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)
    assert len(receiver.calls) == 2


async def test_no_cookie_is_sent_back_however_many_are_set(receiver: Receiver) -> None:
    async with Poster(receiver.url) as poster:
        for _ in range(3):
            await poster.post()
    assert not any("cookie" in call.headers for call in receiver.calls)


async def test_a_ping_follows_each_cycle_and_no_other_moment(receiver: Receiver) -> None:
    completed = asyncio.Event()

    async def complete() -> None:
        await completed.wait()
        completed.clear()

    async with Poster(receiver.url, "the-token") as poster:
        pinging = asyncio.create_task(ping(poster, complete))
        completed.set()
        call = await receiver.call(1)
        assert call.headers["authorization"] == "Bearer the-token"
        receiver.statuses = [503]
        completed.set()
        await receiver.call(2)
        completed.set()
        await receiver.call(3)
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)
    assert len(receiver.calls) == 3


async def test_a_receiver_that_answers_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.alerts.post.TIMEOUT_S", 0.2)
    is_given_up = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        with suppress(ConnectionError):
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        is_given_up.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Poster(f"http://127.0.0.1:{port}/the-secret-path") as poster, asyncio.timeout(30):
            with pytest.raises(NotTold, match=r"^127\.0\.0\.1 cannot be reached \(TimeoutError\)$"):
                await poster.post()
            await is_given_up.wait()
