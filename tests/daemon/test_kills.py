"""Killed with -9 in the middle of a backfill and started again: equal, and nothing complete is read twice."""

import asyncio
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation, RequestRecord, Status
from tests.support.loaded import run, start
from tests.support.mirror import Mirror
from tests.support.process import end

BACKFILLS = 2
KILLS = 10
YEARS = timedelta(days=4 * 365)
CODES_A_MONTH = 400

Window = tuple[datetime, datetime]


class Killing:
    """Runs `once` and kills it at a random call: on its arrival, after its answer is made, or a moment later."""

    def __init__(self, mirror: Mirror, directory: Path, seed: int) -> None:
        self._mirror = mirror
        self._directory = directory
        self._rng = random.Random(seed)

    async def run_and_kill(self) -> int:
        """The exit code: -9, unless the run was done before its time had come."""
        process = await start("once", settings=self._mirror.environment, directory=self._directory)
        calls_left = self._rng.randint(1, 12)
        at_arrival, delay_s = self._rng.random() < 0.5, self._rng.choice([0, 0, self._rng.uniform(0, 0.03)])

        async def count_down() -> None:
            nonlocal calls_left
            calls_left -= 1
            if calls_left == 0:
                await asyncio.sleep(delay_s)
                if process.returncode is None:
                    process.kill()

        async def on_request(_operation: Operation, _body: Any) -> None:
            if at_arrival:
                await count_down()

        async def on_answer(_record: RequestRecord) -> None:
            if not at_arrival:
                await count_down()

        self._mirror.simulator.on_request, self._mirror.simulator.on_answer = on_request, on_answer
        ended = await end(process)
        self._mirror.simulator.on_request = self._mirror.simulator.on_answer = None
        return ended.code


@pytest.mark.long
@pytest.mark.parametrize("seed", range(BACKFILLS))
async def test_a_backfill_survives_kills(database_url: str, tmp_path: Path, seed: int) -> None:
    mirror = Mirror(database_url, latency_s=0.01)
    fill(mirror, seed)
    # Small pages, which leave more to be interrupted: every 408 halves them.
    mirror.simulator.faults.script(Operation.GET_CODES, Status(408), times=3)
    async with mirror.opened():
        killing = Killing(mirror, tmp_path, seed)
        seen, complete = set[Window](), set[Window]()
        for _ in range(KILLS):
            before = len(mirror.requests())
            assert await killing.run_and_kill() == -9
            read = {window_of(record) for record in mirror.requests()[before:]}
            assert not read & complete
            still_open = await open_windows(mirror)
            seen |= read | still_open
            complete = seen - still_open
        ended = await run("once", settings=mirror.environment, directory=tmp_path)
        assert ended.code == 0, ended.stderr
        assert (await mirror.compare()).is_equal
        assert mirror.simulator.violations == []


def fill(mirror: Mirror, seed: int) -> None:
    """Vouchers of four years, with codes in every month."""
    rng = random.Random(seed)
    vouchers = [mirror.add_voucher(f"Voucher {n}", days_old=YEARS.days) for n in range(5)]
    for days_old in range(1, YEARS.days, 30):
        for voucher in vouchers:
            values = [f"{rng.getrandbits(60):015X}" for _ in range(CODES_A_MONTH // len(vouchers))]
            mirror.add_codes(voucher, values, days_old=days_old)


async def open_windows(mirror: Mirror) -> set[Window]:
    """The windows that are not read to their end, as the database has them."""
    return {(row["start_utc"], row["end_utc"]) for row in await mirror.rows("SELECT * FROM sync.windows")}


def window_of(record: RequestRecord) -> Window:
    """The interval that a request asked for."""
    assert record.body is not None
    interval = record.body["UpdatedUtc"]
    return datetime.fromisoformat(interval["StartUtc"]), datetime.fromisoformat(interval["EndUtc"])
