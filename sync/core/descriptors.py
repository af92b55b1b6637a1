"""How many files and connections this process may have open at once."""

import os
import resource
import sys
from contextlib import suppress

BESIDE_CALLS = 48
"""What is open beside calls: streams, sessions of the database, files that are read, and who asks over HTTP."""
GENEROUS = 8192
"""As many as every system lets a process have whose limit is said to be none."""


def room_for_calls(calls: int) -> int:
    """How many of so many calls this process may have in flight, a connection each; at least one.

    The limit of descriptors is raised first, as far as the host lets it: sessions begin with a low one for the sake of
    programs that use `select`, and a call beyond it would fail as if nobody listened there.
    """
    wanted = max(GENEROUS, calls + BESIDE_CALLS)
    soft, hard = (_or_none(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    if soft < wanted:
        raised = min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            soft = raised
    return max(1, min(calls, soft - BESIDE_CALLS))


def is_one_left() -> bool:
    """Whether this process may open one more."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


def _or_none(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
