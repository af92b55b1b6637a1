"""Others change everything while the API fails at random: once that is over, one cycle makes both sides equal."""

import random
from contextlib import suppress
from datetime import timedelta

import msgspec
import pytest

from sync.core.api_errors import ApiError
from sync.demo.simulator import OtherUsers, RequestRecord
from tests.support.fault_profiles import BAD_READS, READS
from tests.support.flows import honest, later, numbered, turn, watch
from tests.support.mirror import OVERLAP, Mirror

CYCLES = 3


class Stress:
    """A bad day, busy users and writes that show late, all drawn from one seed."""

    def __init__(self, mirror: Mirror, seed: int) -> None:
        self._mirror = mirror
        self._rng = random.Random(seed)
        self._others = OtherUsers(mirror.world, seed)
        mirror.simulator.faults.by_chance(BAD_READS, seed=seed, operations=READS)
        mirror.simulator.on_answer = self._change

    async def cycle(self) -> None:
        """Time passes, and a daemon, perhaps a new one, has a turn."""
        self._mirror.clock.advance(timedelta(seconds=self._rng.choice([1, 5, 60, 900, 90_000])))
        if self._rng.random() < 0.5:
            async with self._mirror.connected():
                await self._turn()
        else:
            await self._turn()

    def end(self) -> None:
        """Calm, and late enough for everything to be visible."""
        self._mirror.simulator.faults.stop()
        self._mirror.simulator.on_answer = None
        self._mirror.clock.advance(OVERLAP / 2)

    async def _turn(self) -> None:
        with suppress(ApiError):
            await self._mirror.discover()
        await self._mirror.pull(is_turn_over=turn(self._mirror, self._rng.choice([2, 6, 20, 1000])))

    async def _change(self, _: RequestRecord) -> None:
        for _step in range(self._rng.choice([0, 1, 2, 5])):
            self._others.step()
        if self._rng.random() < 0.04:
            self._import()
        if self._rng.random() < 0.3:
            self._write_that_shows_late()

    def _import(self) -> None:
        """More codes at once than a page holds."""
        voucher = self._rng.choice(list(self._mirror.world.vouchers.values()))
        self._mirror.world.add_codes(voucher.id, numbered(1100, f"{self._rng.random()}"))

    def _write_that_shows_late(self) -> None:
        world = self._mirror.world
        code = self._rng.choice(list(world.codes.truth.values()))
        deleted = msgspec.structs.replace(code, is_active=False, updated_utc=world.now())
        world.codes.put([deleted], hidden_for_s=self._rng.uniform(0, OVERLAP.total_seconds() / 2))


def furnish(mirror: Mirror, seed: int) -> None:
    """A few vouchers, young and old, with codes all along."""
    rng = random.Random(seed)
    for number in range(rng.randint(1, 6)):
        days_old = rng.choice([1, 40, 300, 900])
        voucher = mirror.add_voucher(f"Voucher {number}", days_old=days_old)
        for _ in range(rng.randint(1, 6)):
            values = numbered(rng.choice([1, 20, 100]), f"{rng.random()}")
            mirror.add_codes(voucher, values, days_old=days_old * rng.random())


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(20))
async def test_after_any_stress_one_cycle_makes_both_sides_equal(mirror: Mirror, seed: int) -> None:
    furnish(mirror, seed)
    stress = Stress(mirror, seed)
    found = watch(mirror, slack=OVERLAP)
    for _ in range(CYCLES):
        await stress.cycle()
    stress.end()
    report = await later(mirror)
    assert (found, await honest(mirror)) == ([], [])
    assert report.caught_up is not None
    assert (await mirror.compare()).is_equal
