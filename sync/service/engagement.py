"""What is done for one connection of a replica, and how it follows who owns it. Pure but for its task and its event."""

import asyncio
from dataclasses import dataclass, field

from sync.connection.tenure import Tenure
from sync.fleet.assignment import Owned
from sync.mews.client_settings import Credentials
from sync.service.jobs import Jobs
from sync.signals import Signal


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
    stop: Signal = field(default_factory=Signal)
    task: "asyncio.Task[None] | None" = None
    given: Credentials | None = None
    jobs: Jobs | None = None
    is_lost: bool = False
    is_given_back: bool = False


def is_written_anew(engagement: Engagement, owned: Owned | None) -> bool:
    """Whether a connection is this replica's as before, and its tokens or its address are not as they were."""
    return (
        owned is not None
        and engagement.owned is not None
        and owned != engagement.owned
        and owned.epoch == engagement.owned.epoch
    )


def follow_owner(engagement: Engagement, owned: Owned | None, *, is_given_back: bool) -> None:
    """Go on with a connection that this replica owns as before, and end what is another's, or has other tokens."""
    if engagement.owned is None and owned is not None:
        engagement.owned, engagement.tenure.epoch = owned, owned.epoch
    if owned is None or engagement.owned is None or owned.epoch != engagement.owned.epoch:
        engagement.is_lost = engagement.tenure.is_over = True
    engagement.is_given_back = engagement.is_given_back or is_given_back
    if engagement.is_lost or engagement.is_given_back or owned != engagement.owned:
        engagement.stop.set()
    elif owned is not None:
        engagement.owned = owned  # of equals the one that others keep, too
