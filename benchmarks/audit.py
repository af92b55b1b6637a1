"""An audit of a large voucher, measured: `voucher-sync audit --repair` as a process of its own, real PostgreSQL.

    .venv/bin/python benchmarks/audit.py --codes 1000000 --vouchers 1
    .venv/bin/python benchmarks/audit.py --codes 100000 --vouchers 1500 --planted 0 --latency-ms 50 --within-budget

Plants drift of every kind first, which an audit reads twice, by calls of its own. Exits 1 unless all of it was found
and mended, memory stayed flat, and no transaction that writes was open for longer than a second.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import click
import psycopg
from measures import MEASURED
from worlds import ACCESS_TOKEN, CLIENT_TOKEN, make_world

from sync.demo.comparison import compare
from sync.demo.simulator import UNLIMITED, RateLimit, Simulator, World
from sync.postgres.embedded import embedded_postgres
from sync.postgres.engine import make_engine
from sync.postgres.migrations import migrate
from sync.postgres.urls import libpq_url

SAMPLE_S = 0.02
MAX_RSS_MB = 200
MAX_WRITE_S = 1.0
OPEN_WRITES = (
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity "
    "WHERE application_name = 'voucher-sync' AND backend_xid IS NOT NULL"
)
PLANTED = {
    "differing": (
        "UPDATE mews.voucher_codes SET value = value || '!', updated_utc = now() WHERE id IN "
        "(SELECT id FROM mews.voucher_codes ORDER BY id LIMIT :n)"
    ),
    "only_there": (
        "DELETE FROM mews.voucher_codes WHERE id IN (SELECT id FROM mews.voucher_codes ORDER BY id DESC LIMIT :n)"
    ),
    "only_here": (
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) "
        "SELECT gen_random_uuid(), voucher_id, 'INVENTED', true, 'default' FROM mews.voucher_codes LIMIT :n"
    ),
}


@click.command()
@click.option("--codes", default=1_000_000, show_default=True)
@click.option("--vouchers", default=1, show_default=True)
@click.option("--planted", type=int, help="Codes of each kind of drift.  [default: one in a hundred]")
@click.option("--latency-ms", default=0, show_default=True, help="What a call of the audit takes.")
@click.option("--within-budget", is_flag=True, help="The audit has the API's 200 calls in 30 s.")
def main(codes: int, vouchers: int, planted: int | None, latency_ms: int, *, within_budget: bool) -> None:
    """Mirror, plant drift, audit, compare."""
    world = make_world(codes, vouchers)
    limit = RateLimit() if within_budget else UNLIMITED
    api = Simulator(world, latency_s=latency_ms / 1000, rate_limit=limit)
    planted = codes // 100 if planted is None else planted
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        with embedded_postgres(Path(directory)) as url:
            migrate(url)
            is_good = asyncio.run(measure(world, api, limit, url, planted))
    sys.exit(0 if is_good else 1)


async def measure(world: World, api: Simulator, limit: RateLimit, url: str, planted: int) -> bool:
    """Print what an audit by `api`, within its `limit`, took; whether it was right, flat and never long in writing."""
    environment = {
        "DATABASE_URL": url,
        "MEWS_CLIENT_TOKEN": CLIENT_TOKEN,
        "MEWS_ACCESS_TOKEN": ACCESS_TOKEN,
        "SYNC_PLATFORM_CALLS_IN_FLIGHT": "1000000",
        "SYNC_PLATFORM_CALLS_PER_S": "1000000",
    }
    async with Simulator(world, rate_limit=UNLIMITED).serve() as address:
        environment["MEWS_PLATFORM_ADDRESS"] = address
        await command({**environment, "SYNC_RATE_LIMIT_REQUESTS": str(UNLIMITED.requests)}, "once")
    plant(url, planted)
    environment["SYNC_RATE_LIMIT_REQUESTS"] = str(limit.requests)
    async with api.serve(port=int(address.rpartition(":")[2])):  # by another address it would be another API
        watching = asyncio.create_task(longest_write_s(url))
        figures, summary = await command(environment, "audit", "--repair", "--json")
        watching.cancel()
        longest_s = (await asyncio.gather(watching, return_exceptions=True))[0]
    engine = make_engine(url)
    comparison = await compare(engine, world.codes_visible_to(ACCESS_TOKEN))
    await engine.dispose()
    click.echo(
        f"audit: {figures['wall_s']:.1f} s wall, {figures['cpu_s']:.1f} s CPU, {figures['rss_mb']:.0f} MB peak RSS, "
        f"{len(api.requests)} requests; longest write transaction {longest_s:.2f} s\n"
        f"  planted {planted} of each kind; drift {summary['drift']}, repaired {summary['repaired']}\n"
        f"mirror: {comparison} (the invented rows are called missing); {len(api.violations)} violations"
    )
    is_mended = summary["drift"] == summary["repaired"] == 3 * planted
    is_equal = comparison.differing == comparison.only_there == 0 and comparison.only_here == planted
    return is_mended and is_equal and figures["rss_mb"] < MAX_RSS_MB and longest_s < MAX_WRITE_S


def plant(url: str, count: int) -> None:
    """Drift of every kind, `count` rows each, some time after the pull."""
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        for statement in PLANTED.values():
            connection.execute(statement.replace(":n", str(count)).encode())
        connection.execute("DELETE FROM sync.reservations")  # else it waits until the pull's calls count no more


async def longest_write_s(url: str) -> float:
    """Until it is cancelled, watches how long transactions that have written are open."""
    longest_s = 0.0
    async with await psycopg.AsyncConnection.connect(libpq_url(url), autocommit=True) as connection:
        try:
            while True:
                row = await (await connection.execute(OPEN_WRITES.encode())).fetchone()
                longest_s = max(longest_s, float(row[0]) if row else 0.0)
                await asyncio.sleep(SAMPLE_S)
        except asyncio.CancelledError:
            return longest_s


async def command(environment: dict[str, str], *words: str) -> tuple[dict[str, float], dict[str, int]]:
    """Runs a command to its end: what it took, and the JSON that it printed."""
    with tempfile.NamedTemporaryFile(prefix="voucher-sync-bench-") as took:
        process = await asyncio.create_subprocess_exec(
            sys.executable, MEASURED, took.name, sys.executable, "-m", "sync", *words,
            env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        return json.load(took), json.loads(output) if "--json" in words else {}


if __name__ == "__main__":
    main()
