"""`/healthz`: the process turns; `/readyz`: it has a database, and its pulls get on."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from aiohttp import web
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.api_errors import ApiError
from sync.core.errors import DatabaseError, MigratedFurther
from sync.core.plurals import in_seconds, plural
from sync.postgres.schema_version import current_revision, refuse_other_revision
from sync.service.jobs import Jobs
from sync.service.progress import late_after_s, stands_still_after_s
from sync.service.running import Running
from sync.web.database_look import DatabaseLook

REMEMBERED_S = 2.0
"""However many ask, and however often, the database is asked no more often than that."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be right, and in `detail` how it stands or what is wrong."""

    name: str
    is_ok: bool
    detail: str


def routes(running: Running) -> Iterable[web.RouteDef]:
    """`/healthz` and `/readyz`."""
    health = _Health(running)
    return [web.get("/healthz", health.alive), web.get("/readyz", health.ready)]


class _Health:
    def __init__(self, running: Running) -> None:
        self._running = running
        self._database = DatabaseLook(running.engine, _load_revision, good_for_s=REMEMBERED_S)

    async def alive(self, _request: web.Request) -> web.Response:
        within_s = stands_still_after_s(self._running.settings.sync_push_poll_s)
        if all(jobs.is_moving(within_s) for jobs in self._running.jobs):
            return web.json_response({"status": "alive"})
        try:
            await self._database()
        except DatabaseError:  # a new process would wait for it, too; why it does not answer is not for everybody
            return web.json_response({"status": "alive", "detail": "jobs wait for the database"})
        detail = f"no job was begun within {in_seconds(within_s)}: the process hangs, and is to be started again"
        return web.json_response({"status": "stuck", "detail": detail}, status=503)

    async def ready(self, _request: web.Request) -> web.Response:
        if self._running.stop.is_set():
            checks = [Check("process", is_ok=False, detail="it is stopping")]
        else:
            late_s = late_after_s(self._running.settings.sync_pull_interval_s)
            checks = [await _check_database(self._database), check_progress(self._running.jobs, late_s)]
        is_ready = all(one.is_ok for one in checks)
        found = {"status": "ready" if is_ready else "not ready", "checks": [asdict(one) for one in checks]}
        return web.json_response(found, status=200 if is_ready else 503)


def check_progress(all_jobs: Sequence[Jobs], late_s: float) -> Check:
    """Whether any connection got on within `late_s`. A failing one among several is told, and turns nothing red."""
    ages_s = [(jobs, jobs.progress.age_s()) for jobs in all_jobs]
    late = [(jobs, age_s) for jobs, age_s in ages_s if age_s is None or age_s > late_s]
    if not late:
        return Check("progress", is_ok=True, detail=f"connections that get on: {len(ages_s)}")
    jobs, age_s = late[0]
    told = f"{len(late)} of {plural(len(ages_s), 'connection')} read nothing within {in_seconds(late_s)}"
    return Check(
        "progress",
        is_ok=len(late) < len(ages_s),
        detail=f"{told}; {jobs.connection.name}: {_why(jobs, age_s)}",
    )


def _why(jobs: Jobs, age_s: float | None) -> str:
    if error := next(iter(jobs.health.errors), None):
        return str(error.redacted() if isinstance(error, ApiError) else error)
    return "no pull has read anything yet" if age_s is None else f"the last page was read {age_s:,.0f} s ago"


async def _check_database(look: DatabaseLook[str]) -> Check:
    try:
        return Check("database", is_ok=True, detail=f"at revision {await look()}")
    except DatabaseError as error:
        return Check("database", is_ok=False, detail=str(error))


async def _load_revision(tx: AsyncConnection) -> str:
    """Raises `NotMigrated` where this version cannot work."""
    return await tx.run_sync(_revision)


def _revision(connection: SyncConnection) -> str:
    at = current_revision(connection)
    with suppress(MigratedFurther):  # a process that runs goes on while a newer release migrates
        refuse_other_revision(at)
    return str(at)
