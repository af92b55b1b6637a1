"""What a pull that found nothing new leaves to the next one, which then need not ask the database what is to be read.

Whether that still stands is told by one look for all connections of a process: it makes a number of the versions of
all rows that a plan is made of. Whoever changes one of them, another process too, changes the number.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.connection import Connection
from sync.mirror.windows import ReadLimits, Watermark
from sync.postgres.shared_look import SharedLook

ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class MirrorVersions:
    """The version of what each connection's plans are made of, and the connections of which records were refused by
    the database. `fleet`: the version of who is at work, and of which vouchers any has lost. `now` is the database's
    clock, as of which that was so.
    """

    of: Mapping[str, int]
    refused: frozenset[str]
    fleet: int
    now: datetime


@dataclass(frozen=True, slots=True)
class _Left:
    """Vouchers, of 16 bytes each, all read through one instant: as watermarks they would be most of a hotel at rest."""

    voucher_ids: bytes
    through: datetime

    def watermarks(self) -> list[Watermark]:
        packed = (self.voucher_ids[at : at + ID_BYTES] for at in range(0, len(self.voucher_ids), ID_BYTES))
        return [Watermark(UUID(bytes=one), self.through) for one in packed]


class QuietPulls:
    """What one connection's last pull has left. `versions` is the look of all connections of the process."""

    __slots__ = ("_as_of", "_connection", "_left", "_versions")

    def __init__(self, connection: Connection, versions: SharedLook[MirrorVersions]) -> None:
        self._connection = connection
        self._versions = versions
        self._left: _Left | None = None
        self._as_of: tuple[int | None, int] | None = None

    async def look(self) -> MirrorVersions:
        """How the database stands. Raises `DatabaseError`."""
        return (await self._versions.ask(self._connection.name)).found

    def recall(self, seen: MirrorVersions) -> Sequence[Watermark] | None:
        """The vouchers to read, if the last pull has left nothing else and all is as it was then."""
        left = self._left if self._as_of == self._state(seen) else None
        self.forget()  # until this pull has found nothing new either
        return None if left is None else left.watermarks()

    def remember(self, watermarks: Sequence[Watermark], through: datetime, seen: MirrorVersions) -> None:
        """Take what was read through an instant of the API, planned after the database was `seen`."""
        if all(one.read_limits == ReadLimits() for one in watermarks):  # others end with time
            self._left = _Left(b"".join(one.voucher_id.bytes for one in watermarks), through)
            self._as_of = self._state(seen)

    def forget(self) -> None:
        """Have the next pull ask the database, as after this process has found another voucher."""
        self._left = self._as_of = None

    def _state(self, seen: MirrorVersions) -> tuple[int | None, int]:
        return seen.of.get(self._connection.name), self._connection.incarnation.checks


def mirror_look(engine: AsyncEngine) -> SharedLook[MirrorVersions]:
    """The look of all connections of a process."""
    return SharedLook(engine, load_versions)


async def load_versions(tx: AsyncConnection) -> MirrorVersions:
    """The versions as they are now, of all connections."""
    rows = (await tx.execute(_VERSIONS)).all()
    of = {sys.intern(row.connection): int(row.version) for row in rows if row.version is not None}
    refused = frozenset(row.connection for row in rows if row.has_refused)
    return MirrorVersions(of, refused, int(rows[0].fleet), rows[0].now)


# A row that is written has another xmin or ctid. What was left out for a time is read again when that is over, which
# no row tells; and a server that was started anew may have lost what the last one told.
_VERSIONS = text("""
WITH part AS (
  SELECT connection, hashtextextended(xmin::text || ctid::text, 1::bigint) AS version, false AS is_refused
  FROM mews.vouchers
UNION ALL
  SELECT connection, hashtextextended(xmin::text || ctid::text, 2::bigint), false FROM sync.watermarks
UNION ALL
  SELECT connection, hashtextextended(xmin::text || ctid::text, 3::bigint), false FROM sync.plans
UNION ALL
  SELECT connection, hashtextextended(xmin::text || ctid::text || coalesce(until > now(), true)::text, 4::bigint), false
  FROM sync.skipped
UNION ALL
  SELECT DISTINCT connection, 0, true FROM sync.rejected_records WHERE sqlstate IS NOT NULL
)
SELECT look.now, look.fleet, part.connection, part.has_refused,
       part.version + extract(epoch FROM pg_catalog.pg_postmaster_start_time())::bigint::numeric AS version
FROM (
  SELECT now() AS now,
    (SELECT coalesce(sum(hashtextextended(
       pg_catalog.concat_ws('|', name, paused_at IS NULL, removed_at IS NULL), 5::bigint)), 0)
     FROM sync.connections) +
    (SELECT coalesce(sum(hashtextextended(xmin::text || ctid::text, 6::bigint)), 0)
     FROM sync.skipped WHERE kind = 'voucher' AND until IS NULL) AS fleet
) AS look
LEFT JOIN (SELECT connection, sum(version) AS version, bool_or(is_refused) AS has_refused FROM part GROUP BY connection)
  AS part ON true
""")
