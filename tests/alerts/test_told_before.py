"""A process that begins while the database is away knows what others have told before it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sync.alerts.conditions import LASTS_S
from sync.alerts.run import Alerter
from tests.alerts.helpers import Time, alerting, set_state, told
from tests.support.mirror import Mirror
from tests.support.proxy import Proxy
from tests.support.receiver import Receiver

ONCE = [("raised", "failing"), ("ended", "failing")]


@pytest.fixture
async def proxy(mirror: Mirror) -> AsyncIterator[Proxy]:
    """The way to the database."""
    proxy = Proxy(mirror.database_url)
    async with proxy.served():
        yield proxy


def cut(proxy: Proxy) -> None:
    """The database is away from now on."""
    proxy.is_down = True
    proxy.cut()


def leave(directory: Path, content: str) -> None:
    """Has the only file hold this."""
    (path,) = directory.iterdir()
    path.write_text(content)


async def look_for(alerter: Alerter, time: Time, seconds: float) -> None:
    """Looks as often as it does."""
    until_s = time.now_s + seconds
    while time.now_s < until_s:
        time.now_s += 10
        await alerter.look()


async def test_what_was_told_just_before_the_database_went_away_is_not_told_again(
    mirror: Mirror, receiver: Receiver, proxy: Proxy
) -> None:
    await set_state(mirror, "the API is away")
    time = Time()
    async with alerting(proxy.url, receiver, time) as alerter:
        await alerter.look()
        time.now_s = LASTS_S
        await alerter.look()
        assert told(receiver) == ONCE[:1]
        cut(proxy)
        await look_for(alerter, time, 3 * LASTS_S)
    assert told(receiver) == ONCE[:1]


@pytest.mark.parametrize("is_back_s", [0, 3 * LASTS_S], ids=["at once", "later"])
async def test_a_restart_while_the_database_is_away_tells_nothing_twice_and_its_end(
    receiver: Receiver, proxy: Proxy, tmp_path: Path, is_back_s: float
) -> None:
    time = Time()
    async with alerting(proxy.url, receiver, time, directory=tmp_path / "state") as alerter:
        await alerter.look()
        cut(proxy)
        await look_for(alerter, time, 2 * LASTS_S)
    assert told(receiver) == ONCE[:1]
    for _ in range(2):
        async with alerting(proxy.url, receiver, time, directory=tmp_path / "state") as alerter:
            await look_for(alerter, time, is_back_s)
    async with alerting(proxy.url, receiver, time, directory=tmp_path / "state") as alerter:
        await look_for(alerter, time, is_back_s)
        assert told(receiver) == ONCE[:1]
        proxy.is_down = False
        await look_for(alerter, time, 2 * LASTS_S)
        assert told(receiver) == ONCE
        await look_for(alerter, time, 10)
    assert [*(tmp_path / "state").iterdir()] == []


async def test_what_the_database_was_told_of_is_known_without_it_too(
    mirror: Mirror, receiver: Receiver, proxy: Proxy, tmp_path: Path
) -> None:
    await set_state(mirror, "the API is away")
    time = Time()
    async with alerting(proxy.url, receiver, time, directory=tmp_path) as alerter:
        await look_for(alerter, time, 2 * LASTS_S)
    cut(proxy)
    async with alerting(proxy.url, receiver, time, directory=tmp_path) as alerter:
        await look_for(alerter, time, 3 * LASTS_S)
        assert told(receiver) == ONCE[:1]
        proxy.is_down = False
        await set_state(mirror, None)
        await look_for(alerter, time, 3 * LASTS_S)
    assert told(receiver) == ONCE


async def test_one_that_never_saw_its_database_knows_no_connection_and_tells_all_the_same(
    receiver: Receiver, proxy: Proxy
) -> None:
    cut(proxy)
    time = Time()
    async with alerting(proxy.url, receiver, time, connections=list) as alerter:
        await look_for(alerter, time, 3 * LASTS_S)
        assert told(receiver) == ONCE[:1]
        assert receiver.calls[0].json["text"].startswith("⚠️ voucher-sync: fails: the database does not answer")
        proxy.is_down = False
        await look_for(alerter, time, 3 * LASTS_S)
        assert told(receiver) == ONCE
        cut(proxy)
        await look_for(alerter, time, 3 * LASTS_S)
    assert told(receiver) == ONCE, "those who work for a connection tell, not who stands by"


@pytest.mark.parametrize("left", ["", "{}", "[]", '{"known": [["a", "of a newer release", 1]], "unnoted": []}'])
async def test_a_file_that_cannot_be_read_is_done_without(
    mirror: Mirror, receiver: Receiver, tmp_path: Path, left: str
) -> None:
    time = Time()
    async with alerting(mirror.database_url, receiver, time, directory=tmp_path) as alerter:
        await set_state(mirror, "the API is away")
        await look_for(alerter, time, 2 * LASTS_S)
    leave(tmp_path, left)
    with capture_logs() as logs:
        async with alerting(mirror.database_url, receiver, time, directory=tmp_path) as alerter:
            await look_for(alerter, time, 2 * LASTS_S)
    assert [one["event"] for one in logs] == ["told_not_kept"]
    assert told(receiver) == ONCE[:1]


async def test_what_was_told_of_another_database_says_nothing_of_this_one(
    receiver: Receiver, proxy: Proxy, tmp_path: Path
) -> None:
    cut(proxy)
    for database in ("one", "another"):
        async with alerting(proxy.url, receiver, time := Time(), directory=tmp_path, database=database) as alerter:
            await look_for(alerter, time, 2 * LASTS_S)
    assert told(receiver) == ONCE[:1] * 2
