"""Whether the database is the one that was worked with last: noticed at a start, and whenever its server is another.

A database that went back in time, was copied, or lost its last commits has rows that were sent already, or taken back.
`Gap` says which, and what was queued before stays unsent until somebody adopts the database (docs/invariants.md, 14).
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import BigInteger, Row, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection import gaps
from sync.connection.gaps import Gap, Known, find_gap, is_promoted, lies_elsewhere
from sync.connection.tables import incarnation
from sync.connection.witness import Witness
from sync.core.errors import IncarnationChanged, NotAdopted, Unsuitable
from sync.logger import structlog
from sync.postgres.engine import in_transaction
from sync.postgres.identity import ServerFacts, load_server_facts

NOT_ADOPTED = (
    "this database was restored or copied, or nobody here knows it since its server was started anew: it is read "
    "into, and nothing is sent; see what waits with `voucher-sync adopt --show`, and if this is the one to work with, "
    "run `voucher-sync adopt`"
)

NOT_WHOLE = (
    "sync.incarnation has no row: this database is being restored, or was restored in part; nothing is done with it "
    "until the restore has ended, or was done anew"
)
CHANGED = "the database's server is another, or has lost commits: it is looked at first"

PATIENCE_S = 30.0
"""So long whoever does not know a server waits for one that does. Who ran on through it looks within a heartbeat."""

log = structlog.get_logger()


class Incarnation:
    """The database of a connection, as far as this process knows it. `checks` counts how often it was found anew.

    `patience_s`: so long others may vouch for a server that this process cannot. `shows_after_s`: so long after it was
    sent a change may be under way, or hidden; whoever sent it to a server that is gone may not have been this process.
    """

    def __init__(
        self,
        witness: Witness,
        *,
        patience_s: float = 0.0,
        shows_after_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.witness = witness
        self.known: Known | None = None
        self.checks = 0
        self.is_new = False
        self._patience_s, self._shows_after_s, self._clock = patience_s, shows_after_s, clock
        self._found: Known | None = None
        self._unsure_since_s: float | None = None
        self._shows_from_s = clock()
        self._checking = asyncio.Lock()
        self._remembering = asyncio.Lock()

    @property
    def is_worked_with(self) -> bool:
        """Whether it was found, and is no copy: what a copy has done must not be taken for the original's."""
        return self.known is not None and self.known.id is not None and self.known.gap is not Gap.COPY

    @property
    def finding(self) -> int | None:
        """The number of the last finding; None where it is found anew before anything counts that was read of it."""
        return None if self.known is None else self.checks

    @property
    def worked_with(self) -> Known:
        """What was found of it; `IncarnationChanged` where it must be looked at first."""
        if self.known is None or not self.is_worked_with:
            raise IncarnationChanged(CHANGED)
        return self.known

    @property
    def is_unsure(self) -> bool:
        """Whether others may still vouch for it; until then nothing is sent from it, and nothing held."""
        return self._unsure_since_s is not None

    @property
    def shows_in_s(self) -> float:
        """After how many seconds a pull shows all that was sent to a server from which this one has taken over."""
        return max(0.0, self._shows_from_s - self._clock())

    async def check(self, engine: AsyncEngine) -> int:
        """Look whether it is the database that was worked with; the number of this finding. Raises `DatabaseError`."""
        async with self._checking:
            if self.known is None or self.known.gap:
                before = self.known
                self.known = await in_transaction(engine, self._look)
                if before is None or before.gap is not self.known.gap:
                    self.checks += 1
                if self.known.gap and self.known.gap_at and (before is None or before.gap_at is None):
                    through = self.known.gap_through
                    log.warning("gap", gap=self.known.gap.value, through=through, next_step="voucher-sync adopt")
                if self.known.id and self.is_worked_with:
                    self._found = self.known
                    await asyncio.to_thread(self.witness.write, self.known.id, self.known.position)
            return self.checks

    async def require(self, engine: AsyncEngine) -> None:
        """`NotAdopted` for a database that nothing may be sent from."""
        await self.check(engine)
        if self.known and self.known.gap is Gap.COPY and not self.is_unsure:
            raise NotAdopted(NOT_ADOPTED)

    async def confirm(self, tx: AsyncConnection) -> int:
        """Make sure, within a transaction, that the database is still the one that was looked at; its position.

        Between two transactions another server may stand at the address, which lost the commits of the last one.
        """
        return self._compare((await tx.execute(_CONFIRM)).one_or_none(), at_least=self.worked_with.position)

    def refuse_put_back(self, queued_at: Iterable[datetime]) -> None:
        """Raise `IncarnationChanged` where changes that are to be sent were queued before the outbox was emptied."""
        known = self.worked_with
        if known.emptied_at and not known.gap and any(one < known.emptied_at for one in queued_at):
            self._found, self.known = known, None
            raise IncarnationChanged(CHANGED)

    async def follow(self, engine: AsyncEngine) -> None:
        """Know how far others work with it, to vouch for it when they are gone. Raises `DatabaseError`."""
        await self.check(engine)
        if self.is_worked_with:
            await self.remember(await in_transaction(engine, self.confirm))

    def witnessed(self) -> "asyncio.Future[int | None]":
        """The position that the witness has, read in a thread: no transaction that moves on waits for a disk."""
        known = self.worked_with
        assert known.id is not None  # noqa: S101 - what is worked with has one
        return asyncio.ensure_future(asyncio.to_thread(self.witness.read, known.id))

    async def advance(self, tx: AsyncConnection, seen: int | None) -> int:
        """`confirm`, and move the database's position on: `remember` it once the transaction is committed.

        `seen`: the position that was `witnessed`. The last statement of the transaction: others who do this wait for
        the row from here to the commit.
        """
        known = self.worked_with
        row = (await tx.execute(_ADVANCE, {"place": self.witness.place})).one_or_none()
        return self._compare(row, at_least=max(known.position, seen or 0) + 1)

    async def remember(self, position: int) -> None:
        """Have the witness know of a position that is committed, and with it of everything before."""
        async with self._remembering:
            known = self.known
            if known and known.id and position > known.position:
                self.known = replace(known, position=position)
                await asyncio.to_thread(self.witness.write, known.id, position)

    def _compare(self, row: Row[*tuple[Any, ...]] | None, at_least: int) -> int:
        """The position of the database that was found, which may be another by now, or none yet."""
        known = self.worked_with
        is_same = row is not None and all(getattr(row, name) == getattr(known, name) for name in _SAME)
        if row is None or not is_same or row.position < at_least:
            self._found, self.known = known, None
            raise IncarnationChanged(CHANGED)
        return int(row.position)

    def _waits_for_others(self, *, is_unvouched: bool) -> bool:
        """Whether nobody vouches for its server, and somebody still may."""
        now_s = self._clock()
        since_s = now_s if self._unsure_since_s is None else self._unsure_since_s
        is_patient = is_unvouched and now_s - since_s < self._patience_s
        self._unsure_since_s = since_s if is_patient else None
        return is_patient

    async def _look(self, tx: AsyncConnection) -> Known:
        known, facts = await load(tx, lock=True), await load_server_facts(tx)
        self.is_new = False
        if known.id is None:
            return await self._begin(tx, known, facts)
        before = self._found if self._found and self._found.id == known.id else None
        seen = self.witness.read(known.id)
        if before is not None:
            seen = max(before.position, seen or 0)
        has_followed = before is not None or gaps.did_last_of_it(known, self.witness.place, seen)
        gap = find_gap(known, facts, seen, has_followed=has_followed)
        if gap is None and known.emptied_at and (await tx.execute(_IS_REFILLED)).scalar_one():
            gap = Gap.BEHIND
        is_unvouched = gap is Gap.COPY and find_gap(gaps.as_on_same_server(known, facts), facts, seen) is not gap
        if is_promoted(before or known, facts):  # also where others vouch for it first: it looks the same then
            self._shows_from_s = self._clock() + self._shows_after_s
        if self._waits_for_others(is_unvouched=is_unvouched):
            return replace(known, gap=gap, gap_at=None, gap_through=None)
        await _note(tx, known, facts, gap, max(known.position, seen or 0) + 1)
        return await load(tx)

    async def _begin(self, tx: AsyncConnection, known: Known, facts: ServerFacts) -> Known:
        """Give a name to a database that nobody has worked with."""
        # Rows that are older than its outbox were put in from another database, as by a dump of data alone.
        self.is_new = not (await tx.execute(_IS_REFILLED)).scalar_one()
        new = await record(tx, known, facts)
        return new if self.is_new else await _open_gap(tx, Gap.BEHIND, new.position + 1, facts)


async def _note(tx: AsyncConnection, known: Known, facts: ServerFacts, gap: Gap | None, position: int) -> None:
    """Write down how a database was found, where that is news; `position`: beyond all that were lost."""
    if gaps.went_back_alone(known, facts):
        await tx.execute(_READ_ANEW, {"outbox_oid": facts.outbox_oid})
    if gap and (gap is not known.gap or lies_elsewhere(known, facts)):  # of a copy there may be another copy
        await _open_gap(tx, gap, position, facts)
    elif gap:
        await tx.execute(_HELD_FOR_GOOD)
    elif any(getattr(known, name) != value for name, value in _placed(facts).items()):
        await tx.execute(update(incarnation).values(_placed(facts)))


async def load(tx: AsyncConnection, *, lock: bool = False) -> Known:
    """What the database says of itself. `Unsuitable` where it says nothing: its outbox may be there before that is."""
    statement = select(*(incarnation.c[name] for name in Known.__slots__))
    row = (await tx.execute(statement.with_for_update() if lock else statement)).mappings().one_or_none()
    if row is None:
        raise Unsuitable(NOT_WHOLE)
    return Known(**{**row, "gap": row["gap"] and Gap(row["gap"])})


async def record(tx: AsyncConnection, known: Known, facts: ServerFacts) -> Known:
    """Make the database the one to work with, under a new name that no copy of it has."""
    closed = {"gap": None, "gap_at": None, "gap_through": None, "emptied_at": None}
    values = {"id": uuid4(), "position": known.position + 1, **closed, **_placed(facts)}
    await tx.execute(update(incarnation).values(values))
    return await load(tx)


async def _open_gap(tx: AsyncConnection, gap: Gap, position: int, facts: ServerFacts) -> Known:
    """Note that what is queued by now may be done already; `position`: beyond all that were lost."""
    await tx.execute(_NUMBER_ON)
    queued = (await tx.execute(_BEFORE_GAP)).one()
    values = {"gap": gap, "gap_at": queued.at, "gap_through": queued.through, "position": position}
    await tx.execute(update(incarnation).values(values | _placed(facts)))
    return await load(tx)


def _placed(facts: ServerFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in ServerFacts.__slots__}


_SELF = (
    incarnation.c.id,
    incarnation.c.gap,
    incarnation.c.position,
    func.pg_postmaster_start_time().label("started_at"),
    text("to_regclass('mews.voucher_code_outbox')::oid::bigint AS outbox_oid"),
    incarnation.c.emptied_at,
)
_SAME = ("id", "gap", "started_at", "outbox_oid", "emptied_at")
_CONFIRM = select(*_SELF)
# What the witness is told must not be lost by a crash of the server alone, whatever the session's settings say.
_DURABLE = func.set_config(
    "synchronous_commit", func.coalesce(func.nullif(func.current_setting("synchronous_commit"), "off"), "local"), True
)
_ADVANCE = (
    update(incarnation)
    .values(
        position=incarnation.c.position + 1,
        moved_by=bindparam("place", type_=UUID_TYPE),
        moved_to=incarnation.c.position + 1,
    )
    .returning(*_SELF, _DURABLE)
)
# The release before would take back what itself has held, and with that end the gap of what this one holds.
_HELD_FOR_GOOD = update(incarnation).where(incarnation.c.unvouched_from.is_not(None)).values(unvouched_from=None)
# What watermarks tell was read is not there any more: an add that was made since would not be found, and made again.
_READ_ANEW = text("""
WITH plans AS (DELETE FROM sync.plans), watermarks AS (DELETE FROM sync.watermarks)
UPDATE sync.incarnation SET outbox_oid = :outbox_oid
""").bindparams(bindparam("outbox_oid", type_=BigInteger))
_IS_REFILLED = text("""
SELECT EXISTS (SELECT FROM mews.voucher_code_outbox AS queued JOIN sync.incarnation AS known ON true
               WHERE queued.status = 'pending' AND queued.created_at < known.emptied_at)
""")
# What is queued from now on comes after what was queued before, also where the numbers were restored without their
# sequence, or are a logical replica's, which has none of it.
_NUMBER_ON = text("""
SELECT setval('mews.voucher_code_outbox_id_seq'::regclass, newest.id)
FROM (SELECT max(id) AS id FROM mews.voucher_code_outbox) AS newest
WHERE newest.id > (SELECT last_value FROM mews.voucher_code_outbox_id_seq)
  AND has_sequence_privilege('mews.voucher_code_outbox_id_seq', 'UPDATE')
""")
# What was released before counts no more, also where the clock that told when went back since, or was another's.
_BEFORE_GAP = text("""
SELECT (SELECT coalesce(max(id), 0) FROM mews.voucher_code_outbox) AS through,
       greatest(clock_timestamp(), (SELECT max(released_at) + interval '1 microsecond' FROM mews.voucher_code_outbox
                                    WHERE status = 'pending')) AS at
""")
