"""What the history of codes costs: a first backfill, 1,000 changes and a pull with nothing new, with it and without.

    .venv/bin/python benchmarks/history.py --codes 1000000 --rounds 5

In turns, since one run after the other takes longer. Exits 1 if it costs the backfill more than a tenth of its median.
"""

import asyncio
import sys
from dataclasses import replace
from statistics import median

import click
from contenders import OURS
from database import Database, database
from works import Workload, session, world_of

WITH, WITHOUT = "with", "without"
WAYS = (
    replace(OURS, name=WITH),
    replace(OURS, name=WITHOUT, command=("env", "SYNC_HISTORY=off", *OURS.command)),
)
MOST = 0.1
Figures = dict[str, float | str]


@click.command()
@click.option("--codes", default=1_000_000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(codes: int, rounds: int) -> None:
    """Measure it."""
    work = Workload("history", f"{codes:,} codes", codes, 200, rounds, contenders=WAYS, follows=True)
    with database() as server:
        sys.exit(asyncio.run(_measured(work, server)))


async def _measured(work: Workload, server: Database) -> int:
    taken: dict[str, dict[str, list[Figures]]] = {}
    for number in range(work.rounds):
        for way in work.contenders[:: 1 if number % 2 else -1]:
            async with world_of(work) as served:  # the same codes for both: one's changes are not the other's
                async for step, figures in session(work, way, server, served):
                    taken.setdefault(step, {}).setdefault(way.name, []).append(figures)
    for step, of_ways in taken.items():
        for name, runs in of_ways.items():
            click.echo(f"{step}, {name}: {_spread(runs)}")
    first = next(iter(taken.values()))
    cost = _median(first[WITH], "wall_s") / _median(first[WITHOUT], "wall_s") - 1
    click.echo(f"it costs the backfill {cost:.1%}")
    return int(cost > MOST)


def _median(runs: list[Figures], name: str) -> float:
    return median(float(one[name]) for one in runs)


def _spread(runs: list[Figures]) -> str:
    wall_s, wal_mb = ([float(one[name]) for one in runs] for name in ("wall_s", "wal_mb"))
    mirrors = {str(one["mirror"]) for one in runs if one["mirror"]}
    return (
        f"{median(wall_s):.2f} s ({min(wall_s):.2f} to {max(wall_s):.2f}), {median(wal_mb):.3f} MB of WAL, "
        f"mirror {', '.join(sorted(mirrors))}"
    )


if __name__ == "__main__":
    main()
