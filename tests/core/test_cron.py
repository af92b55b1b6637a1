"""Cron means cron: days count from Sunday, either day is enough where both are given, and all of it in UTC."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sync.core.cron import Cron

SATURDAY = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)


def following(words: str, count: int) -> list[str]:
    """When it begins next, so many times."""
    cron, after, found = Cron(words), SATURDAY, list[str]()
    for _ in range(count):
        after = cron.next_after(after)
        found.append(f"{after:%a %Y-%m-%d %H:%M}")
    return found


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun", "Sun", "0,7", "7-7", "SUN-SUN"])
def test_sunday_has_many_names(sunday: str) -> None:
    assert following(f"0 3 * * {sunday}", 2) == ["Sun 2026-11-29 03:00", "Sun 2026-12-06 03:00"]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ("1", "Mon"),
        ("6", "Sat"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("MON-FRI", "Mon Tue Wed Thu Fri"),
        ("5-7", "Sun Fri Sat"),
        ("SUN-TUE", "Sun Mon Tue"),
        ("1-5/2", "Mon Wed Fri"),
        ("*/2", "Sun Tue Thu Sat"),
        ("TUE,4", "Tue Thu"),
    ],
)
def test_days_of_the_week_count_from_sunday(days: str, expected: str) -> None:
    wanted = expected.split()
    assert [one[:3] for one in following(f"0 3 * * {days}", len(wanted))] == wanted


def test_either_day_is_enough_where_both_are_restricted() -> None:
    assert following("0 3 1,15 * FRI", 5) == [
        "Tue 2026-12-01 03:00",
        "Fri 2026-12-04 03:00",
        "Fri 2026-12-11 03:00",
        "Tue 2026-12-15 03:00",
        "Fri 2026-12-18 03:00",
    ]


@pytest.mark.parametrize("words", ["0 3 */2 * MON", "0 3 1-31/2 * *"])
def test_both_must_fit_where_one_begins_with_a_star(words: str) -> None:
    assert all(int(one[12:14]) % 2 for one in following(words, 5))
    assert "MON" not in words or all(one.startswith("Mon") for one in following(words, 5))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("*/15 * * * *", "Sat 2026-11-28 12:45"),
        ("5/15 * * * *", "Sat 2026-11-28 12:35"),
        ("0 3 * jan *", "Fri 2027-01-01 03:00"),
        ("0 3 * FEB-APR,12 *", "Tue 2026-12-01 03:00"),
        ("0 0 29 2 *", "Tue 2028-02-29 00:00"),
        ("0 0 30 2 MON", "Mon 2027-02-01 00:00"),
        ("0 11-11/1 * * *", "Sun 2026-11-29 11:00"),
        ("30-30/7 13 * * *", "Sat 2026-11-28 13:30"),
        ("0 3 01-1/2 JAN-1/3 *", "Fri 2027-01-01 03:00"),
        ("0 3 * * MON-1/2", "Mon 2026-11-30 03:00"),
        ("*/100 * * * *", "Sat 2026-11-28 13:00"),
        (" 0\t3  * * * ", "Sun 2026-11-29 03:00"),
        ("@daily", "Sun 2026-11-29 00:00"),
        ("@Weekly", "Sun 2026-11-29 00:00"),
        ("@hourly", "Sat 2026-11-28 13:00"),
        ("@monthly", "Tue 2026-12-01 00:00"),
        ("@yearly", "Fri 2027-01-01 00:00"),
    ],
)
def test_steps_names_and_nicknames(words: str, expected: str) -> None:
    assert following(words, 1) == [expected]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("0 0 30 2 *", "no month that it names has such a day"),
        ("0 0 31 4,6,SEP,NOV *", "no month that it names has such a day"),
        ("0 0 31 2 */2", "no month that it names has such a day"),
        ("0 0 32 * *", "day of the month must be 1 to 31"),
        ("0 0 0 * *", "day of the month must be 1 to 31"),
        ("60 0 * * *", "minute must be 0 to 59"),
        ("-1 0 * * *", "minute must be 0 to 59"),
        ("0 24 * * *", "hour must be 0 to 23"),
        ("0 3 * 13 *", "month must be 1 to 12"),
        ("0 3 * * 8", "0 and 7 are Sunday"),
        ("0 3 * * FRI-MON", "upward ranges"),
        ("0 3 * * SONNTAG", "SUN to SAT"),
        ("*/0 * * * *", "minute must be"),
        ("1,, * * * *", "minute must be"),
        ("٣ * * * *", "minute must be"),
        ("0 3 L * *", "the day of the month must be 1 to 31"),
        ("0 3 LW * *", "the day of the month must be 1 to 31"),
        ("0 3 * * 5L", "SUN to SAT"),
        ("0 3 * * 5#3", "lists (1,5), upward ranges (1-5) and steps (*/2) work"),
        ("0 3 ? * *", "the day of the month must be 1 to 31"),
        ("H 3 * * *", "minute must be"),
        ("0~30 3 * * *", "minute must be"),
        ("*/2/3 * * * *", "minute must be"),
        ("*-5 * * * *", "minute must be"),
        ("9" * 5000 + " * * * *", "minute must be"),
        ("0 3 * * MONDAY", "SUN to SAT"),
        ("0 3 * MON *", "JAN to DEC"),
        ("0 3 * *", "expected 5 fields"),
        ("0 0 3 * * *", "expected 5 fields"),
        ("", "expected 5 fields"),
        ("@reboot", "@reboot means nothing here"),
        ("@fortnightly", "this name is none of @yearly"),
    ],
)
def test_what_can_never_begin_is_refused_with_the_reason(words: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Cron(words)


def test_it_begins_in_utc_wherever_the_instant_was_read() -> None:
    tokyo = SATURDAY.astimezone(timezone(timedelta(hours=9)))
    assert Cron("0 3 * * *").next_after(tokyo) == datetime(2026, 11, 29, 3, tzinfo=UTC)
    assert Cron("0 3 * * *").next_after(tokyo).tzinfo is UTC


def test_nothing_begins_twice_or_between_the_minutes() -> None:
    begins = datetime(2026, 11, 29, 3, tzinfo=UTC)
    cron, moment = Cron("0 3 * * *"), timedelta(microseconds=1)
    assert cron.next_after(begins - moment) == cron.next_from(begins) == begins
    assert cron.next_after(begins) == cron.next_from(begins + moment) == begins + timedelta(days=1)
