"""One hotel, one database and the lines to both, where one thing after the other goes wrong while changes are made.

Each trial has values of its own, so that all of them share the database. The process of a trial is a real one.
"""

import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

from sqlalchemy import text

from sync.demo.simulator import Fault, Operation, RequestRecord
from sync.postgres.engine import transaction
from tests.crashpoints.aftermath import Verdict, come_after, judge
from tests.crashpoints.places import Event, Places
from tests.crashpoints.scenes import Scene
from tests.crashpoints.snapshots import Snapshot, put_back, take
from tests.support.loaded import LoadedCommands
from tests.support.mirror import Mirror
from tests.support.process import Ended
from tests.support.proxy import Proxy

WAY = "service/outbox_worker.py"
"""Where the way of a change begins: with the first point in this file. What was before only reads."""
NO_POINT = "none"
VICTIM = "victim"
A_MOMENT = 1e-4
"""Days; a pull does not see what the API made in the very same second."""
SETTINGS = {"SYNC_SETTLE_AFTER_S": "0.2", "SYNC_DELETE_BRAKE_MIN": "1000000"}
QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, voucher_code_id, note)
VALUES (:operation, :voucher, :value, :code, :note)
"""
SESSIONS = "SELECT FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"
WRITES = f"{SESSIONS} AND backend_xid IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Committed:
    """What was committed before a certain commit, to which the process came after so many points."""

    points: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Run:
    """What a process did: the points that it came to, the calls and the number of statements that came of it.

    `committed` is what stood before each commit that may have changed anything, and in the end.
    """

    ended: Ended
    points: list[str]
    calls: list[RequestRecord]
    statements: int
    committed: list[Committed]

    @property
    def changes(self) -> list[Committed]:
        """What stood before each commit that has changed anything."""
        return [before for before, after in pairwise(self.committed) if before.snapshot != after.snapshot]


@dataclass(frozen=True, slots=True)
class Trial:
    """How it ended. `is_reached`: whether the process came to where it was to go wrong."""

    is_reached: bool
    verdict: Verdict


class Bench:
    """To be `opened` before anything is tried."""

    def __init__(self, database_url: str, victims: LoadedCommands, directory: Path) -> None:
        self._mirror = Mirror(database_url)
        self._proxy = Proxy(database_url)
        self._victims = victims
        self._points = directory / "points"
        self._directory = directory
        self._numbers = count(1)
        self._committed: list[Committed] = []
        self._voucher = self._mirror.add_voucher()
        self._mirror.simulator.behaviour.allow_duplicates = True  # what is sent twice is made twice, and shows

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Bench"]:
        """Serves the API and the line to the database, which has been worked with before."""
        async with self._mirror.opened(), self._proxy.served():
            await come_after(self._mirror)
            yield self

    async def find_places(self, scene: Scene) -> Places:
        """Where something can go wrong in a scene, found by a run in which nothing does, and by one up to its way."""
        whole = await self._look(scene, NO_POINT)
        first = next(number for number, point in enumerate(whole.points) if WAY in point)
        read = await self._look(scene, whole.points[first])
        return Places(
            points=tuple(whole.points[first:]),
            calls=tuple(call.operation for call in whole.calls if call.operation),
            calls_before=len(read.calls),
            statements=whole.statements,
            statements_before=read.statements,
            written_from=max(0, whole.changes[0].points - first),
        )

    async def try_(self, scene: Scene, places: Places, event: Event, place: int) -> Trial:
        """Let this go wrong there, and see how it ends."""
        value = await self._queue(scene)
        faults = places.faults(scene, event, place)
        self._script(faults)
        match event:
            case Event.DEATH:
                is_reached = _died(await self._run(places.points[place]))
            case Event.DEATH_AND_LOSS:
                run = await self._run(places.points[place], keeps=True)
                is_reached = _died(run) and bool(run.changes)
                if is_reached:
                    await put_back(self._mirror.database_url, run.changes[-1].snapshot)
            case Event.CALL_LOST | Event.ANSWER_LOST:
                run = await self._run(NO_POINT)
                is_reached = sum(call.fault is not None for call in run.calls) == sum(map(_number, faults.values()))
            case _:
                cuts = self._proxy.cuts
                self._proxy.cut_at(place + 1, is_answered=event is Event.RESULT_LOST)
                await self._run(NO_POINT)
                is_reached = self._proxy.cuts > cuts
        self._mirror.simulator.faults.stop()
        self._proxy.let_be()
        await come_after(self._mirror)
        return Trial(is_reached, await judge(self._mirror, scene, value))

    async def _look(self, scene: Scene, last: str) -> Run:
        """A run up to a point, with no more faults than the scene has, and the end that it must come to."""
        value = await self._queue(scene)
        self._script({operation: [fault] for operation, fault in scene.faults.items()})
        run = await self._run(last, keeps=True)
        self._mirror.simulator.faults.stop()
        if _died(run):
            await come_after(self._mirror)
        verdict = await judge(self._mirror, scene, value)
        assert verdict.is_good, f"{run.ended}\n{verdict.story}"
        return run

    async def _queue(self, scene: Scene) -> str:
        """Queue a scene's changes, all at once; the word by which its values are told from those of others."""
        value, mirror = f"CODE-{next(self._numbers)}.", self._mirror
        codes = {one: mirror.add_codes(self._voucher, [value + one], days_old=A_MOMENT)[0].id for one in scene.standing}
        mirror.simulator.behaviour.refused_values = {value + one for one in scene.refused}
        if any(one.by_id for one in scene.changes):
            await mirror.once()  # a code that nobody knows cannot be deleted by its id
        async with transaction(mirror.connection.engine) as tx:
            for one in scene.changes:
                code = {"voucher": self._voucher.id, "value": value + one.suffix, "code": None}
                by_id = {"voucher": None, "value": None, "code": codes.get(one.suffix)}
                given = {"operation": one.operation, "note": value, **(by_id if one.by_id else code)}
                await tx.execute(text(QUEUE), given)
        return value

    def _script(self, faults: Mapping[Operation, Iterable[Fault | None]]) -> None:
        for operation, series in faults.items():
            self._mirror.simulator.faults.script(operation, *series)

    async def _run(self, last: str, *, keeps: bool = False) -> Run:
        """`once` up to a point, if it comes to it, until all is over that it has begun; what it commits can be lost if
        `keeps`.
        """
        self._points.unlink(missing_ok=True)
        self._committed = []
        self._proxy.on_commit = self._keep_if_written if keeps else None
        settings = {**self._mirror.environment, **SETTINGS}
        settings["DATABASE_URL"] = f"{self._proxy.url}?application_name={VICTIM}"
        calls, statements = len(self._mirror.simulator.requests), self._proxy.statements
        words = (str(self._points), last, "once")
        ended = await self._victims.run(*words, settings=settings, directory=self._directory)
        assert "Traceback" not in ended.stderr, ended.stderr
        while await self._mirror.rows(SESSIONS, name=VICTIM):
            await self._mirror.rows("SELECT pg_sleep(0.005)")
        if keeps:
            await self._keep()
        called = list(self._mirror.simulator.requests)[calls:]
        return Run(ended, self._points_so_far(), called, self._proxy.statements - statements, self._committed)

    async def _keep_if_written(self) -> None:
        """Keep what is committed, if the commit that comes now may add to it."""
        if await self._mirror.rows(WRITES, name=VICTIM):
            await self._keep()

    async def _keep(self) -> None:
        self._committed.append(Committed(len(self._points_so_far()), await take(self._mirror.database_url)))

    def _points_so_far(self) -> list[str]:
        return self._points.read_text(encoding="utf-8").splitlines()


def _died(run: Run) -> bool:
    return run.ended.code == -signal.SIGKILL


def _number(faults: Iterable[Fault | None]) -> int:
    return sum(one is not None for one in faults)
