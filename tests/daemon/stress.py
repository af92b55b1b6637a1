"""Stress: changes are queued while writes go wrong and the daemon is killed with -9 again and again."""

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from sync.demo.simulator import Code, Fault, Operation, Voucher
from tests.support.daemon import running
from tests.support.fault_profiles import WRITES
from tests.support.flows import numbered
from tests.support.mirror import Mirror

ADDS = int(os.environ.get("STORM_ADDS", "450"))
DELETES = int(os.environ.get("STORM_DELETES", "150"))
KILLS = int(os.environ.get("STORM_KILLS", "4"))
SEEDS = [int(seed) for seed in os.environ.get("STORM_SEEDS", "1").split(",")]
GROUP = 5
PATIENCE_PULLS = 500
"""So many pulls after the stress, everything must have ended: a minute and more, the longest pause of a retry."""
QUICK = {
    "SYNC_SETTLE_AFTER_S": "0.5",
    "SYNC_PUSH_POLL_S": "0.3",
    "SYNC_LEASE_S": "2",
    "SYNC_DELETE_BRAKE_MIN": "1000000",
}
BY_ID = "by id"
"""Notes a delete that names its code by its id; all others do by voucher and value."""

Key = tuple[UUID, str]
"""A voucher and a value."""


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """What goes wrong with writes, and how the API behaves meanwhile. `scale`: one in so many changes and kills.

    `renewals`: the share of deletes behind which the same value is added again; `regrets`: how likely, each time, an
    earlier add is followed by a delete of its value.
    """

    faults: Mapping[Fault, float]
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    scale: int = 3
    renewals: float = 0.3
    regrets: float = 0.5


class Stress:
    """Queues a few changes with every write that arrives, so that there are many calls, and kills at some of them.

    Codes that stood before are deleted, by value or by id, and some of their values added anew; some of what is added
    is deleted soon after. `before_round`: what else happens each time, told its number from 0. `queued` are the changes
    so far, by voucher and value, and `stood` what was there before.
    """

    def __init__(
        self, mirror: Mirror, directory: Path, profile: FaultProfile, seed: int, vouchers: Sequence[Voucher]
    ) -> None:
        self.mirror = mirror
        self.kills = 0
        self.before_round: Callable[[int], None] = lambda number: None
        self.rounds = max(1, ADDS // GROUP // profile.scale)
        self._profile = profile
        self._settings = {**QUICK, **profile.settings}
        self._directory = directory
        self._seed = seed
        self._rng = random.Random(seed)
        self._vouchers = vouchers
        self._round = 0
        self._kills = max(1, KILLS // profile.scale)
        share = DELETES // profile.scale // len(vouchers)
        self.queued: list[Key] = []
        self._doomed = [code for voucher in vouchers for code in mirror.add_codes(voucher, numbered(share, "OLD"))]
        self.stood: list[Key] = [(code.voucher_id, code.value or "") for code in self._doomed]
        self._deletes_a_round = -(-len(self._doomed) // self.rounds)
        self._regretted: list[Key] = []
        self._arrived = asyncio.Event()
        for name, value in profile.behaviour.items():
            setattr(mirror.simulator.behaviour, name, value)

    async def rage(self) -> None:
        """Until everything is queued and every kill done."""
        self.mirror.simulator.faults.by_chance(self._profile.faults, seed=self._seed, operations=WRITES)
        self.mirror.simulator.on_request = self._on_request
        while self._round < self.rounds or self.kills < self._kills:
            async with running(self.mirror, self._directory, **self._settings) as daemon:
                for _ in range(self._rng.randint(1, max(2, 2 * self.rounds // self._kills))):
                    self.before_round(self._round)
                    await self._queue_some()
                    await self._arrived.wait()
                    self._arrived.clear()
                await asyncio.sleep(self._rng.choice([0, 0, 0.002, 0.01, 0.05]))
                daemon.process.kill()
                self.kills += 1
        self.mirror.simulator.on_request = None
        self.mirror.simulator.faults.stop()

    async def calm_down(self, *, vouchers: Iterable[Voucher] | None = None) -> None:
        """Lets the daemon run without faults until every change, or every one of some vouchers, has ended."""
        async with running(self.mirror, self._directory, **self._settings) as daemon:
            for _ in range(PATIENCE_PULLS):
                if not await unfinished(self.mirror, self._vouchers if vouchers is None else vouchers):
                    return
                await daemon.event("pulled")
        raise AssertionError(f"still unfinished: {await waiting(self.mirror)}")

    async def _on_request(self, operation: Operation, _body: Any) -> None:
        if operation in WRITES:
            self._arrived.set()

    async def _queue_some(self) -> None:
        voucher = self._rng.choice(self._vouchers)
        fresh = numbered(GROUP, f"NEW-{self._round}")
        self._round += 1
        self.queued += [(voucher.id, value) for value in fresh]
        await queue(self.mirror, "add", voucher.id, fresh)
        for _ in range(min(len(self._doomed), self._deletes_a_round)):
            await self._delete(self._doomed.pop(self._rng.randrange(len(self._doomed))))
        if self._regretted and self._rng.random() < self._profile.regrets:
            voucher_id, value = self._regretted.pop(0)
            await queue(self.mirror, "delete", voucher_id, [value])
        if self._rng.random() < 0.5:
            self._regretted.append((voucher.id, self._rng.choice(fresh)))

    async def _delete(self, code: Code) -> None:
        self.queued.append((code.voucher_id, code.value or ""))
        if self._rng.random() < 0.5:
            await self.mirror.execute(
                "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id, note) "
                "VALUES ('delete', :code, :note)",
                code=code.id,
                note=BY_ID,
            )
        else:
            await queue(self.mirror, "delete", code.voucher_id, [code.value])
        if self._rng.random() < self._profile.renewals:
            await queue(self.mirror, "add", code.voucher_id, [code.value])


async def queue(mirror: Mirror, operation: str, voucher_id: UUID, codes: Sequence[str | None]) -> None:
    """Queues changes as any user would."""
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        "SELECT :operation, :voucher, unnest(:values)",
        operation=operation, voucher=voucher_id, values=list(codes),
    )  # fmt: skip


async def unfinished(mirror: Mirror, vouchers: Iterable[Voucher]) -> dict[str, int]:
    """How many changes of some vouchers have not ended, by status."""
    rows = await mirror.rows(
        "SELECT status, count(*) AS n FROM mews.voucher_code_outbox WHERE voucher_id = ANY (:vouchers) "
        "AND status NOT IN ('done', 'failed', 'cancelled') GROUP BY status",
        vouchers=[voucher.id for voucher in vouchers],
    )
    return {row["status"]: row["n"] for row in rows}


async def waiting(mirror: Mirror) -> list[dict[str, Any]]:
    """What has not ended, and what each waits for."""
    return await mirror.rows(
        "SELECT status, attempts, next_attempt_at - now() AS due_in, last_error, count(*) AS n "
        "FROM mews.voucher_code_outbox WHERE status NOT IN ('done', 'failed', 'cancelled') GROUP BY 1, 2, 3, 4"
    )
