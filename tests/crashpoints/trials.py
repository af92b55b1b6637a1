"""Trials by the dozen: everything that can go wrong in a scene, or a sample of it, tried and counted."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.crashpoints.bench import Bench, Trial
from tests.crashpoints.places import Event, Places
from tests.crashpoints.scenes import Scene
from tests.support.loaded import loaded_commands

TRIES = 3
"""A busy machine may take another way than usual, on which a place is not reached; then it is tried again."""
RARELY = 0.01
"""How many may not be reached all the same, or one: as the last statement of a run that had one more than usual."""
MODULE = "tests.crashpoints.victim"


@dataclass(slots=True)
class Tally:
    """What was tried and what came of it; `stories` tell of each trial that is wrong."""

    points: int = 0
    tried: Counter[Event] = field(default_factory=Counter)
    not_reached: int = 0
    doubled: int = 0
    lost: int = 0
    different: int = 0
    stories: list[str] = field(default_factory=list)

    @property
    def reached(self) -> int:
        """How many trials came to where something was to go wrong."""
        return self.tried.total() - self.not_reached

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong, after trials that came to where something was to go wrong."""
        is_tried = self.not_reached <= max(1, RARELY * self.tried.total()) and self.reached > 0
        return is_tried and not (self.doubled or self.lost or self.different)

    def count(self, event: Event, trial: Trial, name: str) -> None:
        """Count one trial."""
        verdict = trial.verdict
        self.tried[event] += 1
        self.not_reached += not trial.is_reached
        self.doubled += verdict.doubled
        self.lost += verdict.lost
        self.different += verdict.different
        if not (trial.is_reached and verdict.is_good):
            wrong = f"{verdict.doubled} doubled, {verdict.lost} lost, {verdict.different} different"
            self.stories.append(f"{name}: {wrong}{'' if trial.is_reached else ', not reached'}\n{verdict.story}")

    def add(self, other: "Tally") -> None:
        """Add what was tried elsewhere in the same scene."""
        self.points = max(self.points, other.points)
        self.tried += other.tried
        for name in ("not_reached", "doubled", "lost", "different", "stories"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@asynccontextmanager
async def open_bench(database_url: str) -> AsyncIterator[Bench]:
    """A bench on a migrated database, with processes to die on it."""
    with loaded_commands(MODULE) as victims, TemporaryDirectory(prefix="voucher-sync-crashpoints-") as directory:
        async with Bench(database_url, victims, Path(directory)).opened() as bench:
            yield bench


async def try_scene(
    bench: Bench, scene: Scene, *, sample: int | None = None, seed: int = 0, share: slice = slice(None)
) -> Tally:
    """Try all that can go wrong in a scene, or `sample` combinations by `seed`; of these a `share`.

    Of a sample, another one is tried in place of one that was not reached.
    """
    places = await bench.find_places(scene)
    combinations = list(places.combinations())
    random.Random(seed).shuffle(combinations)
    tally = Tally(points=len(places.points))
    others = iter([] if sample is None else combinations[sample:])
    left = combinations[:sample][share]
    while left:
        event, place = left.pop(0)
        trial = await _reached(bench, scene, places, event, place)
        tally.count(event, trial, f"{scene.name}: {places.name(event, place)}")
        if not trial.is_reached:
            left += islice(others, 1)
    return tally


async def _reached(bench: Bench, scene: Scene, places: Places, event: Event, place: int) -> Trial:
    left = TRIES
    while True:
        trial = await bench.try_(scene, places, event, place)
        left -= 1
        if trial.is_reached or not trial.verdict.is_good or not left:
            return trial
