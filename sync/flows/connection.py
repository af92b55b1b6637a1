"""What every flow works with."""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.flows.refusals import Refusals
from sync.mews.client import Client


@dataclass(frozen=True, slots=True)
class Connection:
    """One access token on one platform address, and the database it is mirrored into.

    Once `stop` is set, a flow finishes the page in flight and returns.
    """

    name: str
    client: Client
    engine: AsyncEngine
    stop: asyncio.Event
    refusals: Refusals = field(default_factory=Refusals)
