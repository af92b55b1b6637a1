"""Samples as the lines of charts, on an even grid of instants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.tables import samples

SPANS = {"day": (timedelta(days=1), timedelta(minutes=5)), "month": (timedelta(days=30), timedelta(hours=2))}
"""How far back each reaches, and how far apart its instants are."""
STANDS, DONE = ("waiting", "attention", "drift"), ("codes", "requests", "failed")


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of `sync.samples`, as `sync.service.samples` says."""

    at: datetime
    behind_since: datetime | None
    waiting: int
    attention: int
    drift: int
    codes: int
    requests: int
    failed: int


@dataclass(frozen=True, slots=True)
class Series:
    """`at` in seconds of the epoch; each line has a value for each of them, None before anything was noted."""

    at: list[int]
    lines: dict[str, list[int | None]]


async def load_series(tx: AsyncConnection, connection: str, span: str) -> Series:
    """The lines of a connection over a span. Raises `DatabaseError`."""
    length, step = SPANS[span]
    now = (await tx.execute(_NOW)).scalar_one()
    columns = [samples.c[name] for name in Sample.__slots__]
    of_connection = samples.c.connection == connection
    within = select(*columns).where(of_connection, samples.c.at > now - length).order_by(samples.c.at)
    before = select(*columns).where(of_connection, samples.c.at <= now - length).order_by(samples.c.at.desc()).limit(1)
    found = [Sample(*row) for query in (before, within) for row in await tx.execute(query)]
    return draw(found, now, length, step)


def draw(found: Sequence[Sample], now: datetime, length: timedelta, step: timedelta) -> Series:
    """Lines of these samples, in the order of their instants: what stands as it last did, what was done summed up."""
    instants = [now - length + number * step for number in range(1, length // step + 1)]
    lines: dict[str, list[int | None]] = {name: [] for name in ("lag", *STANDS, *DONE)}
    number, last = 0, None
    for instant in instants:
        done = dict.fromkeys(DONE, 0)
        while number < len(found) and found[number].at <= instant:
            last = found[number]
            number += 1
            if last.at > instant - step:
                done = {name: done[name] + getattr(last, name) for name in DONE}
        lines["lag"].append(None if last is None else _lag_s(last, instant))
        for name in STANDS:
            lines[name].append(None if last is None else getattr(last, name))
        for name in DONE:
            lines[name].append(None if last is None else done[name])
    return Series([int(instant.timestamp()) for instant in instants], lines)


def _lag_s(sample: Sample, instant: datetime) -> int:
    return 0 if sample.behind_since is None else max(0, int((instant - sample.behind_since).total_seconds()))


def path(values: Sequence[int | None], *, width: int = 100, height: int = 20) -> str:
    """A line as the path of an SVG of these measures; empty where there is nothing to draw."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    top, inset = max(*known, 1), 1.5
    points: list[str] = []
    for number, value in enumerate(values):
        if value is not None:
            x = number * width / (len(values) - 1)
            y = height - inset - (height - 2 * inset) * value / top
            points.append(f"{'L' if points else 'M'}{x:.1f} {y:.1f}")
    return "".join(points)


_NOW = text("SELECT now()")
