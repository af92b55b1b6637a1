"""What holds and what was told of it, kept in the database: a restart tells nothing twice, nor do several processes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Text,
    TextClause,
    and_,
    any_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.alerts.conditions import ENDED, Condition, Key, Kind
from sync.alerts.tables import alerts
from sync.postgres.metadata import TIMESTAMP, UNDER_WAY

CLAIM = timedelta(seconds=60)
"""A process has so long to tell what it has claimed: longer than a webhook is waited for, with its tries."""

# A newer release that works on the same database tells of more.
_IS_OURS = alerts.c.kind.in_([*Kind])


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
    """Everything that was ever noted, of the kinds that this release has."""
    columns = (alerts.c[name] for name in ("connection", "kind", "level", "told_level"))
    rows = await tx.execute(select(*columns).where(_IS_OURS))
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
    ended = {key for key, was in before.items() if key not in holding and was.level != ENDED}
    begun = {key for key, one in holding.items() if one.level != (before[key].level if key in before else ENDED)}
    await _set(tx, [(*key, holding[key].level, holding[key].summary, since.get(key)) for key in begun - set(undecided)])
    ended_since = [(*key, since.get(key)) for key in ended - set(undecided)]
    await _for_all(tx, _END, ("connections", "kinds", "since"), ended_since)


async def forget(tx: AsyncConnection, connections: Collection[str]) -> None:
    """Forget of these connections what does not hold, and was told so; they may be gone."""
    is_over = (alerts.c.level == ENDED, alerts.c.told_level == ENDED)
    of_these = alerts.c.connection == any_(literal(list(connections), ARRAY(Text)))
    await tx.execute(delete(alerts).where(_IS_OURS, of_these, *is_over))


async def note_told_meanwhile(tx: AsyncConnection, told: Collection[Untold]) -> None:
    """Note what was told while the database could not be asked."""
    await _set(tx, [(*one.key, one.level, one.summary, one.since) for one in told])
    await note_told(tx, told)


async def _set(tx: AsyncConnection, rows: Iterable[tuple[str, str, int, str, datetime | None]]) -> None:
    # In one order: else two processes that note the same outage would wait for each other's rows.
    in_order = sorted(rows, key=lambda row: row[:2])
    await _for_all(tx, _SET, ("connections", "kinds", "levels", "summaries", "since"), in_order)


async def _for_all(
    tx: AsyncConnection, statement: TextClause, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """One statement for all rows, whose columns are the parameters of these names: thousands of hotels fail at once."""
    if rows:
        columns = map(list, zip(*rows, strict=True))
        await tx.execute(statement, dict(zip(names, columns, strict=True)))


async def claim(tx: AsyncConnection) -> list[Untold]:
    """What is to be told now, by nobody but the caller for a while."""
    now = func.now()
    is_news = or_(alerts.c.level > alerts.c.told_level, and_(alerts.c.level == ENDED, alerts.c.told_level > ENDED))
    # A claim from beyond that time was made before the database's clock went back; one that was made while this
    # transaction waited for the row is from its future, too.
    is_free = or_(alerts.c.claimed_until.is_(None), ~alerts.c.claimed_until.between(now, now + CLAIM + UNDER_WAY))
    columns = (alerts.c[name] for name in ("connection", "kind", "level", "summary", "since"))
    claimed = update(alerts).where(_IS_OURS, is_news, is_free).values(claimed_until=now + CLAIM).returning(*columns)
    return [Untold(row.connection, Kind(row.kind), *row[2:]) for row in await tx.execute(claimed)]


async def note_told(tx: AsyncConnection, changes: Iterable[Untold]) -> None:
    """Note that somebody was told."""
    await _for_all(tx, _TOLD, ("connections", "kinds", "levels"), [(*one.key, one.level) for one in changes])


async def give_back(tx: AsyncConnection, changes: Iterable[Untold]) -> None:
    """Note that nobody could be told: whoever comes next may try."""
    await _for_all(tx, _GIVE_BACK, ("connections", "kinds"), [one.key for one in changes])


# The database tells of nothing that happened while it was away: what it has from before is about something else.
_SET = text("""
INSERT INTO sync.alerts AS known (connection, kind, level, summary, since)
SELECT connection, kind, level, summary, coalesce(since, now())
FROM unnest(:connections, :kinds, :levels, :summaries, :since) AS told (connection, kind, level, summary, since)
ON CONFLICT (connection, kind) DO UPDATE SET level = excluded.level, summary = excluded.summary,
  since = CASE WHEN known.since < excluded.since THEN excluded.since ELSE now() END
""").bindparams(
    bindparam("connections", type_=ARRAY(Text)),
    bindparam("kinds", type_=ARRAY(Text)),
    bindparam("levels", type_=ARRAY(BigInteger)),
    bindparam("summaries", type_=ARRAY(Text)),
    bindparam("since", type_=ARRAY(TIMESTAMP)),
)
_END = text("""
UPDATE sync.alerts AS known SET level = 0, since = CASE WHEN known.since < told.since THEN told.since ELSE now() END
FROM unnest(:connections, :kinds, :since) AS told (connection, kind, since)
WHERE known.connection = told.connection AND known.kind = told.kind
""").bindparams(
    bindparam("connections", type_=ARRAY(Text)),
    bindparam("kinds", type_=ARRAY(Text)),
    bindparam("since", type_=ARRAY(TIMESTAMP)),
)
_TOLD = text("""
UPDATE sync.alerts AS known SET told_level = told.level, told_at = now(), claimed_until = NULL
FROM unnest(:connections, :kinds, :levels) AS told (connection, kind, level)
WHERE known.connection = told.connection AND known.kind = told.kind
""").bindparams(
    bindparam("connections", type_=ARRAY(Text)),
    bindparam("kinds", type_=ARRAY(Text)),
    bindparam("levels", type_=ARRAY(BigInteger)),
)
_GIVE_BACK = text("""
UPDATE sync.alerts AS known SET claimed_until = NULL
FROM unnest(:connections, :kinds) AS told (connection, kind)
WHERE known.connection = told.connection AND known.kind = told.kind
""").bindparams(bindparam("connections", type_=ARRAY(Text)), bindparam("kinds", type_=ARRAY(Text)))
