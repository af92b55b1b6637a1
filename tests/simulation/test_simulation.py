"""Whatever happens, in any order: once everything has come to rest the mirror is equal, and each change was made once.

`make soak` does this for SOAK_MINUTES; SOAK_SEED is where its seeds begin. A seed stands for what happens; when exactly
a process is killed or a line cut is up to the machine too.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.simulation.machine import Machine
from tests.support.postgres import new_database

MINUTES = float(os.environ.get("SOAK_MINUTES", "0"))
FIRST_SEED = int(os.environ.get("SOAK_SEED", "1"))
WORKERS = int(os.environ.get("SOAK_WORKERS", "2"))
EXAMPLES = 2
"""Of each seed; the first example is always the simplest there is."""
SAMPLE_STEPS, LONG_STEPS, SOAK_STEPS = 4, 40, 25
"""In `make test`, to show that nothing is broken altogether; in `make test-long`, by another seed; and in the soak,
which goes on to the next one."""


@pytest.mark.timeout(120 + MINUTES * 60 + 600)
@pytest.mark.parametrize("worker", [0, *(pytest.param(worker, marks=pytest.mark.long) for worker in range(1, WORKERS))])
def test_everything_comes_right(
    server_url: str, template: str, tmp_path: Path, worker: int, record_property: Callable[[str, object], None]
) -> None:
    ends_s = time.monotonic() + MINUTES * 60
    total, seeds = Counter[str](), list[int]()
    while not seeds or time.monotonic() < ends_s:
        seeds.append(FIRST_SEED + worker + len(seeds) * WORKERS)
        steps = SOAK_STEPS if MINUTES else LONG_STEPS if worker else SAMPLE_STEPS
        simulate(server_url, template, tmp_path, seeds[-1], steps=steps, total=total)
    record_property("simulated", {"total": dict(total), "seeds": seeds})


def simulate(server_url: str, template: str, directory: Path, number: int, *, steps: int, total: Counter[str]) -> None:
    """The examples of one seed."""

    class InItsDatabase(Machine):
        def __init__(self) -> None:
            super().__init__(new_database(server_url, template=template), directory, total)

    test = get_state_machine_test(
        InItsDatabase,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=steps,
            database=None,
            # A simpler example would take minutes to find, in runs that no seed can repeat exactly.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.normal,
        ),
    )
    try:
        seed(number)(test)()
    except Exception as error:
        error.add_note(f"Again with SOAK_SEED={number} make soak")
        raise
