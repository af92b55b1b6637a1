"""Cron's five fields, with cron's own meaning (crontab(5), as Debian's cron reads it): when something begins, in UTC.

Days of the week count from Sunday, which is 0 and 7, and names work (`SUN`, `JAN`). Where both days are restricted, the
day of the month or that of the week is enough; where either begins with a star, both must fit.
"""

import re
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = {
    "minute": "the minute must be 0 to 59",
    "hour": "the hour must be 0 to 23",
    "day-of-month": "the day of the month must be 1 to 31",
    "month": "the month must be 1 to 12, or JAN to DEC",
    "day-of-week": "the day of the week must be 0 to 7 (0 and 7 are Sunday), or SUN to SAT",
}
"""By the name that cronsim's errors have for them."""
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
NUMBERS = {name: number for first, names in ((0, DAYS), (1, MONTHS)) for number, name in enumerate(names, first)}
ONE = "[0-9]{1,3}|[A-Z]{3}"
TERM = re.compile(rf"(?:(?P<all>\*)|(?P<first>{ONE})(?:-(?P<last>{ONE}))?)(?:/(?P<step>[0-9]{{1,3}}))?")
"""What cron's lists consist of. Cronsim takes more, as Quartz does (`L`, `5#3`), which no cron would understand."""
NO_SUCH_DAY = "Bad day-of-month"
ANY_INSTANT = datetime(2000, 1, 1, tzinfo=UTC)
HOW = "lists (1,5), upward ranges (1-5) and steps (*/2) work"


class Cron:
    """When the fields that `words` give are next fulfilled. `ValueError` with the reason if they can never be."""

    def __init__(self, words: str) -> None:
        self._fields = _fields(words)
        try:
            self.next_after(ANY_INSTANT)
        except CronSimError as error:
            raise ValueError(_explain(self._fields, error)) from None

    def next_after(self, instant: datetime) -> datetime:
        """The first minute after `instant` at which it begins, in UTC."""
        try:
            return next(CronSim(self._fields, instant.astimezone(UTC)))
        except StopIteration:
            raise CronSimError(NO_SUCH_DAY) from None

    def next_from(self, instant: datetime) -> datetime:
        """The same, or `instant` itself where it begins then."""
        return self.next_after(instant - timedelta(microseconds=1))


def _fields(words: str) -> str:
    fields = NICKNAMES.get(words.strip().lower(), words).split()
    if words.strip().startswith("@") and len(fields) == 1:
        known = ", ".join(NICKNAMES)
        raise ValueError(f"this name is none of {known} (of cron's own, @reboot means nothing here)")
    if len(fields) != 5:
        order = "minute, hour, day of the month, month, day of the week"
        raise ValueError(f"expected 5 fields ({order}), such as `0 3 * * SUN`, and there are {len(fields)}")
    return " ".join(_plain(field.upper(), rule) for field, rule in zip(fields, FIELDS.values(), strict=True))


def _plain(field: str, rule: str) -> str:
    """A field as cronsim reads it like cron. `ValueError` for what cron does not know."""
    terms = [TERM.fullmatch(term) for term in field.split(",")]
    if not all(terms):
        raise ValueError(f"{rule}; {HOW}")
    return ",".join(_plain_term(term) for term in terms if term)


def _plain_term(term: re.Match[str]) -> str:
    first, last = term["first"], term["last"]
    # Of one value no step leads to another; cronsim would go on from it to the field's end, as from `11/1`.
    return str(first) if last and _number(first) == _number(last) else term[0]


def _number(one: str) -> int:
    return int(one) if one.isdecimal() else NUMBERS.get(one, -1)


def _explain(fields: str, error: CronSimError) -> str:
    wrong = str(error)
    if wrong == NO_SUCH_DAY and _is_possible(f"0 0 {fields.split()[2]} * *"):
        return "no month that it names has such a day, so it would never begin"
    rule = FIELDS.get(wrong.removeprefix("Bad "))
    return f"{rule}; {HOW}" if rule else "it cannot be read: give five fields, such as `0 3 * * SUN`"


def _is_possible(fields: str) -> bool:
    try:
        CronSim(fields, ANY_INSTANT)
    except CronSimError:
        return False
    return True
