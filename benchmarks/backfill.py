"""A backfill by `voucher-sync once`, measured: a process of its own, the simulator over HTTP, a real PostgreSQL.

    .venv/bin/python benchmarks/backfill.py --codes 200000 --vouchers 200
    .venv/bin/python benchmarks/backfill.py --codes 400000 --vouchers 200 --latency 0.2 --budget

Exits 1 unless the mirror is equal to the simulator, row by row, no rule of the API was broken, and the goals are met.
"""

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click
from worlds import ACCESS_TOKEN, CLIENT_TOKEN, make_world

from sync.demo.comparison import Comparison, compare
from sync.demo.simulator import UNLIMITED, RateLimit, Simulator, World
from sync.postgres.embedded import embedded_postgres
from sync.postgres.engine import make_engine
from sync.postgres.migrations import migrate

MEASURED = str(Path(__file__).with_name("measured.py"))
BUDGET = RateLimit()
MAX_RSS_MB = 200
MAX_BUDGET_RATIO = 1.05


@dataclass(frozen=True, slots=True)
class Run:
    """One `once`: its summary, wall and processor time, peak resident memory, and what the simulator saw of it."""

    summary: dict[str, object]
    wall_s: float
    cpu_s: float
    rss_mb: float
    requests: int
    statuses: Counter[int | None]


@click.command()
@click.option("--codes", default=200_000, show_default=True)
@click.option("--vouchers", default=200, show_default=True)
@click.option("--latency", default=0.0, show_default=True, help="Seconds that the simulator takes for each call.")
@click.option(
    "--budget", "is_limited", is_flag=True, help="With the API's budget, and its goal: 1.05 x N x 30/200 seconds."
)
def main(codes: int, vouchers: int, latency: float, is_limited: bool) -> None:
    """Backfill, then look again."""
    world = make_world(codes, vouchers)
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        with embedded_postgres(Path(directory)) as url:
            migrate(url)
            is_good = asyncio.run(measure(world, url, latency, is_limited))
    sys.exit(0 if is_good else 1)


async def measure(world: World, url: str, latency_s: float, is_limited: bool) -> bool:
    """Run `once` twice and print what it took; whether all goals were met."""
    limit = BUDGET if is_limited else UNLIMITED
    simulator = Simulator(world, latency_s=latency_s, rate_limit=limit)
    engine = make_engine(url)
    async with simulator.serve() as address:
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "MEWS_PLATFORM_ADDRESS": address,
            "MEWS_CLIENT_TOKEN": CLIENT_TOKEN,
            "MEWS_ACCESS_TOKEN": ACCESS_TOKEN,
            "SYNC_RATE_LIMIT_REQUESTS": str(limit.requests),
            "SYNC_PLATFORM_CALLS_IN_FLIGHT": "1000000",
            "SYNC_PLATFORM_CALLS_PER_S": "1000000",
        }
        first = await once(simulator, environment)
        second = await once(simulator, environment)
    comparison = await compare(engine, world.codes_visible_to(ACCESS_TOKEN))
    await engine.dispose()
    report("backfill", first)
    report("a second once", second)
    click.echo(f"simulator: {len(simulator.violations)} violations {simulator.violations[:3]}")
    click.echo(f"mirror: {comparison}")
    return is_good(first, comparison, simulator) and is_in_budget(first, limit)


async def once(simulator: Simulator, environment: dict[str, str]) -> Run:
    """One run of the command."""
    before = len(simulator.requests)
    with tempfile.NamedTemporaryFile(prefix="voucher-sync-bench-") as took:
        command = (MEASURED, took.name, sys.executable, "-m", "sync", "once", "--json")
        process = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stdout=PIPE)
        output, _ = await process.communicate()
        figures = json.load(took)
    new = list(simulator.requests)[before:]
    return Run(json.loads(output), **figures, requests=len(new), statuses=Counter(record.status for record in new))


def report(name: str, run: Run) -> None:
    """Print one run."""
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(run.statuses.items(), key=str))
    click.echo(
        f"{name}: {run.wall_s:.1f} s wall, {run.cpu_s:.1f} s CPU, {run.rss_mb:.0f} MB peak RSS, "
        f"{run.requests} requests ({answers})\n  {json.dumps(run.summary)}"
    )


def is_good(run: Run, comparison: Comparison, simulator: Simulator) -> bool:
    """Whether it is right, and its memory flat."""
    return comparison.is_equal and not simulator.violations and run.rss_mb < MAX_RSS_MB


def is_in_budget(run: Run, limit: RateLimit) -> bool:
    """Whether it used up the API's budget, and no more; prints the goal."""
    if limit is not BUDGET:
        return True
    goal_s = MAX_BUDGET_RATIO * run.requests * limit.window_s / limit.requests
    click.echo(f"budget: {run.requests} requests in {run.wall_s:.1f} s; the goal is at most {goal_s:.1f} s, and no 429")
    return run.wall_s <= goal_s and not run.statuses[429]


if __name__ == "__main__":
    main()
