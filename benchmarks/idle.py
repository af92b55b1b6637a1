"""What hotels cost in which nothing happens: the simulator, a PostgreSQL and replicas with so many of them.

    .venv/bin/python benchmarks/idle.py --hotels 200 --minutes 1.5

Each hotel is a connection of its own, with its own token and 20 vouchers. What is measured begins once all of them have
caught up, each has its first sample for the charts, and another interval has passed. Exits 1 if a hotel was told to be
fresher than it was, or a rule of the API was broken.
"""

import asyncio
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

import click
import httpx
import psutil
from cryptography.fernet import Fernet
from database import MIGRATED, Database, database
from prometheus_client.parser import text_string_to_metric_families
from worlds import CLIENT_TOKEN

from sync.demo.simulator import Operation, RequestRecord, Simulator, World

VOUCHERS = 20
INTERVAL_S = 60
NAME = "idle"
EVERY_S = 10.0
"""How often freshness is looked at: that costs the server as much as some hotels do."""
LATE_S = 0.05
LAG = "voucher_sync_event_loop_lag_seconds"
TOLERANCE_S = 0.5
"""An answer is noted here a little after it was decided what it says."""
FIRST_PORT = 18_321
SECONDS_A_DAY = 86_400
TOLD = """
SELECT name, extract(epoch FROM caught_up_as_of)::float8 FROM sync.connection_freshness
WHERE caught_up_as_of IS NOT NULL
"""
SAMPLED = "SELECT count(DISTINCT connection) FROM sync.samples"
TRANSACTIONS = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'idle'"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'idle' AND backend_type = 'client backend'"


@dataclass(slots=True)
class Spent:
    """What has been used so far: processor seconds, log and requests."""

    at_s: float
    replicas_s: float
    database_s: float
    wal_bytes: int
    transactions: int
    requests: int


@dataclass(frozen=True, slots=True)
class Window:
    """What was used between two looks."""

    before: Spent
    after: Spent

    def __getattr__(self, name: str) -> float:
        return float(getattr(self.after, name) - getattr(self.before, name))


@dataclass(slots=True)
class Seen:
    """Ages in seconds of what was last read of each hotel, at each look; `too_fresh`: told to be less than it was.

    Before the looks and after them: `rss_mb`, first of replicas that nobody has scraped, and `lag`.
    """

    told_s: list[float] = field(default_factory=list)
    true_s: list[float] = field(default_factory=list)
    too_fresh: int = 0
    sessions: int = 0
    rss_mb: list[float] = field(default_factory=list)
    lag: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Fleet:
    """All that runs. `read_at`: when each hotel's codes were last asked for, by its name."""

    server: Database
    simulator: Simulator
    replicas: list[psutil.Process]
    ports: list[int]
    read_at: dict[str, float]
    asked: Counter[str]


@click.command()
@click.option("--hotels", default=200, show_default=True)
@click.option("--minutes", default=1.5, show_default=True, help="How long is measured.")
@click.option("--replicas", default=1, show_default=True)
@click.option("--profile", type=click.Path(path_type=Path), help="Where the first replica writes what cProfile saw.")
def main(hotels: int, minutes: float, replicas: int, profile: Path | None) -> None:
    """Measure idle hotels."""
    with database(checkpoint_timeout="5min") as server:
        server.make(NAME, MIGRATED)
        sys.exit(asyncio.run(_measured(server, hotels, minutes * 60, replicas, profile)))


async def _measured(server: Database, hotels: int, seconds: float, replicas: int, profile: Path | None) -> int:
    world = World(lambda: datetime.now(UTC), client_token=CLIENT_TOKEN)
    tokens = [add_hotel(world, number) for number in range(hotels)]
    simulator = Simulator(world, max_records=10_000)
    async with running(server, simulator, tokens, replicas, profile) as fleet:
        began_s = time.monotonic()
        while len(fleet.read_at) < hotels or len(told_of(fleet)) < hotels:
            await asyncio.sleep(0.5)
        began_s = time.monotonic() - began_s
        while await asyncio.to_thread(_only, fleet, SAMPLED) < hotels:  # that alone is written for each
            await asyncio.sleep(EVERY_S)
        await asyncio.sleep(INTERVAL_S)
        server.come_to_rest()
        seen = Seen(rss_mb=[_rss_mb(fleet)], lag=[await loop_looks(fleet)])
        before = await _spent(fleet)
        while time.monotonic() < before.at_s + seconds:
            await asyncio.sleep(EVERY_S)
            await asyncio.to_thread(_look, fleet, seen)
        after = await _spent(fleet)
        seen.lag.append(await loop_looks(fleet))
        seen.rss_mb.append(_rss_mb(fleet))
        _tell(fleet, began_s, Window(before, after), seen)
        faults = [f"{count} looks told of a hotel as fresher than it was" for count in [seen.too_fresh] if count]
        for fault in [*faults, *simulator.violations[:3]]:
            click.echo(fault)
        return 1 if faults or simulator.violations else 0


def add_hotel(world: World, number: int) -> str:
    began = world.now() - timedelta(days=30)
    hotel = world.add_enterprise(f"Hotel {number}")
    world.add_token(token := f"{number:016X}" * 4, name=_name(number), enterprise_ids=[hotel.id])
    service = world.add_service(hotel.id, "Stay")
    for voucher in range(VOUCHERS):
        world.add_voucher(service.id, f"Voucher {voucher}", created_utc=began)
    return token


def _name(number: int) -> str:
    return f"hotel-{number:05}"


@asynccontextmanager
async def running(
    server: Database, simulator: Simulator, tokens: list[str], replicas: int, profile: Path | None
) -> AsyncIterator[Fleet]:
    read_at, asked = dict[str, float](), Counter[str]()

    async def on_answer(record: RequestRecord) -> None:
        asked[str(record.operation)] += 1
        if record.operation is Operation.GET_CODES and record.token is not None:
            read_at[record.token] = time.time()

    simulator.on_answer = on_answer
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voucher-sync-bench-")))
        address = await stack.enter_async_context(simulator.serve())
        settings = {
            **os.environ, "DATABASE_URL": server.url(NAME), "MEWS_PLATFORM_ADDRESS": address,
            "MEWS_CLIENT_TOKEN": CLIENT_TOKEN, "SYNC_SECRET_KEY": Fernet.generate_key().decode(),
            "SYNC_PULL_INTERVAL_S": str(INTERVAL_S), "SYNC_STATE_DIR": str(directory / "state"),
            "SYNC_LOG_LEVEL": "warning",
        }  # fmt: skip
        await _import(settings, directory / "hotels.csv", tokens)
        ports = [FIRST_PORT + number for number in range(replicas)]
        started = list[psutil.Process]()
        for port in ports:
            how = ["-m", "cProfile", "-o", str(profile)] if profile and not started else []
            process = await asyncio.create_subprocess_exec(
                sys.executable, *how, "-m", "sync", "run", stdin=DEVNULL,
                env=settings | {"SYNC_HTTP_BIND": f"127.0.0.1:{port}"},
            )  # fmt: skip
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            started.append(psutil.Process(process.pid))
        yield Fleet(server, simulator, started, ports, read_at, asked)


async def _import(settings: dict[str, str], file: Path, tokens: list[str]) -> None:
    lines = [f"{_name(number)},{token}" for number, token in enumerate(tokens)]
    await asyncio.to_thread(file.write_text, "\n".join(["name,access_token", *lines]), encoding="utf-8")
    command = [sys.executable, "-m", "sync", "connections", "import", str(file)]
    process = await asyncio.create_subprocess_exec(*command, env=settings, stdin=DEVNULL, stdout=DEVNULL)
    if await process.wait():
        raise SystemExit("the hotels could not be added")


def told_of(fleet: Fleet) -> dict[str, float]:
    with fleet.server.session(NAME) as session:
        return dict(session.execute(TOLD.encode()).fetchall())


def _look(fleet: Fleet, seen: Seen) -> None:
    told, now = told_of(fleet), time.time()
    for name, as_of in told.items():
        seen.told_s.append(now - as_of)
        seen.true_s.append(now - fleet.read_at[name])
        seen.too_fresh += as_of > fleet.read_at[name] + TOLERANCE_S
    seen.sessions = max(seen.sessions, (_only(fleet, SESSIONS) - 1) // len(fleet.replicas))


def _only(fleet: Fleet, query: str) -> int:
    with fleet.server.session(NAME) as session:
        (found,) = session.execute(query.encode()).fetchone() or (0,)
        return int(found)


async def _spent(fleet: Fleet) -> Spent:
    times = [one.cpu_times() for one in fleet.replicas]
    return Spent(
        time.monotonic(),
        sum(one.user + one.system for one in times),
        fleet.server.cpu_s(),
        fleet.server.wal_bytes(),
        await asyncio.to_thread(_only, fleet, TRANSACTIONS),
        fleet.asked.total(),
    )


def _rss_mb(fleet: Fleet) -> float:
    return sum(float(one.memory_info().rss) for one in fleet.replicas) / 2**20


async def loop_looks(fleet: Fleet) -> tuple[float, float]:
    """How often replicas have looked how late their loops are, and how often one was, by a scrape of each."""
    looks = late = 0.0
    async with httpx.AsyncClient(timeout=60) as http:
        for port in fleet.ports:
            scraped = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
            # Of the rest there are a hundred lines a hotel: to parse them would stop the simulator for seconds.
            values = _values("".join(line for line in scraped.splitlines(keepends=True) if LAG in line))
            count = values[f"{LAG}_count", ""]
            looks += count
            late += count - values[f"{LAG}_bucket", f"{LATE_S:g}"]
    return looks, late


def _values(text: str) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, sample.labels.get("le", "")): sample.value for family in families for sample in family.samples
    }


def _tell(fleet: Fleet, began_s: float, used: Window, seen: Seen) -> None:
    hotels, took_s = len(fleet.read_at), used.at_s
    looks, late = (after - before for before, after in zip(*seen.lag, strict=True))
    a_day = SECONDS_A_DAY / took_s / hotels
    rows = {
        "hotels, replicas": f"{hotels:,}, {len(fleet.replicas)}",
        "until all had caught up": f"{began_s:.1f} s",
        "requests per hotel and minute": f"{used.requests / hotels / took_s * 60:.2f}",
        "freshness as told, p50 / p99 / max": _percentiles(seen.told_s),
        "since the API was last asked, p50 / p99 / max": _percentiles(seen.true_s),
        "replicas": f"{used.replicas_s / took_s:.3f} cores, {seen.rss_mb[0]:.0f} MB, {seen.rss_mb[1]:.0f} once "
        f"scraped, {seen.sessions} sessions each",
        "database": f"{used.database_s / took_s:.3f} cores, "
        f"{used.transactions / hotels / took_s * 60:.2f} transactions per hotel and minute",
        "processor time per hotel and day": f"{used.replicas_s * a_day:.2f} s replica, {used.database_s * a_day:.2f} s "
        "database",
        "WAL per hotel": f"{used.wal_bytes / hotels / took_s * 60:.1f} bytes a minute, "
        f"{used.wal_bytes * a_day / 1000:.0f} kB a day",
        f"loop over {LATE_S * 1000:g} ms late": f"{late:g} of {looks:g} looks",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"| {name:<{width}} | {value}")


def _percentiles(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100)
    return f"{cuts[49]:.1f} / {cuts[98]:.1f} / {max(seconds):.1f} s"


if __name__ == "__main__":
    main()
