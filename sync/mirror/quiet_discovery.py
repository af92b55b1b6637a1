"""A discovery that reads the API alone, where that lists what it listed before and nobody has changed what came of it.

What a discovery goes by in the database is told by the look that quiet pulls have, of all connections at once: the rows
of this connection, and who else is at work and has lost what it saw. Now and then all is compared again all the same:
somebody may have changed a hotel's name.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from uuid import UUID

from sync.connection.connection import Connection
from sync.core.api_errors import InvalidRequest
from sync.mews import operations
from sync.mews.client import Client
from sync.mirror.discover import NONE, DiscoverReport, discover, listed_ids, listed_with
from sync.mirror.quiet import MirrorVersions, QuietPulls
from sync.mirror.windows import chunks
from sync.postgres.shared_look import SharedLook

WHOLE_S = 3600.0
State = tuple[int | None, int, int]


@dataclass(frozen=True, slots=True)
class _Left:
    """What the last whole discovery reported, and how the database stood before it; it counts until an instant."""

    state: State
    report: DiscoverReport
    until_s: float


class Discoveries:
    """Those of one connection. `versions` is the look of all connections of the process; `quiet` forgets what its last
    pull has left, where more than the API was asked.
    """

    __slots__ = ("_clock", "_connection", "_left", "_quiet", "_versions")

    def __init__(
        self,
        connection: Connection,
        versions: SharedLook[MirrorVersions],
        quiet: QuietPulls,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._quiet = quiet
        self._versions = versions
        self._clock = clock
        self._left: _Left | None = None

    async def discover(self) -> DiscoverReport:
        """One discovery, no longer than it must be. Raises as `discover` does."""
        connection, left = self._connection, self._left
        seen = (await self._versions.ask((connection.name, "discovery"))).found
        state = (seen.of.get(connection.name), seen.fleet, connection.incarnation.checks)
        is_known = left is not None and left.state == state and self._clock() < left.until_s
        if left and is_known and await _listed(connection.client, left.report.left_out) == left.report.listed:
            return replace(left.report, as_of=seen.now)
        self._left = None
        report = await discover(connection)
        self._quiet.forget()
        if not report.left_for_now:
            self._left = _Left(state, _as_it_stands(report), self._clock() + WHOLE_S)
        return report


def _as_it_stands(report: DiscoverReport) -> DiscoverReport:
    """What is reported of a discovery that finds all as this one has left it."""
    left_out = tuple(report.left_out)
    return replace(
        report,
        written=0,
        rejected=0,
        refused=(),
        unlisted=(),
        enterprise_ids=(),
        left_out=left_out,
        left_for_now=(),
        unreadable=NONE,
    )


async def _listed(client: Client, left_out: Collection[UUID]) -> bytes | None:
    """A digest of all that the API lists; None where it refuses to. Raises `ApiError` and `Stopped`."""
    listed, enterprise_ids, service_ids = b"", list[UUID](), list[UUID]()
    try:
        async for hotels in operations.enterprises(client):
            listed = listed_with(listed, hotels)
            enterprise_ids += listed_ids(hotels)
        for group in chunks(enterprise_ids, operations.MAX_IDS):
            async for services in operations.services(client, group):
                listed = listed_with(listed, services)
                service_ids += listed_ids(services)
        for group in chunks([one for one in service_ids if one not in left_out], operations.MAX_IDS):
            async for vouchers in operations.vouchers(client, group):
                listed = listed_with(listed, vouchers)
    except InvalidRequest:
        return None
    return listed
