"""Adds and deletes reach the API once, while calls fail in every way and the daemon is killed with -9."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import (
    Close,
    Fault,
    Hang,
    HtmlPage,
    MalformedJson,
    Operation,
    PartialAdd,
    RawBody,
    Status,
    TruncatedBody,
)
from tests.daemon.rig import running
from tests.flows.rig import later
from tests.support.mirror import Mirror

ADDS = int(os.environ.get("STORM_ADDS", "900"))
DELETES = int(os.environ.get("STORM_DELETES", "300"))
KILLS = int(os.environ.get("STORM_KILLS", "4"))
SEEDS = [int(seed) for seed in os.environ.get("STORM_SEEDS", "1").split(",")]
GROUP = 10
WRITES = (Operation.ADD_CODES, Operation.DELETE_CODES)
UNPROCESSED: Mapping[Fault, float] = {
    Status(400, "Invalid VoucherId"): 0.01,
    Status(409): 0.02,
    Status(429): 0.02,
    Status(403, "A rule of the hotel"): 0.01,
    Status(503): 0.02,
    Close(): 0.02,
}
AMBIGUOUS: Mapping[Fault, float] = {
    Status(408): 0.01,
    Status(408, processed=True): 0.01,
    Status(500, processed=True): 0.02,
    Close(processed=True): 0.02,
    TruncatedBody(): 0.01,
    MalformedJson(): 0.01,
    HtmlPage(processed=True): 0.01,
    Hang(processed=True): 0.005,
    PartialAdd(stored=3): 0.02,
}
ODD: Mapping[Fault, float] = {
    RawBody(b"", status=204): 0.03,
    RawBody(b"", status=202): 0.03,
    RawBody(b'{"VoucherCodes": [], "Cursor": null}'): 0.03,
}
FIREWALL: Mapping[Fault, float] = {Status(403, html=True): 0.1, Status(400, "Blocked", html=True): 0.1}


@dataclass(frozen=True, slots=True)
class Weather:
    """What goes wrong with writes, and how the API behaves meanwhile."""

    faults: Mapping[Fault, float] = field(default_factory=lambda: {**UNPROCESSED, **AMBIGUOUS})
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    scale: int = 3
    """What share of the storm this is: one in so many changes and kills."""


WEATHERS = {
    # A fifth of all writes fail, half of which may have had their effect.
    "in every way": Weather({**UNPROCESSED, **AMBIGUOUS}, {"allow_duplicates": True}, scale=1),
    "and doubles are refused": Weather(),
    "and effects show late": Weather(behaviour={"allow_duplicates": True, "hide_writes_for_s": 0.3}),
    "and effects show late and doubles are refused": Weather(behaviour={"hide_writes_for_s": 0.3}),
    "with a Date ahead": Weather(AMBIGUOUS, {"allow_duplicates": True, "date_ahead_s": 1.0}),
    "with a Date behind": Weather(AMBIGUOUS, {"allow_duplicates": True, "date_ahead_s": -1.0}),
    "in answers that were not asked for": Weather({**ODD, **AMBIGUOUS}, {"allow_duplicates": True}),
    "at a firewall": Weather({**FIREWALL, **AMBIGUOUS}, {"allow_duplicates": True}),
}
QUICK = {
    "SYNC_SETTLE_AFTER_S": "0.5",
    "SYNC_PUSH_POLL_S": "0.3",
    "SYNC_LEASE_S": "2",
    "SYNC_DELETE_BRAKE_MIN": "1000000",
}


class Storm:
    """Queues a few changes with every write that arrives, so that there are many calls, and kills at some of them."""

    def __init__(self, mirror: Mirror, directory: Path, seed: int, scale: int) -> None:
        self.mirror = mirror
        self.kills = 0
        self._directory = directory
        self._rng = random.Random(seed)
        self._vouchers = [mirror.add_voucher(f"Voucher {number}") for number in range(4)]
        self._size = ADDS // GROUP // scale
        self._kills = max(1, KILLS // scale)
        share = DELETES // scale // len(self._vouchers)
        self._doomed = [
            code for voucher in self._vouchers for code in mirror.add_codes(voucher, values(f"OLD-{voucher.id}", share))
        ]
        self._left = [values(f"NEW-{number}", GROUP) for number in range(self._size)]
        self._arrived = asyncio.Event()

    async def on_request(self, operation: Operation, _body: Any) -> None:
        """A call has reached the API."""
        if operation in WRITES:
            self._arrived.set()

    async def rage(self) -> None:
        """Until everything is queued and every kill done."""
        self.mirror.simulator.on_request = self.on_request
        while self._left or self.kills < self._kills:
            async with running(self.mirror, self._directory, **QUICK) as daemon:
                for _ in range(self._rng.randint(1, max(2, 2 * self._size // self._kills))):
                    await self._queue_some()
                    await self._arrived.wait()
                    self._arrived.clear()
                await asyncio.sleep(self._rng.choice([0, 0, 0.002, 0.01, 0.05]))
                daemon.process.kill()
                self.kills += 1
        self.mirror.simulator.on_request = None

    async def _queue_some(self) -> None:
        added = self._left.pop() if self._left else [f"LATE-{self._rng.getrandbits(60)}"]
        await queue(self.mirror, "add", self._rng.choice(self._vouchers).id, added)
        for _ in range(min(len(self._doomed), -(-DELETES * GROUP // ADDS))):
            code = self._doomed.pop(self._rng.randrange(len(self._doomed)))
            await queue(self.mirror, "delete", code.voucher_id, [code.value])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("weather", WEATHERS)
async def test_every_change_is_made_once_whatever_fails(
    database_url: str, tmp_path: Path, weather: str, seed: int
) -> None:
    mirror, how = Mirror(database_url), WEATHERS[weather]
    for name, value in how.behaviour.items():
        setattr(mirror.simulator.behaviour, name, value)
    storm = Storm(mirror, tmp_path, seed, how.scale)
    async with mirror.opened():
        await mirror.once()
        mirror.simulator.faults.by_chance(how.faults, seed=seed, operations=WRITES)
        await storm.rage()
        mirror.simulator.faults.stop()
        async with running(mirror, tmp_path, **QUICK) as daemon:
            while await unfinished(mirror):
                await daemon.event("pulled")
        await later(mirror)
        rows = await mirror.rows("SELECT * FROM mews.voucher_code_outbox")
        tell(mirror, rows, f"{weather}, seed {seed}", storm.kills)
        assert len(rows) >= (ADDS + DELETES) // how.scale - 2 * GROUP
        assert_once(mirror, rows)
        assert (await mirror.compare()).is_equal
        assert mirror.simulator.violations == []


def tell(mirror: Mirror, rows: list[dict[str, Any]], name: str, kills: int) -> None:
    """Prints what the storm was made of; `make storm` shows it."""
    writes = [record for record in mirror.simulator.requests if record.operation in WRITES]
    faults = Counter(type(record.fault).__name__ for record in writes if record.fault)
    ended = Counter(f"{row['operation']} {row['status']}" for row in rows)
    print(  # noqa: T201 - what `make storm` is run for
        f"\n{name}: {len(rows)} changes, {len(writes)} writes, {kills} kills; {dict(ended)}; faults: {dict(faults)}"
    )


def values(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


async def queue(mirror: Mirror, operation: str, voucher_id: Any, codes: list[Any]) -> None:
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        "SELECT :operation, :voucher, unnest(:values)",
        operation=operation, voucher=voucher_id, values=codes,
    )  # fmt: skip


async def unfinished(mirror: Mirror) -> int:
    rows = await mirror.rows(
        "SELECT count(*) AS n FROM mews.voucher_code_outbox WHERE status NOT IN ('done', 'failed', 'cancelled')"
    )
    return int(rows[0]["n"])


def assert_once(mirror: Mirror, rows: list[dict[str, Any]]) -> None:
    """Every row has ended, and what it says is what the API holds, once."""
    held: dict[tuple[Any, Any], list[bool]] = {}
    for code in mirror.world.codes.truth.values():
        held.setdefault((code.voucher_id, code.value), []).append(code.is_active)
    for row in rows:
        states = held.get((row["voucher_id"], row["value"]), [])
        if row["operation"] == "add":
            assert (row["status"], states) in [("done", [True]), ("failed", [])], row
        else:
            assert (row["status"], states) in [("done", [False]), ("failed", [True])], row
