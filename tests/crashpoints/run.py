"""`python -m tests.crashpoints.run`: every point of each scene, and everything that can go wrong there."""

import asyncio
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import click
import structlog

from sync.postgres.migrations import migrate
from tests.crashpoints.scenes import SCENES
from tests.crashpoints.trials import Tally, open_bench, try_scene
from tests.support.postgres import database_of, new_database, postgres_server

SHARES = 2
"""Jobs of each scene, so that nobody is idle at the end."""


@click.command()
@click.option("--at-once", default=2, show_default=True, help="How many are tried at the same time.")
@click.option(
    "--from",
    "first",
    type=click.IntRange(0, len(SCENES) - 1),
    default=0,
    show_default=True,
    help="Begin with this scene, counted from 0.",
)
@click.option("--sample", type=click.IntRange(min=1), help="Try only so many combinations of each scene.")
@click.option("--seed", default=0, show_default=True, help="Which ones.")
def main(at_once: int, first: int, sample: int | None, seed: int) -> None:
    """Try it all, tell of each scene, and exit with 1 unless nothing is doubled, lost or different."""
    began_s, total, points = time.monotonic(), Tally(), 0
    scenes = range(first, len(SCENES))
    with postgres_server() as server, new_database(server) as template:
        migrate(template)
        with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
            jobs = [
                [pool.submit(_try, Job(server, database_of(template), *which, sample, seed)) for which in shares]
                for shares in ([(scene, share) for share in range(SHARES)] for scene in scenes)
            ]
            for number, shares in zip(scenes, jobs, strict=True):
                scene, tally = SCENES[number], Tally()
                for share in shares:
                    tally.add(share.result())
                _tell(f"{number} {scene.name}: {tally.points} points", tally)
                click.echo("".join(f"{story}\n" for story in tally.stories), nl=False)
                total.add(tally)
                points += tally.points
    for event, number in total.tried.items():
        click.echo(f"{number:>6} times {event.value}")
    _tell(f"In {time.monotonic() - began_s:.0f} s {points} points", total)
    sys.exit(0 if total.is_good else 1)


def _tell(what: str, tally: Tally) -> None:
    wrong = f"{tally.doubled} doubled, {tally.lost} lost, {tally.different} different, {tally.not_reached} not reached"
    click.echo(f"{what}, {tally.tried.total()} combinations: {wrong}")


@dataclass(frozen=True, slots=True)
class Job:
    """A share of a scene, both by number, for a database of its own."""

    server_url: str
    template: str
    scene: int
    share: int
    sample: int | None
    seed: int


def _try(job: Job) -> Tally:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    async def try_share(url: str) -> Tally:
        async with open_bench(url) as bench:
            share = slice(job.share, None, SHARES)
            return await try_scene(bench, SCENES[job.scene], sample=job.sample, seed=job.seed, share=share)

    with new_database(job.server_url, template=job.template) as url:
        return asyncio.run(try_share(url))


if __name__ == "__main__":
    main()
