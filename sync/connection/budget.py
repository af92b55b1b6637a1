"""The ledger of a token's budget in the database: what each of its processes has written down of its calls.

A row for each process. One at a time writes its own, having read the others', while it has locked the token's row: a
session keeps nothing, so a pooler may stand between. Times are ages, and counted from when a row was written where its
process and the reader are of one boot of a machine, else from when it was first seen: no instant is written or read of
a clock that anybody can step.
"""

import secrets
import time
from collections.abc import Callable
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, column, delete, func, select, table, text, update
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.process_names import another_name
from sync.connection.reservations import Reservation, ReservationWatch
from sync.connection.tables import budgets, reservations
from sync.connection.tenure import Trust, now_s
from sync.connection.uptime import Uptime, read_uptime
from sync.mews.ledger import Entry, Others
from sync.postgres.engine import STANDSTILL_S, in_transaction

# The fleet's table, of which nothing here is to be known but that a process counts in it while it lives.
_DAEMONS = table("daemons", column("process", UUID_TYPE), column("beat", BigInteger), schema="sync")
STANDING_S = 600.0
"""So long what stands is good, where others see no signs of life of its process. After a crash a successor goes without
it for as long: of the documented budget, five calls of 200."""
STANDING_OF_REPLICA_S = 6 * 3600.0
"""The same where they do, since it ends with them. The release before 0036, which sees none, counts it for so long."""
OLDEST_MS = 2**31 - 1
"""As the column holds it. A call that is older counts as one of this age, for longer than it must."""
BEAT_BITS = 62
"""Of where a ledger begins to count; the column has room for what it adds."""


async def may_write(tx: AsyncConnection) -> bool:
    """Whether this user of the database may write calls down; a user who only queues changes may not."""
    return bool((await tx.execute(_MAY_WRITE)).scalar_one())


class BudgetLedger:
    """What this process and others write down for the token of a fingerprint. It is a `sync.mews.ledger.Ledger`.

    `good_for_s`: for how long after it is written a reservation may be spent that does not say so itself;
    `longest_call_s`: how long after its beginning a call may still arrive; `window_s`: for how long the API counts it;
    `process`: this one's name; `trust`: by its signs of life, which others see in sync.daemons, if it gives any;
    `uptime`: of this machine, by which a command does not take for fresh what those before it have left.
    """

    __slots__ = (
        "__weakref__", "_beat", "_clock", "_counts_on_s", "_engine", "_has_written", "_process", "_token", "_trust",
        "_uptime", "_watch", "good_for_s", "standing_s",
    )  # fmt: skip

    def __init__(
        self,
        engine: AsyncEngine,
        token: bytes,
        *,
        good_for_s: float,
        longest_call_s: float,
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
        uptime: Callable[[], Uptime | None] = read_uptime,
        process: UUID | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.good_for_s = good_for_s
        self.standing_s = STANDING_S if trust is None else STANDING_OF_REPLICA_S
        self._engine = engine
        self._token = token
        self._clock = clock
        self._uptime = uptime
        self._process = process or uuid4()
        self._trust = trust
        self._beat = secrets.randbits(BEAT_BITS)
        self._has_written = False
        self._counts_on_s = longest_call_s + window_s
        self._watch = ReservationWatch(window_s, good_for_s)

    @property
    def term(self) -> int | None:
        """As `Ledger` says; the same for ever where others see no signs of life."""
        return 0 if self._trust is None else self._trust.term

    def now_s(self) -> float:
        """As `Ledger` says."""
        return now_s()

    async def write(self, decide: Callable[[Others], Entry]) -> None:
        """Write what `decide` makes of the others' reservations, as `Ledger` says."""

        async def write(tx: AsyncConnection) -> None:
            await self._lock(tx)
            if not self._has_written:
                await self._set_aside(tx)
            others, over = self._watch.look(await self._load_others(tx), self._clock())
            await self._save(tx, decide(others))
            if over:
                of_token = reservations.c.token_fingerprint == self._token
                await tx.execute(delete(reservations).where(of_token, reservations.c.process.in_(over)))

        await in_transaction(self._engine, write)
        self._has_written = True

    async def _set_aside(self, tx: AsyncConnection) -> None:
        """Have what another ledger has written in this one's name count as another process's.

        So it is where a connection is paused and resumed: written over, what was called before would be forgotten,
        though the API counts it on.
        """
        mine = (reservations.c.token_fingerprint == self._token, reservations.c.process == self._process)
        await tx.execute(update(reservations).where(*mine).values(process=another_name(self._process)))

    async def _lock(self, tx: AsyncConnection) -> None:
        """Keep all others of the token from writing until the end of the transaction."""
        # A process that is stopped just here, and not killed, would keep them from calling the API for as long.
        bounded = func.set_config("idle_in_transaction_session_timeout", f"{STANDSTILL_S}s", True)
        lock = select(bounded).where(budgets.c.token_fingerprint == self._token).with_for_update(of=budgets)
        if (await tx.execute(lock)).one_or_none() is None:
            await tx.execute(insert(budgets).values(token_fingerprint=self._token).on_conflict_do_nothing())
            await tx.execute(lock)

    async def _load_others(self, tx: AsyncConnection) -> list[Reservation]:
        columns, now = reservations.c, self._uptime()
        statement = (
            select(
                columns.process, columns.beat, columns.reserved, columns.ages_ms, columns.is_waiting,
                columns.counts_for_ms, columns.silent_for_ms, columns.boot, columns.uptime_ms,
                _DAEMONS.c.beat.label("life"),
            )
            .outerjoin_from(reservations, _DAEMONS, _DAEMONS.c.process == columns.process)
            .where(columns.token_fingerprint == self._token, columns.process != self._process)
        )  # fmt: skip
        return [
            Reservation(
                row.process,
                row.beat,
                row.reserved,
                tuple(age_ms / 1000 for age_ms in row.ages_ms),
                row.is_waiting,
                row.counts_for_ms / 1000,
                life=row.life,
                silent_for_s=None if row.silent_for_ms is None else row.silent_for_ms / 1000,
                age_s=now.since_s(Uptime(row.boot, row.uptime_ms)) if now and row.boot else 0.0,
            )
            for row in await tx.execute(statement)
        ]

    async def _save(self, tx: AsyncConnection, entry: Entry) -> None:
        # Never again the same: a row that was deleted and is written anew is news to everybody, and so is one that
        # another ledger has written in the same name, as of a connection that was paused and resumed.
        self._beat += 1
        good_for_s = self.good_for_s if entry.good_for_s is None else entry.good_for_s
        uptime = self._uptime()
        values = {
            "beat": self._beat,
            "reserved": entry.reserved,
            "ages_ms": [min(int(age_s * 1000), OLDEST_MS) for age_s in entry.ages_s],
            "is_waiting": entry.is_waiting,
            "counts_for_ms": int((good_for_s + self._counts_on_s) * 1000) + 1,
            "silent_for_ms": self._trust and int((self._trust.lasts_s + self._counts_on_s) * 1000) + 1,
            "boot": uptime and uptime.boot,
            "uptime_ms": uptime and uptime.ms,
        }
        key = {"token_fingerprint": self._token, "process": self._process}
        statement = insert(reservations).values(**key, **values)
        await tx.execute(statement.on_conflict_do_update(index_elements=[*key], set_=values))


_MAY_WRITE = text(
    "SELECT CASE WHEN has_schema_privilege('sync', 'USAGE') "
    "THEN has_table_privilege('sync.reservations', 'INSERT') ELSE false END"
)
