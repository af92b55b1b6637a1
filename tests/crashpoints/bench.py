"""One hotel, one database and the lines to both, where one thing after the other goes wrong while changes are made.

Each trial has values of its own, so that all of them share the database. The process of a trial is a real one.
"""

import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

from sync.demo.simulator import Fault, Operation, RequestRecord
from tests.crashpoints.aftermath import Verdict, come_after, judge
from tests.crashpoints.beginnings import begin
from tests.crashpoints.places import Event, Places
from tests.crashpoints.scenes import Change, Scene
from tests.crashpoints.snapshots import Snapshot, put_back, take
from tests.support.loaded import LoadedCommands
from tests.support.mirror import Mirror
from tests.support.process import Ended
from tests.support.proxy import Proxy

FIRST = Scene("what was before", (Change("add"),))
NO_POINT = "none"
VICTIM = "victim"
SETTINGS = {"SYNC_SETTLE_AFTER_S": "0.2", "SYNC_DELETE_BRAKE_MIN": "1000000"}
NO_WAIT = {"SYNC_SETTLE_AFTER_S": "0.01", "SYNC_LEASE_S": "1"}
"""Whoever adopts waits for what was sent last, which is long ago by the API's clock here."""
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
        self._mirror.add_voucher()
        self._mirror.simulator.behaviour.allow_duplicates = True  # what is sent twice is made twice, and shows

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Bench"]:
        """Serves the API and the line to the database, which has been worked with before.

        An add is done already: what was ever made tells how the API is to be read, and the first trial would differ.
        """
        async with self._mirror.opened(), self._proxy.served():
            await self._begin(FIRST)
            await come_after(self._mirror)
            yield self

    async def find_places(self, scene: Scene) -> Places:
        """Where something can go wrong in a scene, found by a run in which nothing does, and by one up to its way."""
        whole = await self._look(scene, NO_POINT)
        first = next(number for number, point in enumerate(whole.points) if scene.way in point)
        read = await self._look(scene, whole.points[first])
        return Places(
            points=tuple(whole.points[first:]),
            calls=tuple(call.operation for call in whole.calls if call.operation),
            calls_before=len(read.calls),
            statements=whole.statements,
            statements_before=read.statements,
            commits=tuple(change.points - first for change in whole.changes),
        )

    async def try_(self, scene: Scene, places: Places, event: Event, place: int) -> Trial:
        """Let this go wrong there, and see how it ends."""
        value = await self._begin(scene)
        faults = places.faults(scene, event, place)
        self._script(faults)
        match event:
            case Event.DEATH:
                is_reached = _died(await self._run(scene, places.points[place]))
            case Event.DEATH_AND_LOSS:
                is_reached = await self._lose(scene, places.points[place], 0)
            case Event.DEATH_AND_LOSSES:
                losses = places.losses[place]
                is_reached = await self._lose(scene, places.points[losses.point], losses.before_last)
            case Event.CALL_LOST | Event.ANSWER_LOST:
                run = await self._run(scene, NO_POINT)
                is_reached = sum(call.fault is not None for call in run.calls) == sum(map(_number, faults.values()))
            case _:
                cuts = self._proxy.cuts
                self._proxy.cut_at(place + 1, is_answered=event is Event.RESULT_LOST)
                await self._run(scene, NO_POINT)
                is_reached = self._proxy.cuts > cuts
        self._mirror.simulator.faults.stop()
        self._proxy.let_be()
        await come_after(self._mirror, scene.adopted)
        return Trial(is_reached, await judge(self._mirror, scene, value))

    async def _lose(self, scene: Scene, last: str, before_last: int) -> bool:
        """Death at a point and the loss of the last commit, and of so many before it; whether there were so many."""
        run = await self._run(scene, last, keeps=True)
        is_reached = _died(run) and len(run.changes) > before_last
        if is_reached:
            await put_back(self._mirror.database_url, run.changes[-1 - before_last].snapshot)
        return is_reached

    async def _look(self, scene: Scene, last: str) -> Run:
        """A run up to a point, with no more faults than the scene has, and the end that it must come to."""
        value = await self._begin(scene)
        self._script({operation: [fault] for operation, fault in scene.faults.items()})
        run = await self._run(scene, last, keeps=True)
        self._mirror.simulator.faults.stop()
        if _died(run) or scene.adopted:
            await come_after(self._mirror, scene.adopted)
        verdict = await judge(self._mirror, scene, value)
        assert verdict.is_good, f"{run.ended}\n{verdict.story}"
        return run

    async def _begin(self, scene: Scene) -> str:
        """Begin a scene; the word by which its values are told from those of others."""
        value = f"CODE-{next(self._numbers)}."
        await begin(self._mirror, scene, value)
        return value

    def _script(self, faults: Mapping[Operation, Iterable[Fault | None]]) -> None:
        for operation, series in faults.items():
            self._mirror.simulator.faults.script(operation, *series)

    async def _run(self, scene: Scene, last: str, *, keeps: bool = False) -> Run:
        """The scene's command up to a point, if it comes to it, until all is over that it has begun.

        What it commits can be lost if `keeps`.
        """
        self._points.unlink(missing_ok=True)
        self._committed = []
        self._proxy.on_commit = self._keep_if_written if keeps else None
        settings = {**self._mirror.environment, **SETTINGS, **(NO_WAIT if scene.adopted else {})}
        settings["DATABASE_URL"] = f"{self._proxy.url}?application_name={VICTIM}"
        calls, statements = len(self._mirror.simulator.requests), self._proxy.statements
        words = (str(self._points), last, *scene.command)
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
