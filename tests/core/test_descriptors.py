"""As many calls are made at once as this host lets the process have connections."""

import subprocess
import sys

import pytest

from sync.core.descriptors import BESIDE_CALLS, GENEROUS

SCRIPT = """
import resource
from sync.core.descriptors import room_for_calls
print(room_for_calls({calls}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def room(limits: str, calls: int) -> tuple[int, int]:
    """How many of these calls there is room for under these limits of a shell's, and the limit afterwards."""
    command = ["sh", "-c", f'{limits}; exec "$0" -c "$1"', sys.executable, SCRIPT.format(calls=calls)]
    found, limit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(found), int(limit)


def test_a_limit_that_the_host_lets_it_raise_is_raised() -> None:
    assert room("ulimit -Sn 64; ulimit -Hn 300", 250) == (250, 300)
    assert room("ulimit -Sn 64", 250) == (250, GENEROUS)
    assert room("ulimit -Sn 64", GENEROUS + 1)[0] > GENEROUS


@pytest.mark.parametrize(("limit", "calls"), [(128, 128 - BESIDE_CALLS), (BESIDE_CALLS, 1), (20, 1)])
def test_under_one_that_stays_fewer_calls_are_made_at_once(limit: int, calls: int) -> None:
    assert room(f"ulimit -n {limit}", 250) == (calls, limit)
