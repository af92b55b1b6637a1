"""The outbox of a mirror in the tests of the flows, and who pushes it."""

import time
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import text

from sync.core.retry import Backoff
from sync.demo.simulator import Operation, Voucher
from sync.mirror.freshness import MirrorFreshness
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claims import as_daemon
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.expired_claims import signs_of_life
from sync.outbox.push import Pusher
from sync.outbox.reconcile import reconcile
from sync.outbox.send import PushSettings
from sync.signals import Wake
from tests.support.mirror import Mirror

AT_ONCE, A_WHILE = timedelta(), timedelta(seconds=20)
SETTINGS = PushSettings(
    lease=timedelta(seconds=30),
    request_timeout_s=60,
    read_after_write_delay=AT_ONCE,
    delete_guards=[DeleteGuardRule(share=0.2, at_least=100, window=timedelta(minutes=10))],
    # What is given back is due when a test says so (`be_due`), and not while a push is slow.
    retry=Backoff(base_s=600, cap_s=36_000, least=0.5),
)


class Outbox:
    """The outbox of a mirror, and who pushes it."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.freshness = MirrorFreshness()
        self.pusher = self.make_pusher(SETTINGS)
        self.later_s = 0.0
        self.pusher.watch = ClaimWatch(SETTINGS.lease, lambda: time.monotonic() + self.later_s)

    def make_pusher(self, settings: PushSettings) -> Pusher:
        """Another one who pushes it."""
        watch, connection = ClaimWatch(settings.lease), self.mirror.connection
        return Pusher(connection, settings, lambda: self.freshness, Wake(), watch=watch, rng=Random(2))

    async def add(self, voucher: Voucher, *values: str) -> None:
        await self.mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'add', :voucher, unnest(:values)",
            voucher=voucher.id, values=list(values),
        )  # fmt: skip

    async def delete(self, voucher: Voucher, *values: str) -> None:
        await self.mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'delete', :voucher, unnest(:values)",
            voucher=voucher.id, values=list(values),
        )  # fmt: skip

    async def rows(self) -> list[dict[str, Any]]:
        return await self.mirror.rows("SELECT * FROM mews.voucher_code_outbox ORDER BY id")

    async def statuses(self) -> list[str]:
        return [row["status"] for row in await self.rows()]

    async def reconcile(self) -> None:
        await reconcile(self.mirror.connection, self.pusher.watch, AT_ONCE)

    async def outlive_claims(self) -> None:
        """No attempt shows life for as long as it is good for."""
        async with as_daemon(self.mirror.connection.engine) as tx:
            self.pusher.watch.expired(await signs_of_life(tx, self.mirror.connection.name))
        self.later_s += SETTINGS.lease.total_seconds()

    async def be_due(self) -> None:
        """Whatever waits for its time has it now."""
        async with as_daemon(self.mirror.connection.engine) as tx:
            await tx.execute(text("UPDATE mews.voucher_code_outbox SET next_attempt_at = now()"))

    async def refresh(self) -> None:
        """A discovery and a pull, as the daemon has them all the time."""
        discovered = await self.mirror.discover()
        self.freshness = replace(self.freshness, discovered_as_of=discovered.as_of)
        connection = self.mirror.connection
        checked = await connection.incarnation.check(connection.engine)
        if (caught_up := (await self.mirror.pull()).caught_up) is not None:
            self.freshness = replace(self.freshness, caught_up_as_of=caught_up.as_of, checked=checked)

    def calls(self, operation: Operation = Operation.ADD_CODES) -> int:
        return len(self.mirror.requests(operation))


def active(mirror: Mirror) -> dict[tuple[UUID, str | None], int]:
    """How often each active code stands in the API."""
    counts: dict[tuple[UUID, str | None], int] = {}
    for code in mirror.world.codes.truth.values():
        if code.is_active:
            counts[code.voucher_id, code.value] = counts.get((code.voucher_id, code.value), 0) + 1
    return counts


async def look_again(mirror: Mirror, outbox: Outbox) -> None:
    """Lets all waits be over, and looks."""
    mirror.clock.advance(A_WHILE)
    await outbox.be_due()
    await outbox.reconcile()
