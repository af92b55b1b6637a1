"""The process: signals, and what systemd wants to know."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.connection.tables import CONNECTIONS_CHANNEL
from sync.core.cron import Cron
from sync.core.errors import DatabaseError, DatabaseUnavailable, MigratedFurther, Unsuitable
from sync.fleet.assignment import ENVIRONMENT, STORED
from sync.fleet.membership import Membership
from sync.fleet.replicas import lock_key
from sync.fleet.tokens import TokenBox
from sync.logger import structlog
from sync.mews.client_settings import RetryPolicy
from sync.postgres.engine import make_engine, transaction
from sync.postgres.listen import Listener, listen
from sync.postgres.urls import full_address
from sync.service import app
from sync.service.app import Workplace
from sync.service.at_work import Intervals
from sync.service.defects import outlived
from sync.service.jobs import Jobs
from sync.service.progress import stands_still_after_s
from sync.service.running import Running
from sync.service.schedule import Schedule
from sync.service.stopping import stop_on
from sync.service.supervisor import Supervisor
from sync.settings import Settings
from sync.signals import Signal

HEARTBEATS_PER_LEASE = 3
"""Two may be missed before a daemon counts as silent."""
ALIVE = "WATCHDOG=1"
LEAST_PAUSE_S = 0.1
"""Between two of these: what asks for more is a slip, and would keep a core busy."""
REVIVE_AFTER_S = 2.0
SESSIONS_FOR_BEATS = 3
"""With fewer, beats go by the sessions of the work."""
FIRST_LOOK_S = 5.0
"""A database that does not answer within this time holds up no start."""
TOLD_AT_ONCE = RetryPolicy(waits_for_platform=False)
"""Jobs that would wait for a platform that answers nobody keep no slots; they are made up for once it does."""
SERVERS_TRIED_S = 2.0
"""A server that has neither listened nor told why not by then, as of a name that nobody resolves, holds up no start."""
SUPERVISOR_S = 1.0
"""A supervisor that reads nothing any more, whose socket is full, is waited for so long, and never with `ALIVE`."""
LISTENS_FIRST_S = 2.0
"""What listens has so long to take its session before the jobs take theirs, which may be all there are."""

log = structlog.get_logger()


Beside = Callable[[Running], Mapping[str, Coroutine[Any, Any, None]]]
"""What runs beside the jobs until they end, by name, given what the daemon works on."""


async def run(
    settings: Settings,
    database_url: str,
    revive: Callable[[], None] | None = None,
    beside: Beside = lambda running: {},
) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP; a second one, but for SIGHUP, cancels whatever is still going on.

    `revive` starts a database again that nobody else looks after; called while there is none. What runs `beside` is
    cancelled once the jobs have ended.
    """
    stop = Signal()
    stop_on((signal.SIGTERM, signal.SIGINT), stop, partial(notify_systemd, "STOPPING=1"))
    async with _opened(settings, database_url, stop) as (place, beats):
        await _refuse_useless_database(place.engine)
        member = _membership(settings, place, beats)
        rng = Random()  # noqa: S311 - spreads runs and retries
        schedule = Schedule(Cron(settings.sync_audit_cron), rng, _intervals(settings))
        supervisor = Supervisor(place, member, schedule, settings.sync_lease_s / HEARTBEATS_PER_LEASE)
        log.info("started", process=str(place.process), platform_address=settings.mews_platform_address)
        moving = partial(schedule.timetable.is_moving, stands_still_after_s(settings.sync_push_poll_s))
        is_tried, address = asyncio.Event(), full_address(database_url)
        running = Running(settings, place.engine, supervisor.jobs, stop, datetime.now(UTC), place.pools, address)
        all_beside = {
            "systemd": _tell_systemd(running, moving),
            "listen": listen(settings.listen_url or database_url, _listener(supervisor, member), is_tried),
            **({} if revive is None else {"revive": _keep_alive(revive, supervisor.jobs)}),
            **beside(running),
        }
        tasks = [asyncio.create_task(_told(name, one)) for name, one in all_beside.items()]
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(is_tried.wait(), LISTENS_FIRST_S)
            with schedule.running():
                await supervisor.run(stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    log.info("stopped")


@asynccontextmanager
async def _opened(settings: Settings, database_url: str, stop: Signal) -> AsyncIterator[tuple[Workplace, AsyncEngine]]:
    """What all connections share, and the engine that this replica beats by.

    Beats have a session of their own where there are enough: behind the work of thousands they would come late.
    """
    sessions = settings.sync_database_pool
    if sessions < SESSIONS_FOR_BEATS:
        async with app.open_workplace(settings, database_url, stop, TOLD_AT_ONCE) as place:
            yield place, place.engine
        return
    beats = make_engine(database_url, 1, is_unattended=True)
    try:
        async with app.open_workplace(settings, database_url, stop, TOLD_AT_ONCE, sessions=sessions - 1) as place:
            yield place, beats
    finally:
        await beats.dispose()


def _membership(settings: Settings, place: Workplace, beats: AsyncEngine) -> Membership:
    """This process as one of the replicas, with the tokens and the keys that it has."""
    replica, keys = app.describe_replica(place.process, settings), TokenBox(settings.secret_keys)
    return Membership(beats, replica, _takes(settings), place.incarnation, keys)


def _takes(settings: Settings) -> set[str]:
    """Whose tokens this process has."""
    own = {ENVIRONMENT} if settings.mews_access_token is not None else set()
    return own | ({STORED} if settings.secret_keys else set())


def _listener(supervisor: Supervisor, member: Membership) -> Listener:
    """Whom notifications wake, and who is told whether others would hear this process die."""

    def on_lock(is_held: bool) -> None:
        member.note_lock(is_held=is_held)

    return Listener(
        supervisor.wake_outboxes,
        {CONNECTIONS_CHANNEL: supervisor.wake.set},
        lock_key(member.replica.process),
        on_lock,
    )


def _intervals(settings: Settings) -> Intervals:
    """How often each job runs."""
    return Intervals(
        pull_s=settings.sync_pull_interval_s,
        discovery_s=settings.sync_discovery_interval_s,
        push_poll_s=settings.sync_push_poll_s,
    )


async def _refuse_useless_database(engine: AsyncEngine) -> None:
    """Raise `MigratedFurther` or `Unsuitable`; what else is wrong, as a database that is away, passes by itself."""
    try:
        async with asyncio.timeout(FIRST_LOOK_S), transaction(engine):
            pass
    except (MigratedFurther, Unsuitable):
        raise
    except (DatabaseError, TimeoutError) as error:
        log.debug("not_ready", error=str(error) or "no answer yet")  # the jobs tell of it


def notify_systemd(state: str) -> None:
    """Send one line of the sd_notify protocol, when a supervisor listens (sd_notify(3)).

    One that does not is none: a variable that another program's supervisor has left must not end this one.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            notifications.settimeout(0 if state == ALIVE else SUPERVISOR_S)
            # A leading @ stands for the NUL byte of an abstract socket's name.
            notifications.connect("\0" + address[1:] if address.startswith("@") else address)
            notifications.sendall(state.encode())
    except OSError as error:
        tell = log.debug if state == ALIVE else log.warning  # that would be told for ever
        tell("not_notified", state=state, why=f"NOTIFY_SOCKET leads to nobody who takes it: {error.strerror or error}")


async def _told(name: str, beside: Awaitable[None]) -> None:
    """Tell of a fault of ours in what runs beside the jobs, since nobody waits for its end."""
    with outlived(name):
        await beside


async def _tell_systemd(running: Running, is_moving: Callable[[], bool]) -> None:
    """That it is ready, once what follows it may reach its servers; and then that it goes on."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SERVERS_TRIED_S):
            for tried in running.servers_tried:
                await tried.wait()
    if not running.stop.is_set():
        notify_systemd("READY=1")
    await _feed_watchdog(is_moving)


async def _feed_watchdog(is_moving: Callable[[], bool]) -> None:
    """Tell systemd, twice in its watchdog's time, that jobs are still begun; nothing while they are not.

    A loop that turns proves too little: it turned while a scheduler waited for a wall clock that had been put back.
    """
    watchdog_us = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return  # it is another process's, and only inherited (sd_watchdog_enabled(3))
    if watchdog_us and not (watchdog_us.isdecimal() and len(watchdog_us) < 20 and int(watchdog_us)):
        log.warning("no_watchdog", why="WATCHDOG_USEC is no number of microseconds")
        return
    while watchdog_us:
        if is_moving():
            notify_systemd(ALIVE)
        await asyncio.sleep(max(int(watchdog_us) / 2_000_000, LEAST_PAUSE_S))


async def _keep_alive(revive: Callable[[], None], all_jobs: Sequence[Jobs]) -> None:
    """Start the database again where it has died."""
    while True:
        await asyncio.sleep(REVIVE_AFTER_S)
        if any(isinstance(error, DatabaseUnavailable) for jobs in all_jobs for error in jobs.health.errors):
            try:
                await asyncio.to_thread(revive)
            except DatabaseUnavailable as error:
                log.debug("not_revived", error=str(error))
