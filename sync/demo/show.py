"""The demo: everything real but the API, and people who keep changing codes in it."""

import asyncio
import random
import shlex
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.plurals import plural
from sync.demo.comparison import Comparison, compare
from sync.demo.daemon_process import running_daemon
from sync.demo.marketing import Marketing
from sync.demo.simulator import Demo, OtherUsers, Simulator, World, demo_world
from sync.postgres.embedded import embedded_postgres, forget_libpq_variables, psql_path, temporary_directory
from sync.postgres.engine import make_engine, transaction
from sync.postgres.migrations import migrate
from sync.service.status import words
from sync.service.status.facts import ConnectionStatus
from sync.service.status.load import load_status
from sync.service.stopping import is_hang_up_heeded

SEED = 2027
CHANGE_EVERY_S = 0.25
QUEUE_EVERY_S = 1.5
LOOK_EVERY_S = 2.0
CATCH_UP_S = 60.0
QUICK = {"SYNC_PULL_INTERVAL_S": "1", "SYNC_DISCOVERY_INTERVAL_S": "3", "SYNC_OVERLAP_S": "60"}
"""What a demo has not the patience for; within the API's budget even so."""
LOGS = {"SYNC_LOG_FORMAT": "console", "SYNC_LOG_LEVEL": "warning"}
LIVE = {
    "MEWS_PLATFORM_ADDRESS": "https://api.mews-demo.com",
    # The vendor publishes these two for anyone's tests.
    "MEWS_CLIENT_TOKEN": "E0D439EE522F44368DC78E1BFB03710C-D24FB11DBE31D4621C4817E028D9E1D",
    "MEWS_ACCESS_TOKEN": "C66EF7B239D24632943D115EDE9CB810-EA00F8FD8294692C940F6B5A8F9453D",
}

PAGE_PORT = 8321
TRY_NEXT = """
Ask it something:
  SELECT enterprise_name, voucher_name, count(*) FROM mews.active_voucher_codes GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10;
  SELECT voucher_name, mirrored_from, complete_through, lag_seconds FROM mews.coverage LIMIT 10;
  SELECT value, is_active, updated_utc, mirrored_at FROM mews.voucher_codes ORDER BY mirrored_at DESC LIMIT 10;

Send something the other way: queue a code, and see what became of it:
  INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
    SELECT 'add', id, 'MY-FIRST-CODE' FROM mews.vouchers WHERE is_active LIMIT 1;
  SELECT value, status, finished_at - created_at AS took FROM mews.voucher_code_outbox ORDER BY id DESC LIMIT 5;

Try to break it: kill -9 the daemon's process, and see that nothing is lost. Ctrl-C ends the demo.
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A directory of the demo's own, gone afterwards, and the migrated database in it."""

    directory: Path
    database_url: str


@contextmanager
def stage() -> Iterator[Stage]:
    """The embedded PostgreSQL in a temporary directory."""
    with temporary_directory("voucher-sync-demo-") as directory:
        click.echo(f"Starting PostgreSQL in {directory} ...")
        forget_libpq_variables()
        with embedded_postgres(directory) as url:
            migrate(url)
            yield Stage(directory, url)


async def show_simulated(stage: Stage, seconds: float | None, is_read: Callable[[], bool]) -> bool:
    """The daemon against the simulator until Ctrl-C, or for `seconds`; whether the mirror was equal in the end.

    `is_read`: whether somebody still reads what is printed; when nobody does, it ends as after Ctrl-C.
    """
    demo = demo_world(lambda: datetime.now(UTC), SEED)
    world, others = demo.world, OtherUsers(demo.world, SEED)
    stop = _stop_signal()
    say = _Narrator(is_read, stop)

    async with Simulator(world, max_records=1000).serve() as address, _opened(stage.database_url) as engine:
        settings = _settings(stage, demo, address)
        _introduce(world, address)
        _explain(stage, settings["SYNC_HTTP_BIND"])
        marketing = Marketing(engine)

        async def look() -> Comparison:
            return await compare(engine, world.codes_visible_to(demo.portfolio_token))

        changes: list[str] = []

        async def change() -> None:
            changes.append(others.step())

        async def report() -> None:
            comparison = await look()
            last = changes[-1] if changes else "none"
            say(f"{plural(len(changes), 'change')} by the hotels' people, the last: {last}")
            say(f"  API -> mirror: {comparison.on_the_way()}")
            say(f"  outbox -> API: {(await marketing.told())[0]}")

        async with running_daemon(settings | QUICK | LOGS, stage.directory, say) as daemon:
            actions = {CHANGE_EVERY_S: change, QUEUE_EVERY_S: marketing.step, LOOK_EVERY_S: report}
            await _until(stop, seconds, daemon, actions)
            say("nobody changes anything now; waiting until both sides have it all ...")
            comparison = await _caught_up(look, marketing, daemon)
            say(f"  outbox -> API: {(await marketing.told())[0]}")
    click.echo(f"\nMirror and simulator compared row by row: {comparison}.")
    return comparison.is_equal


def _settings(stage: Stage, demo: Demo, address: str) -> dict[str, str]:
    """What the daemon of a simulated show is started with."""
    return {
        "DATABASE_URL": stage.database_url,
        "MEWS_PLATFORM_ADDRESS": address,
        "MEWS_CLIENT_TOKEN": demo.client_token,
        "MEWS_ACCESS_TOKEN": demo.portfolio_token,
        "SYNC_HTTP_BIND": _page_address(),
    }


def _introduce(world: World, address: str) -> None:
    click.echo(
        f"Simulating the Mews API at {address}:\n"
        f"  {plural(len(world.enterprises), 'hotel')} seen by one portfolio token, "
        f"{plural(len(world.vouchers), 'voucher')}, {plural(len(world.codes.truth), 'code')} of 3 years; "
        "their people change some all the time.\n"
        f"  Some services cannot carry vouchers, as in the field: the daemon warns of them once and skips them."
    )


async def show_live(stage: Stage, seconds: float | None, is_read: Callable[[], bool]) -> bool:
    """The daemon against the vendor's public demo environment; whether it had caught up in the end."""
    stop = _stop_signal()
    say = _Narrator(is_read, stop)
    click.echo(f"Pulling from the vendor's public demo environment, {LIVE['MEWS_PLATFORM_ADDRESS']}.")
    address = _page_address()
    _explain(stage, address)
    status: list[ConnectionStatus] = []

    async def report() -> None:
        async with transaction(engine) as tx:
            status[:] = await load_status(tx)
        for one in status:
            of = plural(one.mirror.vouchers, "voucher")
            say(f"codes in the mirror: {words.codes(one.mirror)}, of {of}; {one.error or one.state}")

    async with _opened(stage.database_url) as engine:
        settings = {"DATABASE_URL": stage.database_url, "SYNC_HTTP_BIND": address, **LIVE, **LOGS}
        async with running_daemon(settings, stage.directory, say) as daemon:
            await _until(stop, seconds, daemon, {LOOK_EVERY_S: report})
        await report()
    return bool(status) and all(one.state == "ok" and one.mirror.open_windows == 0 for one in status)


class _Narrator:
    """Prints what happens, each line with the seconds since the start; sets `stop` where nobody reads it any more."""

    def __init__(self, is_read: Callable[[], bool], stop: asyncio.Event) -> None:
        self._started_s = time.monotonic()
        self._is_read = is_read
        self._stop = stop

    def __call__(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self._started_s:6.1f} s  {text}")
        if not self._is_read():
            self._stop.set()


def _explain(stage: Stage, page_address: str) -> None:
    command = shlex.join([str(psql_path()), stage.database_url])
    is_usual = page_address.endswith(f":{PAGE_PORT}")
    elsewhere = "" if is_usual else f"  (at its usual port, {PAGE_PORT}, something else listens)"
    click.echo(f"\nSee how it is doing: http://{page_address}/{elsewhere}")
    click.echo(f"\nQuery the mirror from another terminal:\n  {command}")
    click.echo(TRY_NEXT)


def _page_address() -> str:
    """Where the status page is to be: at its usual port, unless another daemon is there."""
    for port in (PAGE_PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{probe.getsockname()[1]}"
    return ""


def _stop_signal() -> asyncio.Event:
    """Set by the first Ctrl-C or SIGTERM, or by its terminal's end; a second one cancels the demo."""
    stop, loop, main = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and main is not None:
            main.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    if is_hang_up_heeded():
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    return stop


@asynccontextmanager
async def _opened(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database_url)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _until(
    stop: asyncio.Event,
    seconds: float | None,
    daemon: asyncio.Task[None],
    actions: Mapping[float, Callable[[], Awaitable[object]]],
) -> None:
    """Act at these intervals until told to stop, until time is up, or until the daemon cannot be kept up."""

    async def act(every_s: float, action: Callable[[], Awaitable[object]]) -> None:
        rng = random.Random(every_s)
        while True:
            await asyncio.sleep(rng.uniform(0.5, 1.5) * every_s)
            await action()

    acting = [asyncio.create_task(act(every_s, action)) for every_s, action in actions.items()]
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([*acting, stopping, daemon], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in (*acting, stopping):
        task.cancel()
    await asyncio.gather(*acting, stopping, return_exceptions=True)
    for task in done:
        task.result()


async def _caught_up(
    look: Callable[[], Awaitable[Comparison]], marketing: Marketing, daemon: asyncio.Task[None]
) -> Comparison:
    """The first comparison without a difference once all that was queued is made, or the last before patience ends."""
    deadline = time.monotonic() + CATCH_UP_S
    while True:
        _, is_all_made = await marketing.told()
        comparison = await look()
        if (is_all_made and comparison.is_equal) or time.monotonic() > deadline:
            return comparison
        done, _ = await asyncio.wait([daemon], timeout=0.5)
        for task in done:
            task.result()
