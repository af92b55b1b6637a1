"""What is done for one connection of a replica, and how it follows who owns it. Pure but for its task and its event."""

import asyncio
from dataclasses import dataclass, field

from sync.connection.signals import Signal
from sync.connection.tenure import Tenure
from sync.fleet.assignment import Owned
from sync.mews.client import Credentials
from sync.service.jobs import Jobs


@dataclass(eq=False, slots=True)
class Engagement:
    """What is done for one connection, until `stop`. `owned` is None while it is not known whose it is.

    `given`: the address and the tokens that it is done with; `jobs`: what is done. `task`: its beginning or its end, as
    long as one of them is under way. `is_lost`: another has it, or nobody is to.
    `is_given_back`: another is to have it.
    """

    name: str
    owned: Owned | None
    tenure: Tenure
    stop: asyncio.Event = field(default_factory=Signal)
    task: "asyncio.Task[None] | None" = None
    given: tuple[str, Credentials] | None = None
    jobs: Jobs | None = None
    is_lost: bool = False
    is_given_back: bool = False


def is_written_anew(work: Engagement, owned: Owned | None) -> bool:
    """Whether a connection is this replica's as before, and its tokens or its address are not as they were."""
    return owned is not None and work.owned is not None and owned != work.owned and owned.epoch == work.owned.epoch


def follow_owner(work: Engagement, owned: Owned | None, *, is_given_back: bool) -> None:
    """Go on with a connection that this replica owns as before, and end what is another's, or has other tokens."""
    if work.owned is None and owned is not None:
        work.owned, work.tenure.epoch = owned, owned.epoch
    if owned is None or work.owned is None or owned.epoch != work.owned.epoch:
        work.is_lost = work.tenure.is_over = True
    work.is_given_back = work.is_given_back or is_given_back
    if work.is_lost or work.is_given_back or owned != work.owned:
        work.stop.set()
