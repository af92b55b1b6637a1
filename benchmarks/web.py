"""What answering costs the daemon: the loop's lag and the time of a backfill, alone and while many clients ask at once.

    .venv/bin/python benchmarks/web.py --codes 200000 --clients 20

Exits 1 if the loop went on more than 50 ms late more often with the clients than without, by more than a hundredth.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import click
import httpx
from prometheus_client.parser import text_string_to_metric_families
from worlds import ACCESS_TOKEN, CLIENT_TOKEN, make_world

from sync.demo.simulator import UNLIMITED, Simulator, World
from sync.postgres.embedded import embedded_postgres
from sync.postgres.migrations import migrate

PATHS = ("/metrics", "/readyz", "/healthz")
PAUSE_S = 0.1
LATE_S = 0.05
MOST_LATE = 0.01


@dataclass(frozen=True, slots=True)
class Run:
    """A backfill: its seconds, how many looks at the loop there were and how many were late, and the answers' times."""

    wall_s: float
    looks: float
    late: float
    answers_s: list[float]


@click.command()
@click.option("--codes", default=200_000, show_default=True)
@click.option("--vouchers", default=200, show_default=True)
@click.option("--clients", default=20, show_default=True, help="Each asks ten times a second.")
def main(codes: int, vouchers: int, clients: int) -> None:
    """Backfill twice: nobody asks, then so many do."""
    world = make_world(codes, vouchers)
    alone, asked = (asyncio.run(_measured(world, count)) for count in (0, clients))
    for name, run in (("alone", alone), (f"{clients} clients", asked)):
        p50, p99 = (quantiles(run.answers_s, n=100)[at] * 1000 for at in (49, 98))
        click.echo(
            f"{name}: backfill {run.wall_s:.1f} s; "
            f"loop over {LATE_S * 1000:g} ms late in {run.late:g} of {run.looks:g} looks; "
            f"{len(run.answers_s)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )
    sys.exit(0 if asked.late / asked.looks <= alone.late / alone.looks + MOST_LATE else 1)


async def _measured(world: World, clients: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-", ignore_cleanup_errors=True) as directory:
        with embedded_postgres(Path(directory)) as url:
            await asyncio.to_thread(migrate, url)
            async with Simulator(world, rate_limit=UNLIMITED).serve() as address:
                return await _backfill(url, address, Path(directory), clients)


async def _backfill(url: str, address: str, directory: Path, clients: int) -> Run:
    settings = {
        "DATABASE_URL": url, "MEWS_PLATFORM_ADDRESS": address, "MEWS_CLIENT_TOKEN": CLIENT_TOKEN,
        "MEWS_ACCESS_TOKEN": ACCESS_TOKEN, "SYNC_RATE_LIMIT_REQUESTS": "1000000", "SYNC_HTTP_BIND": "127.0.0.1:0",
        "SYNC_STATE_DIR": str(directory / "state"), "SYNC_PLATFORM_CALLS_IN_FLIGHT": "1000000",
        "SYNC_PLATFORM_CALLS_PER_S": "1000000",
    }  # fmt: skip
    began_s = time.perf_counter()
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sync", "run",
        env={**os.environ, **settings}, cwd=directory, stdin=DEVNULL, stderr=PIPE, limit=2**20,
    )  # fmt: skip
    assert daemon.stderr is not None  # noqa: S101 - it is piped
    try:
        async for line in daemon.stderr:
            if (told := json.loads(line))["event"] == "http_listening":
                break
        drained = asyncio.create_task(daemon.stderr.read())
        answers_s = list[float]()
        asking = [asyncio.create_task(_ask(told["address"], answers_s)) for _ in range(clients)]
        async with httpx.AsyncClient(base_url=told["address"]) as http:
            while ("voucher_sync_freshness_seconds", ()) not in (values := await _scrape(http, answers_s)):
                await asyncio.sleep(1)
        wall_s = time.perf_counter() - began_s
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        looks = values["voucher_sync_event_loop_lag_seconds_count", ()]
        in_time = values["voucher_sync_event_loop_lag_seconds_bucket", (("le", f"{LATE_S:g}"),)]
        return Run(wall_s, looks, looks - in_time, answers_s)
    finally:
        daemon.terminate()
        await daemon.wait()
        await drained


async def _scrape(
    http: httpx.AsyncClient, answers_s: list[float]
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    began_s = time.perf_counter()
    text = (await http.get("metrics")).text
    answers_s.append(time.perf_counter() - began_s)
    return {
        (sample.name, tuple((k, v) for k, v in sample.labels.items() if k != "connection")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def _ask(address: str, answers_s: list[float]) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=60) as http:
        while True:
            for path in PATHS:
                began_s = time.perf_counter()
                await http.get(path)
                answers_s.append(time.perf_counter() - began_s)
                await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
