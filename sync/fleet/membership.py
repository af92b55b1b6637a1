"""One replica among the others: it shows that it lives, sees who else does, and takes its share of the connections."""

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.incarnation import Incarnation
from sync.connection.tenure import Trust, now_s
from sync.fleet import caught_up, keys, ownership, replicas
from sync.fleet.assignment import Member, Owned, Plan, plan
from sync.fleet.caught_up import CaughtUpBook
from sync.fleet.keys import UnopenedWatch
from sync.fleet.liveness import BEAT_S, DEAD_AFTER_S, MISSED_S, TRUSTED_S, ReplicaWatch, Steadiness
from sync.fleet.ownership import Taken
from sync.fleet.parts import FleetPart
from sync.fleet.replicas import Replica, Seen
from sync.fleet.tokens import TokenBox
from sync.logger import structlog
from sync.postgres.engine import in_transaction

AGAIN_FOR_S = 2.0
"""A beat that the database asks to do again is not tried for long: the next one is due."""
TAKE_AGAIN_S = 0.1
"""What another replica was just taking, or a transaction held, is tried again so soon, and twice as late each time."""

NO_KEYS = TokenBox(())

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Round:
    """What a beat has found: what this replica owns, as of that beat, and what of it it is to give back.

    `look_again_s`: after so many seconds another one may be seen to be dead, or what others got first may have left
    some that is free: either would wait for the next beat.
    `part`: how much of what the fleet may ask of the platform is this replica's. `refused`: why the database does not
    let it have some. `unopened`: what has no owner, since nobody who lives has the keys to it.
    """

    owned: Mapping[str, Owned] = field(default_factory=dict)
    give_back: Collection[str] = ()
    taken: Collection[str] = ()
    members: int = 0
    look_again_s: float = math.inf
    part: float = 0.0
    refused: Mapping[str, str] = field(default_factory=dict)
    unopened: Sequence[str] = ()


class Membership:
    """`takes`: whose tokens this replica has; `box`: its keys to those that are stored.

    `holds_lock`: whether a session of its own keeps its lock. `trust` is what its connections' tenures go by;
    `book` is what it tells of how far they have caught up, by what was read of the database that `incarnation` found.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        replica: Replica,
        takes: Collection[str],
        incarnation: Incarnation,
        box: TokenBox = NO_KEYS,
    ) -> None:
        self.trust = Trust(lasts_s=TRUSTED_S)
        self.holds_lock = False
        self.replica = replica
        self.book = CaughtUpBook(replica.process)
        self.unopened = UnopenedWatch(DEAD_AFTER_S)
        self._me = Member(replica.process, frozenset(takes) | frozenset(box.key_names))
        self._box = box
        self._engine = engine
        self._incarnation = incarnation
        self._watch = ReplicaWatch()
        self._steadiness = Steadiness()
        self._part = FleetPart()
        self._epochs: dict[str, int] = {}
        self._take_again_s = TAKE_AGAIN_S
        self._refused: Set[str] = frozenset()
        self._known: tuple[int | None, Sequence[Owned]] = (None, ())

    def note_lock(self, *, is_held: bool) -> None:
        """Take whether a session of this replica's keeps its lock by now."""
        if is_held != self.holds_lock:
            self.holds_lock = is_held
            self._watch.note_lock(is_held=is_held, now_s=now_s())

    async def beat(self, leaving: Collection[str] = ()) -> Round:
        """Show that this replica lives, and take what is free of its share. Raises `DatabaseError`.

        `leaving`: what it is giving back. It trusts itself from before the first statement on.
        """
        began_s, was_dead, steadiness = 0.0, False, self._steadiness

        async def work(tx: AsyncConnection) -> Round:
            nonlocal began_s, was_dead, steadiness
            began_s = now_s()
            await self._show(tx, self._steadiness)
            owned = await self._load_owned(tx)
            was_dead = any(one.epoch > self._epochs.get(one.name, one.epoch) for one in owned)
            steadiness = self._steadiness.after(began_s, was_dead=was_dead)
            if steadiness.is_owed() != self._steadiness.is_owed():  # before others give back what it would not take
                await self._show(tx, steadiness)
            seen = await replicas.load_seen(tx)
            dead = await self._find_dead(tx, seen, owned)
            mine = self._box.key_names
            alive = [keys.member(one.process, one.takes, mine) for one in seen if one.process not in dead]
            found = plan(self._me, alive, owned, dead, leaving, refused=self._refused)
            taken = await ownership.take(tx, self.replica.process, found.take)
            unopened = self.unopened.observe(owned, dead, began_s)
            return replace(self._round(owned, found, taken, len(alive)), unopened=unopened)

        found = await in_transaction(self._engine, work, again_for_s=AGAIN_FOR_S)
        self.trust.extend(began_s)
        self._steadiness = steadiness
        self._epochs = {name: one.epoch for name, one in found.owned.items()}
        self._note_refused(found)
        return replace(found, part=self._part.after_beat(now_s(), found.members, was_dead=was_dead))

    async def release(self, names: Collection[str]) -> None:
        """Give back connections for which nothing is under way any more. Raises `DatabaseError`."""
        if not names:
            return
        self._epochs = {name: epoch for name, epoch in self._epochs.items() if name not in names}

        async def work(tx: AsyncConnection) -> None:
            await caught_up.write(tx, self.replica.process, page)
            await ownership.release(tx, me=self.replica.process, names=names)
            if is_worked_with:  # else a database that was put back meanwhile would keep what it has lost
                await self._incarnation.confirm(tx)

        async with self.book.writing:
            is_worked_with = self._incarnation.is_worked_with
            self.book.follow(self._incarnation.finding)
            page = self.book.page(leaving=names)
            await in_transaction(self._engine, work)
            self.book.written(page)

    async def begin_to_leave(self) -> None:
        """Note that this replica takes nothing more, so that others take what it gives back. Raises `DatabaseError`."""
        self._me = Member(self.replica.process, frozenset())

        async def work(tx: AsyncConnection) -> None:
            await self._show(tx, self._steadiness)
            await ownership.tell(tx)

        await in_transaction(self._engine, work)

    async def leave(self) -> None:
        """Note that this replica ends. Raises `DatabaseError`."""

        async def work(tx: AsyncConnection) -> None:
            await replicas.note_end(tx, self.replica.process)
            await ownership.tell(tx)

        await in_transaction(self._engine, work)

    async def _show(self, tx: AsyncConnection, steadiness: Steadiness) -> None:
        """That it lives, and what it has; who owes steady beats takes nothing, and shows it so."""
        shown = replace(self._me, takes=frozenset()) if steadiness.is_owed() else self._me
        await replicas.beat(tx, self.replica, shown, holds_lock=self.holds_lock)

    async def _load_owned(self, tx: AsyncConnection) -> Sequence[Owned]:
        """The connections at work, read again only where any has changed: else it is thousands of rows at each beat."""
        version = await ownership.load_version(tx)
        if version != self._known[0]:
            owned = await ownership.load_owned(tx)
            self._known = version, await keys.find_needs(tx, self._box, owned, self._known[1])
        return self._known[1]

    async def _find_dead(self, tx: AsyncConnection, seen: Sequence[Seen], owned: Sequence[Owned]) -> set[UUID]:
        looked_s, me = now_s(), self.replica
        beats: dict[UUID, int | None] = {one.owner: None for one in owned if one.owner is not None}
        beats |= {one.process: one.beat for one in seen}
        beats.pop(me.process, None)
        self._watch.observe(beats, looked_s)
        others = [one for one in seen if one.process != me.process and one.holds_lock]
        silent = self._watch.silent(MISSED_S, looked_s)
        gone = {one.process for one in others if one.is_gone(me.pid_space, me.pid)}
        suspects = {one.process for one in others} & (silent | gone)
        locked = await replicas.load_locked(tx) if suspects else set()
        unlocked = {process for process in suspects if replicas.lock_key(process) not in locked}
        return self._watch.dead(looked_s, unlocked, gone & unlocked)

    def _note_refused(self, found: Round) -> None:
        for name in found.refused.keys() - self._refused:
            log.warning("not_taken", connection=name, error=found.refused[name])
        if refused := self._refused | found.refused.keys():  # of those that are still to be had
            refused &= {one.name for one in self._known[1] if one.name not in found.owned}
        self._refused = refused

    def _round(self, owned: Sequence[Owned], found: Plan, taken: Taken, members: int) -> Round:
        mine = {one.name: one for one in owned if one.owner == self.replica.process}
        new = {
            one.name: Owned(one.name, one.needs, self.replica.process, taken.epochs[one.name], one.version)
            for one in found.take
            if one.name in taken.epochs
        }
        got = len(new) + len(taken.refused)  # what is refused is not to be had by asking again soon
        look_again_s = min(self._watch.missed_in_s(now_s()), self._short_s(len(found.take), got))
        return Round(mine | new, found.give_back, set(new), members, look_again_s, refused=taken.refused)

    def _short_s(self, wanted: int, got: int) -> float:
        """After how many seconds to look for the rest of what was wanted, of which it got so many."""
        if got == wanted:
            self._take_again_s = TAKE_AGAIN_S
            return math.inf
        wait_s = TAKE_AGAIN_S if got else self._take_again_s
        self._take_again_s = min(BEAT_S, 2 * wait_s)
        return wait_s
