"""What a daemon works on, for whoever tells of it beside the jobs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mews.transport import HttpPools
from sync.service.jobs import Jobs
from sync.settings import Settings
from sync.signals import Signal


@dataclass(frozen=True, slots=True)
class Running:
    """A running daemon: the jobs of each of its connections, and the engine and HTTP connections that they share.

    `started_at` by this machine's clock. `database` tells its address from others', without its secrets. Once `stop` is
    set it is about to end. `servers_tried`: of each server one that is set once it listens, or has told that it cannot.
    """

    settings: Settings
    engine: AsyncEngine
    jobs: Sequence[Jobs]
    stop: Signal
    started_at: datetime
    pools: HttpPools
    database: str
    servers_tried: list[asyncio.Event] = field(default_factory=list)

    def server_tried(self) -> asyncio.Event:
        """What the server that is to begin sets."""
        tried = asyncio.Event()
        self.servers_tried.append(tried)
        return tried
