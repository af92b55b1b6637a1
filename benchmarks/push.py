"""The push, measured: the daemon as a process of its own, the simulator over HTTP, a real PostgreSQL.

    .venv/bin/python benchmarks/push.py latency --inserts 500 --rate 50
    .venv/bin/python benchmarks/push.py throughput --rows 100000 --latency 0.2

`latency` is from the commit of a single-row INSERT to the arrival of its request; with a budget so large that it never
waits, since the API's own lets 6.7 requests a second through. `throughput` is with the API's budget. Both exit 1 if a
row is not `done`, the mirror is not equal to the simulator, or a rule of the API was broken.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg

from sync.demo.comparison import compare
from sync.demo.simulator import UNLIMITED, Operation, RateLimit, Simulator, World
from sync.postgres.embedded import embedded_postgres
from sync.postgres.engine import make_engine
from sync.postgres.migrations import migrate

CLIENT_TOKEN, ACCESS_TOKEN = "the-client-token", "the-access-token"
INSERT = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
MAX_BUDGET_RATIO = 1.05


@click.group()
def main() -> None:
    """Measure the push."""


@main.command()
@click.option("--inserts", default=500, show_default=True)
@click.option("--rate", default=50.0, show_default=True, help="Inserts per second.")
def latency(inserts: int, rate: float) -> None:
    """From commit to arrival."""
    _run(lambda world, url: measure_latency(world, url, inserts, rate))


@main.command()
@click.option("--rows", default=100_000, show_default=True)
@click.option("--latency", "latency_s", default=0.2, show_default=True, help="Seconds that the simulator takes.")
def throughput(rows: int, latency_s: float) -> None:
    """One INSERT of many rows, pushed within the API's budget while the mirror goes on pulling."""
    _run(lambda world, url: measure_throughput(world, url, rows, latency_s))


def _run(measure: Callable[[World, str], Coroutine[Any, Any, bool]]) -> None:
    world = World(lambda: datetime.now(UTC), client_token=CLIENT_TOKEN)
    hotel = world.add_enterprise("Hotel")
    world.add_token(ACCESS_TOKEN, name="token", enterprise_ids=[hotel.id])
    world.add_voucher(world.add_service(hotel.id, "Stay").id, "Summer")
    with _database() as url:
        is_good = asyncio.run(measure(world, url))
    sys.exit(0 if is_good else 1)


@contextmanager
def _database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        with embedded_postgres(Path(directory)) as url:
            migrate(url)
            yield url


async def measure_latency(world: World, url: str, inserts: int, rate: float) -> bool:
    """Insert one row at a time and note when the request with its value arrives."""
    simulator = Simulator(world, rate_limit=UNLIMITED)
    arrived: dict[str, float] = {}
    calls = 0

    async def on_request(operation: Operation, body: Any) -> None:
        nonlocal calls
        if operation is Operation.ADD_CODES:
            calls += 1
            arrived.update(dict.fromkeys((one["Value"] for one in body["VoucherCodeParameters"]), time.perf_counter()))

    simulator.on_request = on_request
    (voucher_id,) = world.vouchers
    committed: dict[str, float] = {}
    async with simulator.serve() as address, daemon(url, address, limit=1_000_000):
        await quiet(url, voucher_id)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            rng = random.Random(1)
            for number in range(inserts):
                await connection.execute(f"{INSERT} VALUES ('add', %s, %s)", [voucher_id, f"CODE-{number}"])
                committed[f"CODE-{number}"] = time.perf_counter()
                await asyncio.sleep(rng.expovariate(rate))
        await until_done(url)
    delays_ms = sorted((arrived[value] - committed[value]) * 1000 for value in committed)
    click.echo(
        f"latency of {inserts} inserts at {rate:g}/s, {calls} calls: p50 {statistics.median(delays_ms):.1f} ms, "
        f"p99 {delays_ms[int(len(delays_ms) * 0.99) - 1]:.1f} ms, max {delays_ms[-1]:.1f} ms"
    )
    return await is_right(world, url, simulator)


async def measure_throughput(world: World, url: str, rows: int, latency_s: float) -> bool:
    """Insert all rows at once, and print how long it took until all were done, against the budget's own time."""
    simulator, limit = Simulator(world, latency_s=latency_s), RateLimit()
    (voucher_id,) = world.vouchers
    async with simulator.serve() as address, daemon(url, address, limit=limit.requests) as process:
        await quiet(url, voucher_id)
        began_s = time.perf_counter()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(
                f"{INSERT} SELECT 'add', %s, 'C' || n FROM generate_series(1, %s) AS n", [voucher_id, rows]
            )
        inserted_s = time.perf_counter()
        await until_done(url)
        took_s = time.perf_counter() - inserted_s
        rss_mb = psutil.Process(process.pid).memory_info().rss / 2**20
        of_kind = [record for record in simulator.requests if record.arrived_s >= 0 and record.operation]
        adds = [record for record in of_kind if record.operation is Operation.ADD_CODES]
        refused = sum(record.status == 429 for record in of_kind)
        goal_s = MAX_BUDGET_RATIO * len(adds) * limit.window_s / limit.requests
        click.echo(
            f"{rows:,} rows: INSERT {inserted_s - began_s:.1f} s; pushed in {took_s:.1f} s by {len(adds)} calls "
            f"(goal {goal_s:.1f} s, of which the first {limit.requests} calls need not wait), "
            f"{len(of_kind) - len(adds)} reads meanwhile, {refused} x 429; daemon {rss_mb:.0f} MB at the end"
        )
        await _until_equal(world, url)
    return await is_right(world, url, simulator) and took_s <= goal_s and not refused


@asynccontextmanager
async def daemon(url: str, address: str, *, limit: int, pull_interval_s: int = 5) -> AsyncIterator[Process]:
    settings = {
        "DATABASE_URL": url,
        "MEWS_PLATFORM_ADDRESS": address,
        "MEWS_CLIENT_TOKEN": CLIENT_TOKEN,
        "MEWS_ACCESS_TOKEN": ACCESS_TOKEN,
        "SYNC_RATE_LIMIT_REQUESTS": str(limit),
        "SYNC_PLATFORM_CALLS_IN_FLIGHT": "1000000",
        "SYNC_PLATFORM_CALLS_PER_S": "1000000",
        "SYNC_PULL_INTERVAL_S": str(pull_interval_s),
        "SYNC_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "sync", "run", env={**os.environ, **settings})
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def quiet(url: str, voucher_id: Any) -> None:
    """Wait until the daemon knows the voucher."""
    await until(url, "SELECT count(*) = 1 FROM sync.watermarks WHERE voucher_id = %s", [voucher_id])


async def until_done(url: str) -> None:
    statement = "SELECT count(*) = 0 FROM mews.voucher_code_outbox WHERE status IN ('pending', 'sending', 'uncertain')"
    await until(url, statement, [])


async def until(url: str, statement: str, parameters: list[Any]) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(statement, parameters)).fetchone()
            if row and row[0]:
                return
            await asyncio.sleep(0.05)


async def _until_equal(world: World, url: str) -> None:
    engine = make_engine(url)
    while not (await compare(engine, world.codes_visible_to(ACCESS_TOKEN))).is_equal:
        await asyncio.sleep(1)
    await engine.dispose()


async def is_right(world: World, url: str, simulator: Simulator) -> bool:
    engine = make_engine(url)
    comparison = await compare(engine, world.codes_visible_to(ACCESS_TOKEN))
    await engine.dispose()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await (
            await connection.execute("SELECT status, count(*) FROM mews.voucher_code_outbox GROUP BY 1")
        ).fetchall()
    click.echo(
        f"rows: {dict(rows)}; mirror: {comparison}; {len(simulator.violations)} violations {simulator.violations[:2]}"
    )
    return comparison.is_equal and not simulator.violations and [status for status, _ in rows] == ["done"]


if __name__ == "__main__":
    main()
