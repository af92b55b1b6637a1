"""Adopting a database: what a gap holds is looked up in the API, and the rest is released, cancelled or kept."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection import incarnation
from sync.connection.connection import Connection
from sync.connection.gaps import Known
from sync.connection.server_time import server_now
from sync.core.errors import VoucherSyncError
from sync.core.plurals import plural
from sync.mews.limits import MAX_VOUCHERS
from sync.mirror.read_back import read_everything
from sync.mirror.windows import chunks
from sync.outbox import gap, lookups
from sync.outbox.claims import as_daemon
from sync.outbox.gap import Concerned, Left
from sync.outbox.given_up import count_unknown, give_up
from sync.outbox.rules import Row
from sync.postgres.engine import in_transaction
from sync.postgres.identity import load_server_facts
from sync.service.jobs import Jobs

LEFT_OUT = (
    "changes of connections that are paused, removed or without tokens here cannot be looked up: {names}; resume them, "
    "or cancel their changes with `voucher-sync outbox cancel`"
)
NOT_LOOKED_UP = (
    "what became of {changes} from before is not known yet, and will be looked up: run `voucher-sync adopt` again in a "
    "minute"
)
LOOKS = 4
"""One sees what is claimed, the next that those claims are over, and the third what became of them."""
AT_ONCE = 1000
"""Rows of one transaction."""

Pause = Callable[[], Awaitable[None]]


class Rest(StrEnum):
    """What becomes of the rows that the API does not show as done."""

    RELEASE = "release"
    CANCEL = "cancel"
    KEEP = "keep"
    """They stay held, for `voucher-sync outbox release` and `cancel`; so does what is hidden, instead of released."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What was done: how many rows were found `done`, `released` and `cancelled`, and which are `left` held.

    `failed`: those of unknown outcome that could not be looked up, as of a paused connection or a hidden voucher; where
    it is only looked, those that would fail.
    `gap` is what there was to adopt, None where nothing was. Not `adopted`, nothing is sent from a copy still.
    """

    gap: str | None
    adopted: bool = False
    done: int = 0
    released: int = 0
    cancelled: int = 0
    failed: int = 0
    left: Left = field(default_factory=lambda: Left(0, 0))
    errors: list[VoucherSyncError] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Counts for scripts."""
        return asdict(self) | {"errors": [str(error) for error in self.errors]}


async def adopt(
    connection: Connection, jobs: Jobs, rest: Rest | None, pause: Pause, others: Sequence[Jobs] = ()
) -> Adoption:
    """Make the database the one to work with; without `rest` only look what is left. Raises `VoucherSyncError`.

    `others`: the jobs of the other connections. What is held for one that is not among them all could not be looked
    up, so nothing is adopted as long as there is any. Whoever has nothing held is not asked.

    `pause` ends once the API must show whatever was sent before it began: what a lost claim has just added does not
    show at once, and would be released and made twice. It is only asked for where adds are held, or changes may be
    under way: these are looked up first, since what is not done of them is held with the others.

    Ended at any point it can be begun anew: each step leaves the rows where the next run finds them. What somebody has
    locked, another adoption too, is waited for: left out, it would be sent as if it had been looked up.

    Where there is nothing to adopt, what is held still is only looked up.
    """
    engine, everybody = connection.engine, [jobs, *others]
    await connection.incarnation.check(engine)
    known = connection.incarnation.known
    if known is None or known.gap is None:
        return await _look_up_kept(engine, everybody)
    has_waited, errors = await _hold(engine, everybody, known, pause)
    found = Adoption(known.gap, left=await in_transaction(engine, gap.count_held), errors=errors)
    if errors:
        return found
    if found.left.adds and not has_waited:
        await pause()
    readers, errors = await _read_concerned(engine, everybody)
    if readers is None:
        return replace(found, errors=errors)
    done, moved = await _complete_standing(engine, readers), 0
    if rest in (Rest.RELEASE, Rest.CANCEL):
        names = frozenset(one.name for one in readers)
        moved = await _move_left(engine, rest, Concerned(names, is_everybody=len(names) == len(everybody)))
    left = await in_transaction(engine, gap.count_held)
    would_fail = partial(count_unknown, known=known)
    failed = await (_record(connection, known) if rest else in_transaction(engine, would_fail))
    released, cancelled = (moved if rest is one else 0 for one in (Rest.RELEASE, Rest.CANCEL))
    return Adoption(known.gap, rest is not None, done, released, cancelled, failed, left)


async def _look_up_kept(engine: AsyncEngine, everybody: Sequence[Jobs]) -> Adoption:
    """Look up what a gap holds that was closed before, as of a voucher that was hidden then; the rest stays held."""
    found = Adoption(None, adopted=True, left=await in_transaction(engine, gap.count_held))
    if not found.left.total:
        return found
    readers, errors = await _read_concerned(engine, everybody)
    if readers is None:
        return replace(found, errors=errors)
    done = await _complete_standing(engine, readers)
    return replace(found, done=done, left=await in_transaction(engine, gap.count_held))


async def _hold(
    engine: AsyncEngine, everybody: Sequence[Jobs], known: Known, pause: Pause
) -> tuple[bool, list[VoucherSyncError]]:
    """Hold what was queued before the gap, also what is under way or unknown, once it is known not to be done.

    Whether it has waited for that, and why it could not be known.
    """
    count_open = partial(gap.count_open, known=known, names=[one.connection.name for one in everybody])
    await gap.hold_again(engine, known)
    await gap.hold_all_before_gap(engine, known, waits=True)
    looks, errors = 0, list[VoucherSyncError]()
    while count := await in_transaction(engine, count_open):
        if looks == LOOKS:
            errors = [VoucherSyncError(NOT_LOOKED_UP.format(changes=plural(count, "change")))]
            break
        if looks:
            await pause()
        looks += 1
        for one in everybody:
            await one.outbox.look_up()
        await gap.hold_all_before_gap(engine, known, waits=True)
        if errors := [error for one in everybody for error in one.health.errors]:
            break
    return looks > 1, errors


async def _read_concerned(
    engine: AsyncEngine, everybody: Sequence[Jobs]
) -> tuple[list[Connection] | None, list[VoucherSyncError]]:
    """Read all of whom a gap holds rows, until the mirror shows what became of these, and of what was held meanwhile.

    Who was read; None where not all could be, and why.
    """
    by_name, read = {one.connection.name: one for one in everybody}, dict[str, Connection]()
    while True:
        concerned = await in_transaction(engine, gap.load_concerned)
        missing = {name: one for name, one in by_name.items() if concerned.includes(name) and name not in read}
        if not missing:
            break
        unread = [one for one in missing.values() if not await _read_all(one)]
        if unread:
            return None, [error for one in unread for error in one.health.errors]
        read |= {name: one.connection for name, one in missing.items()}
    if left_out := sorted(concerned.names - read.keys()):
        return None, [VoucherSyncError(LEFT_OUT.format(names=", ".join(left_out)))]
    return list(read.values()), []


async def _read_all(jobs: Jobs) -> bool:
    """Whether the mirror now shows everything that the API has."""
    discovered = await jobs.discover()
    pulled = await jobs.pull_turn() if discovered else None
    return bool(pulled and pulled.caught_up)


async def _complete_standing(engine: AsyncEngine, readers: Sequence[Connection]) -> int:
    """Make `done` what the mirror shows, which the readers have just read; how many rows."""
    if not readers:  # there was nothing held
        return 0
    done, after = 0, 0
    unstamped = [
        one
        for one in readers
        if not await in_transaction(engine, partial(lookups.stamps_what_it_adds, connection=one.name))
    ]
    while True:
        rows = await in_transaction(engine, partial(gap.held_rows, after=after, limit=AT_ONCE), as_daemon)
        if not rows:
            return done
        server_utc = await server_now(readers[0])
        for one in unstamped:
            await _read_unstamped(one, rows)

        async def complete(tx: AsyncConnection, since: int = after, server_utc: Any = server_utc) -> int:
            held = await gap.held_rows(tx, since, AT_ONCE)
            return await gap.complete_standing(tx, held, server_utc)

        done += await in_transaction(engine, complete, as_daemon)
        after = rows[-1].id


async def _read_unstamped(connection: Connection, rows: list[Row]) -> None:
    """Read codes that may have no `UpdatedUtc`, and so are in no window of a pull."""
    named = {row.voucher_id for row in rows if row.voucher_id}
    vouchers = await in_transaction(connection.engine, partial(gap.own, connection=connection.name, vouchers=named))
    for some in chunks(vouchers, MAX_VOUCHERS):
        await read_everything(connection, list(some))


async def _move_left(engine: AsyncEngine, rest: Rest, read: Concerned) -> int:
    """Release or cancel what was looked up, of those that were `read`; how many rows. What is held of others since
    stays so.
    """
    count, after = 0, 0
    move = gap.release if rest is Rest.RELEASE else gap.cancel

    async def some(tx: AsyncConnection) -> tuple[int, int]:
        row_ids = [row.id for row in await gap.held_rows(tx, after, AT_ONCE, of=read)]
        unseen = await gap.hidden(tx, row_ids) if rest is Rest.RELEASE else set[int]()
        moved = await move(tx, [row_id for row_id in row_ids if row_id not in unseen])
        return len(moved.ids), max(row_ids, default=0)

    while True:
        moved, last = await in_transaction(engine, some, as_daemon)
        count += moved
        if not last:
            return count
        after = last


async def _record(connection: Connection, gap_known: Known) -> int:
    """Give the database a new name, which no copy of it and no witness of its past has; how many rows are given up."""

    async def record(tx: AsyncConnection) -> int:
        given_up = await give_up(tx, gap_known)
        known = await incarnation.load(tx, lock=True)
        await incarnation.record(tx, known, await load_server_facts(tx))
        return given_up

    given_up = await in_transaction(connection.engine, record, as_daemon)
    connection.incarnation.known = None
    await connection.incarnation.check(connection.engine)
    return given_up
