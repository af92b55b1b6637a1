"""Windows cover everything exactly once, and never break the API's rules on intervals."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.mews.limits import MAX_PAGE_SIZE, MIN_PAGE_SIZE, Window
from sync.mirror.windows import (
    OLDEST_START,
    BackfillCandidate,
    ReadLimits,
    Watermark,
    add_months,
    plan_backfill,
    plan_pull,
    reduce,
    split,
)
from tests.support.instants import utc

OVERLAP = timedelta(seconds=120)


def voucher(number: int) -> UUID:
    return UUID(int=number)


instants = st.integers(int(utc(2012, 1, 1).timestamp()) * 1000, int(utc(2030, 1, 1).timestamp()) * 1000).map(
    lambda milliseconds: datetime.fromtimestamp(milliseconds / 1000, UTC)
)
limits = st.none() | st.integers(86_400, 35_000_000).map(lambda seconds: timedelta(seconds=seconds))
paces = st.builds(
    ReadLimits,
    st.sampled_from([MIN_PAGE_SIZE, MAX_PAGE_SIZE]),
    st.sampled_from([None, timedelta(days=7), timedelta(days=30)]),
)


def is_within_three_months(window: Window) -> bool:
    """The rule as the API states it, written independently of `add_months`: the calendar's month moved on by three."""
    month0 = window.start.month + 2
    year, month = window.start.year + month0 // 12, month0 % 12 + 1
    first_of_next = utc(year + month // 12, month % 12 + 1, 1)
    last_day = (first_of_next - timedelta(days=1)).day
    return window.end <= window.start.replace(year=year, month=month, day=min(window.start.day, last_day))


@pytest.mark.long
@given(instants, instants, limits)
def test_windows_cover_everything_exactly_once(start: datetime, end: datetime, limit: timedelta | None) -> None:
    windows = list(split(start, end, limit))

    first, last = start.replace(microsecond=0), end.replace(microsecond=0)
    if first >= last:
        assert windows == []
        return
    assert windows[0].start == first
    assert windows[-1].end == last
    assert all(earlier.end == later.start for earlier, later in pairwise(windows))


@pytest.mark.long
@given(instants, instants, limits)
def test_no_window_breaks_the_apis_rules(start: datetime, end: datetime, limit: timedelta | None) -> None:
    for window in split(start, end, limit):
        assert window.start < window.end
        assert is_within_three_months(window)
        assert window.start.microsecond == window.end.microsecond == 0
        assert limit is None or window.length <= limit


@pytest.mark.parametrize(
    ("start", "months", "expected"),
    [
        (utc(2026, 1, 31), 1, utc(2026, 2, 28)),
        (utc(2024, 1, 31), 1, utc(2024, 2, 29)),
        (utc(2023, 11, 30), 3, utc(2024, 2, 29)),
        (utc(2026, 11, 30, 23, 59, 59), 3, utc(2027, 2, 28, 23, 59, 59)),
        (utc(2024, 2, 29), 12, utc(2025, 2, 28)),
        (utc(2026, 12, 1), 1, utc(2027, 1, 1)),
    ],
)
def test_months_end_where_the_calendar_says(start: datetime, months: int, expected: datetime) -> None:
    assert add_months(start, months) == expected


def test_windows_from_a_month_end_stay_within_three_months() -> None:
    windows = list(split(utc(2025, 1, 31), utc(2026, 1, 31)))
    assert [window.end for window in windows][:3] == [utc(2025, 4, 30), utc(2025, 7, 30), utc(2025, 10, 30)]


def test_a_window_without_length_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="begin before it ends"):
        Window(utc(2026, 1, 1), utc(2026, 1, 1))


@pytest.mark.long
@given(st.lists(st.tuples(instants, paces), max_size=30), instants, st.integers(1, 7))
def test_every_voucher_is_read_from_its_watermark_to_now(
    marks: list[tuple[datetime, ReadLimits]], now: datetime, limit: int
) -> None:
    watermarks = [Watermark(voucher(n), through, read_limits) for n, (through, read_limits) in enumerate(marks)]
    plans = list(plan_pull(watermarks, now=now, overlap=OVERLAP, limit=limit))

    assert sorted(one for plan in plans for one in plan.voucher_ids) == [mark.voucher_id for mark in watermarks]
    for plan in plans:
        assert len(plan.voucher_ids) <= limit
        assert plan.end == now.replace(microsecond=0)
        members = [mark for mark in watermarks if mark.voucher_id in plan.voucher_ids]
        assert all(plan.start <= mark.complete_through - OVERLAP or mark.complete_through > now for mark in members)
        assert all(mark.read_limits == plan.read_limits for mark in members)


def test_vouchers_of_one_pace_share_calls_whatever_their_watermarks() -> None:
    watermarks = [Watermark(voucher(n), utc(2026, 1, 1 + n % 28)) for n in range(2500)]
    plans = list(plan_pull(watermarks, now=utc(2026, 2, 1), overlap=OVERLAP))
    assert [len(plan.voucher_ids) for plan in plans] == [1000, 1000, 500]
    assert all(len(plan.windows) == 1 for plan in plans)


def test_a_server_clock_set_back_still_gives_a_window() -> None:
    (plan,) = plan_pull([Watermark(voucher(1), utc(2026, 1, 2))], now=utc(2026, 1, 1), overlap=OVERLAP)
    assert plan.windows == (Window(utc(2026, 1, 1) - OVERLAP, utc(2026, 1, 1)),)


@pytest.mark.long
@given(st.lists(st.none() | instants, min_size=1, max_size=20), instants, st.integers(1, 7))
def test_every_voucher_is_backfilled_from_its_own_beginning(
    created: list[datetime | None], now: datetime, limit: int
) -> None:
    candidates = [BackfillCandidate(voucher(n), instant) for n, instant in enumerate(created)]
    plans = list(plan_backfill(candidates, now=now, overlap=OVERLAP, backfill_from=None, limit=limit))

    assert sorted(one for plan in plans for one in plan.voucher_ids) == [one.voucher_id for one in candidates]
    for plan in plans:
        assert plan.end == now.replace(microsecond=0)
        for beginning in candidates:
            if beginning.voucher_id in plan.voucher_ids:
                assert plan.start <= (beginning.created_utc or OLDEST_START)


def test_the_operator_can_say_where_a_backfill_begins() -> None:
    (plan,) = plan_backfill(
        [BackfillCandidate(voucher(1), utc(2020, 1, 1))],
        now=utc(2026, 2, 1),
        overlap=OVERLAP,
        backfill_from=utc(2026, 1, 1),
    )
    assert plan.windows == (Window(utc(2026, 1, 1), utc(2026, 2, 1)),)


def test_a_voucher_of_the_year_1_is_backfilled_from_the_year_in_which_the_vendor_began() -> None:
    (plan,) = plan_backfill(
        [BackfillCandidate(UUID(int=1), utc(1, 1, 1))], now=utc(2026, 2, 1), overlap=OVERLAP, backfill_from=None
    )
    assert plan.start == OLDEST_START


def test_easing_shrinks_the_page_first_then_the_window_and_ends() -> None:
    window, read_limits = Window(utc(2026, 1, 1), utc(2026, 1, 9)), ReadLimits()
    pages, lengths = [read_limits.page_size], []
    while (slower := reduce(read_limits, window)) is not None:
        read_limits = slower
        if read_limits.window_limit is None:
            pages.append(read_limits.page_size)
        else:
            lengths.append(read_limits.window_limit)
            (window, *_) = split(window.start, window.end, read_limits.window_limit)
    assert pages == [1000, 500, 250, 125]
    assert lengths == [timedelta(days=4), timedelta(days=2), timedelta(days=1)]


def test_a_window_that_is_longer_than_its_pace_allows_has_only_to_be_split() -> None:
    slow = ReadLimits(125, timedelta(days=2))
    assert reduce(slow, Window(utc(2026, 1, 1), utc(2026, 3, 1))) == slow
    assert reduce(slow, Window(utc(2026, 1, 1), utc(2026, 1, 1, 1))) is None
