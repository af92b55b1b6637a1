"""The status page of a replica that works for many hotels: how soon it answers, and what looking at it costs the loop.

    .venv/bin/python benchmarks/page.py --hotels 1000 --clients 20

First nobody has looked for a while; then so many clients look, each at the whole page once and at its fragment every
five seconds, as a browser does. Exits 1 if the first byte took more than 100 ms, or the loop went on more than 50 ms
late more often with the clients than without, by more than a hundredth.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import quantiles

import click
import httpx
from database import MIGRATED, database
from idle import FIRST_PORT, LATE_S, NAME, Fleet, add_hotel, loop_looks, running, told_of
from worlds import CLIENT_TOKEN

from sync.demo.simulator import Simulator, World

EVERY_S = 5.0
QUIET_S = 15.0
"""So long nobody looks before a first byte is waited for: what the page keeps for those who look is gone by then."""
COLD = 5
GOAL_S = 0.1
MOST_LATE = 0.01


@dataclass(slots=True)
class Answers:
    """Seconds until the first byte and until the last one, and bytes on the wire, of each answer."""

    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    async def ask(self, http: httpx.AsyncClient, path: str) -> None:
        """Take one."""
        began_s = time.perf_counter()
        async with http.stream("GET", path) as answer:
            answer.raise_for_status()
            size, parts = 0, answer.aiter_raw()
            async for part in parts:
                if not size:
                    self.first_s.append(time.perf_counter() - began_s)
                size += len(part)
        self.whole_s.append(time.perf_counter() - began_s)
        self.sizes.append(size)

    def __str__(self) -> str:
        first, whole = (quantiles(one, n=100) for one in (self.first_s, self.whole_s))
        return (
            f"{len(self.sizes)} answers, first byte p50 {first[49] * 1000:.1f} ms, at most "
            f"{max(self.first_s) * 1000:.1f}; whole p50 {whole[49] * 1000:.0f} ms, at most "
            f"{max(self.whole_s) * 1000:.0f}; {max(self.sizes) / 1000:.0f} kB at most"
        )


@click.command()
@click.option("--hotels", default=1000, show_default=True)
@click.option("--clients", default=20, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="How long is looked, and how long nobody does.")
def main(hotels: int, clients: int, seconds: float) -> None:
    """Measure the page."""
    sys.exit(asyncio.run(_measured(hotels, clients, seconds)))


async def _measured(hotels: int, clients: int, seconds: float) -> int:
    async with _at_rest(hotels) as fleet:
        before = await loop_looks(fleet)
        await asyncio.sleep(seconds)
        between = await loop_looks(fleet)
        cold, whole, fragments = Answers(), Answers(), Answers()
        for _ in range(COLD):
            await asyncio.sleep(QUIET_S)
            async with _browser() as http:
                await cold.ask(http, "/")
        began = await loop_looks(fleet)
        await asyncio.gather(*(_look(whole, fragments, seconds, one / clients) for one in range(clients)))
        after = await loop_looks(fleet)
    click.echo(f"{hotels:,} hotels, nobody has looked for {QUIET_S:g} s: {cold}")
    click.echo(f"{clients} clients, page: {whole}")
    click.echo(f"{clients} clients, fragment: {fragments}")
    shares = list[float]()
    for name, (looks, late), (more, more_late) in (("nobody", before, between), (f"{clients} clients", began, after)):
        shares.append((more_late - late) / (more - looks))
        click.echo(f"{name}: loop over {LATE_S * 1000:g} ms late in {more_late - late:g} of {more - looks:g} looks")
    return int(max(cold.first_s + whole.first_s) > GOAL_S or shares[1] > shares[0] + MOST_LATE)


@asynccontextmanager
async def _at_rest(hotels: int) -> AsyncIterator[Fleet]:
    """A replica whose hotels have all caught up."""
    with database(checkpoint_timeout="5min") as server:
        server.make(NAME, MIGRATED)
        world = World(lambda: datetime.now(UTC), client_token=CLIENT_TOKEN)
        tokens = [add_hotel(world, number) for number in range(hotels)]
        async with running(server, Simulator(world, max_records=10_000), tokens, 1, None) as fleet:
            while len(await asyncio.to_thread(told_of, fleet)) < hotels:
                await asyncio.sleep(1)
            yield fleet


async def _look(whole: Answers, fragments: Answers, seconds: float, offset: float) -> None:
    """As a browser does that is open for so long."""
    await asyncio.sleep(offset * EVERY_S)
    async with _browser() as http:
        await whole.ask(http, "/")
        for _ in range(int(seconds / EVERY_S)):
            await asyncio.sleep(EVERY_S)
            await fragments.ask(http, "/fragment")


def _browser() -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{FIRST_PORT}", timeout=60)


if __name__ == "__main__":
    main()
