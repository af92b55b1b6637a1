"""What holds and what was told of it, kept in the database: a restart tells nothing twice, nor do several processes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Update, and_, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.alerts.conditions import ENDED, Condition, Key, Kind
from sync.alerts.tables import alerts
from sync.postgres.metadata import UNDER_WAY

CLAIM = timedelta(seconds=60)
"""A process has so long to tell what it has claimed: longer than a webhook is waited for, with its tries."""


@dataclass(frozen=True, slots=True)
class Untold:
    """A change that nobody was told of yet; at level 0 the condition has ended."""

    connection: str
    kind: Kind
    level: int
    summary: str
    since: datetime

    @property
    def key(self) -> Key:
        """What changed."""
        return self.connection, self.kind


@dataclass(frozen=True, slots=True)
class Known:
    """The level at which something is, and the one last told."""

    level: int
    told_level: int


async def known(tx: AsyncConnection) -> dict[Key, Known]:
    """Everything that was ever noted."""
    rows = await tx.execute(select(alerts.c.connection, alerts.c.kind, alerts.c.level, alerts.c.told_level))
    return {(row.connection, Kind(row.kind)): Known(row.level, row.told_level) for row in rows}


async def note(
    tx: AsyncConnection,
    before: Mapping[Key, Known],
    present: Iterable[Condition],
    undecided: Collection[Key],
    since: Mapping[Key, datetime | None],
) -> None:
    """Note what holds now, where that differs from `before`; of what is `undecided` nothing.

    `since`: when it began or ended, where that is known to have been after what was noted before; else it is now.
    """
    holding = {one.key: one for one in present}
    for key, one in holding.items():
        noted = before[key].level if key in before else ENDED
        if key not in undecided and noted != one.level:
            await _set(tx, key, one.level, one.summary, since.get(key))
    for key, was in before.items():
        if key not in holding and key not in undecided and was.level != ENDED:
            await tx.execute(_row(key).values(level=ENDED, since=_known_since(since.get(key))))


async def note_told_meanwhile(tx: AsyncConnection, told: Iterable[Untold]) -> None:
    """Note what was told while the database could not be asked."""
    for one in told:
        await _set(tx, one.key, one.level, one.summary, one.since)
        await note_told(tx, one)


async def _set(tx: AsyncConnection, key: Key, level: int, summary: str, since: datetime | None) -> None:
    new = {"level": level, "summary": summary}
    statement = insert(alerts).values(connection=key[0], kind=key[1], since=func.coalesce(since, func.now()), **new)
    changed = new | {"since": _known_since(since)}
    keys = [alerts.c.connection, alerts.c.kind]
    await tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


def _known_since(since: datetime | None) -> ColumnElement[datetime]:
    # The database tells of nothing that happened while it was away: what it has from before is about something else.
    return func.now() if since is None else case((alerts.c.since < since, since), else_=func.now())


async def claim(tx: AsyncConnection) -> list[Untold]:
    """What is to be told now, by nobody but the caller for a while."""
    now = func.now()
    is_news = or_(alerts.c.level > alerts.c.told_level, and_(alerts.c.level == ENDED, alerts.c.told_level > ENDED))
    # A claim from beyond that time was made before the database's clock went back; one that was made while this
    # transaction waited for the row is from its future, too.
    is_free = or_(alerts.c.claimed_until.is_(None), ~alerts.c.claimed_until.between(now, now + CLAIM + UNDER_WAY))
    columns = (alerts.c[name] for name in ("connection", "kind", "level", "summary", "since"))
    claimed = update(alerts).where(is_news, is_free).values(claimed_until=now + CLAIM).returning(*columns)
    return [Untold(row.connection, Kind(row.kind), *row[2:]) for row in await tx.execute(claimed)]


async def note_told(tx: AsyncConnection, one: Untold) -> None:
    """Note that somebody was told."""
    await tx.execute(_row(one.key).values(told_level=one.level, told_at=func.now(), claimed_until=None))


async def give_back(tx: AsyncConnection, one: Untold) -> None:
    """Note that nobody could be told: whoever comes next may try."""
    await tx.execute(_row(one.key).values(claimed_until=None))


def _row(key: Key) -> Update:
    return update(alerts).where(alerts.c.connection == key[0], alerts.c.kind == key[1])
