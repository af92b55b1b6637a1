"""The server's clock is never believed to be later than it is, and only where another clock confirms it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.errors import ClockRefused
from sync.demo.simulator import RequestRecord, Status
from sync.mews import operations
from sync.mews.clock import PlatformClock, ServerClock
from sync.mews.transport import HttpPool
from tests.mews.helpers import fail, opened, read, script
from tests.support.mirror import Mirror


class Watch:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def machine() -> datetime:
    return datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def header(instant: datetime) -> str:
    return instant.strftime("%a, %d %b %Y %H:%M:%S GMT")


@given(st.floats(0, 60), st.floats(0, 86_400), st.floats(-0.0009, 0.0009))
def test_it_stays_behind_the_servers_own(way_back_s: float, later_s: float, drift: float) -> None:
    watch = Watch()
    clock = ServerClock(watch, machine=machine)
    sent_at = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)
    watch.now += way_back_s * (1 + drift)
    clock.observe(header(sent_at))
    watch.now += later_s * (1 + drift)
    now = clock.now()
    assert now is not None
    assert now <= sent_at + timedelta(seconds=way_back_s + later_s)


def test_it_goes_on_with_the_stop_watch() -> None:
    watch = Watch()
    clock = ServerClock(watch, machine=machine)
    clock.observe("Sun, 01 Mar 2026 12:00:00 GMT")
    watch.now += 100
    now = clock.now()
    assert now is not None
    assert now - datetime(2026, 3, 1, 12, 0, tzinfo=UTC) == timedelta(seconds=99.9)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "",
        "yesterday",
        "Sun, 01 Mar 2026 12:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 -1000",
    ],
)
def test_a_header_that_tells_no_time_is_passed_over(bad: str | None) -> None:
    watch = Watch()
    clock = ServerClock(watch, machine=machine)
    clock.observe(bad)
    assert clock.refused is None
    assert clock.now() is None
    clock.observe("Sun, 01 Mar 2026 12:00:00 GMT")
    clock.observe(bad)
    watch.now += 100
    now = clock.now()
    assert now is not None
    assert now.year == 2026


RIGHT = machine()
WRONG = [
    datetime(1970, 1, 1, tzinfo=UTC),
    RIGHT - timedelta(days=2),
    RIGHT + timedelta(days=2),
    datetime(2094, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
]
A_DAY = [RIGHT - timedelta(days=1), RIGHT, RIGHT + timedelta(days=1)]


def told(
    date: datetime, *, here: datetime, before: datetime | None = None, noted: datetime | None = None
) -> ServerClock:
    """A clock that is told a `Date` while this machine shows `here`, after it believed `before`, or `noted` it."""
    shown = before or here
    clock = ServerClock(Watch(), machine=lambda: shown)
    if before:
        clock.observe(header(before))
        assert clock.now() == before
    if noted:
        clock.expect(noted)
    shown = here
    clock.observe(header(date))
    return clock


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("date", A_DAY)
def test_a_right_clock_is_believed_whatever_one_other_shows(date: datetime, wrong: datetime) -> None:
    assert told(date, here=RIGHT).now() == date
    assert told(date, here=RIGHT, before=wrong).now() == date
    assert told(date, here=RIGHT, noted=wrong).now() == date
    assert told(date, here=wrong, before=RIGHT).now() == date
    assert told(date, here=wrong, noted=RIGHT).now() == date


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_clock_is_refused_and_the_last_one_believed_goes_on(wrong: datetime) -> None:
    assert told(wrong, here=RIGHT).now() is None
    assert told(wrong, here=RIGHT, before=RIGHT, noted=RIGHT).now() == RIGHT
    for other in set(WRONG) - {wrong}:
        assert told(wrong, here=other).now() is None
        assert told(wrong, here=other, noted=RIGHT).now() is None
        assert told(wrong, here=other, before=RIGHT).now() == RIGHT
        assert told(wrong, here=other, before=RIGHT, noted=RIGHT).now() == RIGHT


@pytest.mark.parametrize("wrong", WRONG)
def test_of_two_clocks_that_differ_where_nothing_was_known_none_is_believed(wrong: datetime) -> None:
    assert told(RIGHT, here=wrong).now() is None
    assert told(RIGHT, here=wrong, noted=wrong).now() is None


@pytest.mark.parametrize("wrong", WRONG)
def test_two_clocks_that_are_wrong_alike_are_believed(wrong: datetime) -> None:
    assert told(wrong, here=wrong, before=RIGHT, noted=RIGHT).now() == wrong


def test_what_was_known_is_carried_forward() -> None:
    watch, here = Watch(), datetime(2000, 1, 1, tzinfo=UTC)
    clock = ServerClock(watch, machine=lambda: here)
    clock.expect(RIGHT)
    for _ in range(10):
        watch.now += 86_400.0
        clock.observe(header(RIGHT + timedelta(seconds=watch.now - Watch.now)))
        assert clock.refused is None


def test_what_others_of_an_address_believe_is_known_before_the_first_answer_and_no_longer() -> None:
    watch, platform, wrong = Watch(), PlatformClock(), datetime(2000, 1, 1, tzinfo=UTC)
    one = ServerClock(watch, machine=machine, platform=platform)
    other = ServerClock(watch, machine=lambda: wrong, platform=platform)
    assert other.needs_witness
    assert other.now() is None
    one.observe(header(RIGHT))
    assert not other.needs_witness
    watch.now += 100
    assert other.now() == one.now() == RIGHT + timedelta(seconds=99.9)
    other.observe(header(RIGHT + timedelta(seconds=100)))  # which this machine does not confirm
    assert other.refused is None
    one.observe(header(RIGHT + timedelta(seconds=160)))
    assert other.now() == RIGHT + timedelta(seconds=100)


async def test_the_time_that_one_connection_of_an_address_was_told_no_other_asks_for(api: Mirror) -> None:
    pool = HttpPool(api.address, max_response_bytes=2**20)
    async with opened(api, pool=pool) as one, opened(api, pool=pool) as other:
        known = await operations.server_now(one)
        assert timedelta() <= await operations.server_now(other) - known < timedelta(seconds=5)
        assert len(api.simulator.requests) == 1
        api.simulator.behaviour.date_ahead_s = 1e8
        assert await read(other)
        with pytest.raises(ClockRefused):
            await operations.server_now(other)
        assert await operations.server_now(one) >= known
    await pool.aclose()


def test_a_refusal_names_each_clock() -> None:
    refused = told(WRONG[0], here=WRONG[3], noted=RIGHT).refused
    assert refused is not None
    assert all(one in refused for one in ("API's clock shows 1970-01-01", "machine's 2094-01-01", "is 2026-03-01"))


async def test_where_a_date_is_refused_another_node_is_asked_once(api: Mirror) -> None:
    async def become_right(_: RequestRecord) -> None:
        api.simulator.behaviour.date_ahead_s = 0.0

    async with opened(api) as client:
        api.simulator.behaviour.date_ahead_s = 1e8
        assert await read(client)
        assert client.server_clock.refused
        with pytest.raises(ClockRefused, match=r"the API's clock shows .*, this machine's .*NTP"):
            await operations.server_now(client)
        assert len(api.simulator.requests) == 2
        api.simulator.on_answer = become_right
        assert abs(await operations.server_now(client) - datetime.now(UTC)) < timedelta(minutes=1)
        assert len(api.simulator.requests) == 3


async def test_the_servers_clock_is_read_off_failures_too(api: Mirror) -> None:
    script(api, Status(401))
    async with opened(api) as client:
        assert client.server_clock.now() is None
        await fail(client)
        assert client.server_clock.now() is not None
