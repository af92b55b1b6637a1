"""The server's clock is never believed to be later than it is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.demo.simulator import Status
from sync.mews.clock import ServerClock
from tests.mews.helpers import fail, opened, script
from tests.support.mirror import Mirror


class Watch:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def header(instant: datetime) -> str:
    return instant.strftime("%a, %d %b %Y %H:%M:%S GMT")


@given(st.floats(0, 60), st.floats(0, 86_400), st.floats(-0.0009, 0.0009))
def test_it_stays_behind_the_servers_own(way_back_s: float, later_s: float, drift: float) -> None:
    watch = Watch()
    clock = ServerClock(watch)
    sent_at = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)
    watch.now += way_back_s * (1 + drift)
    clock.observe(header(sent_at))
    watch.now += later_s * (1 + drift)
    now = clock.now()
    assert now is not None
    assert now <= sent_at + timedelta(seconds=way_back_s + later_s)


def test_it_goes_on_with_the_stop_watch() -> None:
    watch = Watch()
    clock = ServerClock(watch)
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
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ],
)
def test_a_header_that_tells_no_time_there_can_be_is_passed_over(bad: str | None) -> None:
    watch = Watch()
    clock = ServerClock(watch)
    clock.observe(bad)
    assert clock.now() is None
    clock.observe("Sun, 01 Mar 2026 12:00:00 GMT")
    clock.observe(bad)
    watch.now += 100
    now = clock.now()
    assert now is not None
    assert now.year == 2026


async def test_the_servers_clock_is_read_off_failures_too(api: Mirror) -> None:
    script(api, Status(401))
    async with opened(api) as client:
        assert client.server_clock.now() is None
        await fail(client)
        assert client.server_clock.now() is not None
