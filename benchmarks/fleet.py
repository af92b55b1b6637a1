"""A fleet under kills, measured: replicas as processes, the simulator over HTTP, a real PostgreSQL, on one machine.

    .venv/bin/python benchmarks/fleet.py --hotels 20 --repeats 3
    .venv/bin/python benchmarks/fleet.py --only killed --only paused

Hotels are pulled every two seconds, so that 'pulled again' tells when a successor has begun. With root each replica has
a host name of its own: of a process on its own machine a survivor sees at once that it is gone. Adds are queued all
along; whatever is sent twice is added twice, and shows. Exits 1 where a goal is missed.
"""

import asyncio
import math
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import fleet_neighbours as neighbours
import fleet_scenes as scenes
from fleet_figures import Figure, percentiles, spread
from fleet_world import Bench, bench

from sync.demo.simulator import RateLimit
from sync.postgres.migrations import migrate
from tests.support.physical import physical_server, stepped_server
from tests.support.postgres import new_database

REPLICAS = 3
INTERVAL_S = 2.0
AWAY_S = 60.0


@dataclass(frozen=True, slots=True)
class Death:
    """A way for a replica to fall silent, and how many seconds a hotel may wait: half of them, 99 of 100, and all."""

    told: str
    scene: scenes.Scene
    p50_s: float = math.inf
    p99_s: float = math.inf
    most_s: float = math.inf

    @property
    def goal(self) -> str:
        """In words."""
        limits = {"p50": self.p50_s, "p99": self.p99_s, "max": self.most_s}
        return ", ".join(f"{name} <= {limit:g} s" for name, limit in limits.items() if limit < math.inf)


DEATHS = {
    "killed": Death("kill -9", scenes.killed, p50_s=4, p99_s=12),
    "paused": Death("SIGSTOP", scenes.paused, most_s=15),
    "reset": Death("lines to the database cut", scenes.reset, most_s=15),
    "held": Death("way to the database lost", scenes.held, most_s=15),
    "stopped": Death("clean stop", scenes.stopped, most_s=1),
}
CUT_OFF = {"reset", "held"}
RESTARTED, AWAY, BUDGET, NEIGHBOURS = "restarted", "away", "budget", "neighbours"
SCENES = (*DEATHS, RESTARTED, AWAY, BUDGET, NEIGHBOURS)
ALL = "200"
"""Of a budget's calls, none is kept back."""
BUSY_HOTELS = 3
"""So few, since each is to spend all of its budget."""


@click.command()
@click.option("--hotels", default=60, show_default=True)
@click.option("--repeats", default=20, show_default=True, help="Of each death.")
@click.option("--kills", default=200, show_default=True, help="Of replicas that spend a budget.")
@click.option("--only", multiple=True, type=click.Choice(SCENES), help="Leave out the rest.")
def main(hotels: int, repeats: int, kills: int, only: tuple[str, ...]) -> None:
    """Play each scene and print the table."""
    figures: list[Figure] = []
    apart = {BUDGET: partial(_spend, kills), NEIGHBOURS: partial(_annoy, hotels)}
    for name in only or SCENES:
        play = apart.get(name, partial(_play, name, hotels, repeats))
        for figure in asyncio.run(play()):
            click.echo(f"{figure.name}: {figure.measured}", err=True)
            figures.append(figure)
    click.echo(f"| {hotels} hotels, {REPLICAS} replicas, an interval of {INTERVAL_S:g} s | goal | measured |")
    click.echo("| --- | --- | --- |")
    for figure in figures:
        missed = "" if figure.is_met else " **missed**"
        click.echo(f"| {figure.name} | {figure.goal} | {figure.measured}{missed} |")
    sys.exit(0 if all(figure.is_met for figure in figures) else 1)


async def _play(name: str, hotels: int, repeats: int) -> list[Figure]:
    """One scene on a world of its own, while adds are queued."""
    async with _world(hotels, INTERVAL_S) as on:
        for _ in range(REPLICAS):
            await on.begin(is_cut_off=name in CUT_OFF)
        await on.shared()
        producer = scenes.Producer(on)
        found = await _measure(on, name, repeats)
        queued, doubled, lost = await producer.end()
        defects = on.told("defect")
    told = f"{queued:,} adds: {doubled} doubled, {lost} lost, {defects} defects told"
    return [*found, Figure("adds queued meanwhile", "0 doubled, 0 lost", told, not (doubled or lost or defects))]


async def _annoy(hotels: int) -> list[Figure]:
    """Neighbours make noise, for whom the same replica works as for the others; the API keeps its budget."""
    async with _world(hotels, neighbours.INTERVAL_S, rate_limit=RateLimit()) as on:
        await on.begin(SYNC_RATE_LIMIT_REQUESTS=ALL)
        await on.shared()
        return await neighbours.Neighbours(on).annoy()


@asynccontextmanager
async def _world(hotels: int, interval_s: float, **simulator: Any) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-") as directory:
        with physical_server() as server, new_database(server.url) as url:
            await asyncio.to_thread(migrate, url)
            async with bench(server, url, Path(directory), hotels=hotels, interval_s=interval_s, **simulator) as on:
                yield on


async def _spend(kills: int) -> list[Figure]:
    """Kills while each hotel spends all of its budget, and the database's clock is stepped."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-bench-") as directory, stepped_server() as (server, clock):
        with new_database(server) as url:
            await asyncio.to_thread(migrate, url)
            busy = bench(None, url, Path(directory), hotels=BUSY_HOTELS, interval_s=INTERVAL_S, rate_limit=RateLimit())
            async with busy as on:
                for _ in range(REPLICAS):
                    await on.begin(SYNC_RATE_LIMIT_REQUESTS=ALL)
                await on.shared()
                producer = scenes.Producer(on)
                calls, over = await scenes.over_budget(on, clock, kills)
                queued, doubled, lost = await producer.end()
    told = f"{over} of {calls:,} calls; {queued:,} adds: {doubled} doubled, {lost} lost"
    figure = f"over 200 calls in 30 s, {kills} kills, database's clock +- 1 h"
    return [Figure(figure, "0", told, not (over or doubled or lost))]


async def _measure(on: Bench, name: str, repeats: int) -> list[Figure]:
    if name in DEATHS:
        return _death(DEATHS[name], await scenes.lateness(on, DEATHS[name].scene, repeats), repeats)
    if name == RESTARTED:
        late_s = await scenes.rolling_restart(on)
        return [Figure("rolling restart", "no hotel more than 5 s late", f"{late_s:.1f} s late at most", late_s <= 5)]
    late, ended = await scenes.database_away(on, AWAY_S)
    told = f"{spread(late.seconds)}; {ended} ended"
    is_met = max(late.seconds) <= 15 and not ended
    return [Figure(f"database away for {AWAY_S:g} s", "max <= 15 s, no process ends", told, is_met)]


def _death(death: Death, found: scenes.Lateness, repeats: int) -> list[Figure]:
    p50_s, p99_s, most_s = percentiles(found.seconds)
    is_met = p50_s <= death.p50_s and p99_s <= death.p99_s and most_s <= death.most_s
    zombies = len(found.zombie_writes)
    return [
        Figure(f"{death.told}, {repeats} times: pulled again", death.goal, spread(found.seconds), is_met),
        Figure("writes of what another has taken", "0", f"{zombies}", not zombies),
    ]


if __name__ == "__main__":
    main()
