"""Which of the tests are run: of some families the first case, of others a share.

The share is another one for each commit, so that a few commits have tried them all.
"""

import os
from collections.abc import Callable, Iterable
from zlib import crc32

ONE_OF, SEED = "TESTS_ONE_OF", "TESTS_SEED"
"""Variables: of how many shares one is run, and a text that says which."""


def asked_share() -> Callable[[str], bool] | None:
    """Whether a test, by its node's id, is in the share that is asked for; None where all are."""
    number = int(os.environ.get(ONE_OF, "1"))
    return share_of(number, os.environ.get(SEED, "")) if number > 1 else None


def share_of(number: int, seed: str) -> Callable[[str], bool]:
    """Whether a test is in one of so many shares; all workers of a run agree."""
    return lambda node_id: crc32(f"{seed} {node_id}".encode()) % number == 0


def later_cases(node_ids: Iterable[str]) -> set[str]:
    """Those of tests that have several cases, but for the first of each."""
    seen, later = set[str](), set[str]()
    for node_id in node_ids:
        test = node_id.partition("[")[0]
        if test in seen:
            later.add(node_id)
        seen.add(test)
    return later
