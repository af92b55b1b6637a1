"""Tokens of one address share what may be asked of it: never more, writes first, each connection in its turn."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from sync.core.errors import Stopped
from sync.mews.platform_cap import CappedCaller, PlatformCap, PlatformLimits
from sync.mews.rate_limiter import CAP_WAIT_S, Priority, RateLimiter
from sync.signals import Signal
from tests.mews.helpers import turns
from tests.mews.test_rate_limiter import most_in_any_window
from tests.outages.virtual_clock import run_in_virtual_time

HOURS_S = 10_000.0


def cap_of(in_flight: int, per_s: int) -> PlatformCap:
    return PlatformCap(PlatformLimits(in_flight, per_s), asyncio.get_running_loop().time)


class Connection:
    """A token with a budget of its own under a cap, and when its calls arrived."""

    def __init__(self, cap: PlatformCap, requests: int = 1_000_000) -> None:
        self.arrivals: list[float] = []
        self.stop = Signal()
        self._loop = asyncio.get_running_loop()
        self.caller = CappedCaller(cap)
        self.limiter = RateLimiter(requests, 30.0, clock=self._loop.time, pause=self._pause, capped=self.caller)

    async def call(self, answer_s: float = 0.0, priority: Priority = Priority.PULL, way_s: float = 0.0) -> None:
        """One call, which arrives after `way_s` and is answered so much later."""
        async with self.limiter.permit(priority):
            await asyncio.sleep(way_s)
            self.arrivals.append(self._loop.time())
            await asyncio.sleep(answer_s)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)
            raise Stopped("the service is stopping")


async def all_of(*calls: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)


async def test_a_process_has_no_more_in_flight_than_it_has_room_for_whatever_its_part() -> None:
    cap = PlatformCap(PlatformLimits(100, 1000, in_process=30), asyncio.get_running_loop().time)
    assert cap.limits == PlatformLimits(30, 1000)
    cap.take_part(0.2)
    assert cap.limits == PlatformLimits(20, 200)


@pytest.mark.parametrize("seed", range(5))
def test_the_server_never_sees_more_whatever_the_way_does(seed: int) -> None:
    rng = random.Random(seed)
    in_flight, per_s = rng.randint(1, 20), rng.randint(1, 30)

    async def main() -> None:
        cap = cap_of(in_flight, per_s)
        connections, at_once = [Connection(cap) for _ in range(12)], 0
        most = 0

        async def call(one: Connection) -> None:
            nonlocal at_once, most
            async with one.limiter.permit(rng.choice(list(Priority))):
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 3)]))
                one.arrivals.append(asyncio.get_running_loop().time())
                await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 3)]))
                at_once -= 1

        await all_of(*(call(rng.choice(connections)) for _ in range(200)))
        assert most <= in_flight
        assert most_in_any_window(sorted(at for one in connections for at in one.arrivals), 1.0) <= per_s
        assert (cap.in_flight, cap.waiting) == (0, 0)

    run_in_virtual_time(main())


def test_a_smaller_part_holds_for_whatever_is_not_begun() -> None:
    async def main() -> None:
        cap = cap_of(100, 100)
        cap.take_part(0.05)
        connections = [Connection(cap) for _ in range(50)]
        await all_of(*(one.call(0.1) for one in connections))
        assert most_in_any_window(sorted(at for one in connections for at in one.arrivals), 1.0) == 5

    run_in_virtual_time(main())


def test_writes_go_before_reads_and_reads_before_audits_and_none_waits_for_ever() -> None:
    async def main() -> None:
        cap, order = cap_of(1, 1_000_000), list[Priority]()

        async def call(priority: Priority) -> None:
            async with Connection(cap).limiter.permit(priority):
                order.append(priority)
                await asyncio.sleep(0.01)

        audits = [call(Priority.AUDIT) for _ in range(2)]
        await all_of(
            call(Priority.PULL),
            *audits,
            *(call(Priority.PULL) for _ in range(3)),
            *(call(Priority.PUSH) for _ in range(40)),
        )
        assert order[1:9] == [Priority.PUSH] * 8, "the first came before anybody waited"
        assert order[9] == Priority.PULL
        assert order[10] == Priority.AUDIT

    run_in_virtual_time(main())


def test_connections_take_turns_and_each_one_s_calls_go_in_their_order() -> None:
    async def main() -> None:
        cap, order = cap_of(2, 1_000_000), list[tuple[str, int]]()
        connections = {name: Connection(cap) for name in ("much", "little")}

        async def call(name: str, number: int) -> None:
            async with connections[name].limiter.permit():
                order.append((name, number))
                await asyncio.sleep(0.01)

        await all_of(*(call("much", n) for n in range(20)), *(call("little", n) for n in range(3)))
        assert [number for name, number in order if name == "much"] == list(range(20))
        assert order.index(("little", 2)) <= 8

    run_in_virtual_time(main())


def test_a_backfill_is_as_fast_under_the_cap_as_its_budget_lets_it() -> None:
    async def main() -> None:
        cap, loop = cap_of(250, 500), asyncio.get_running_loop()
        backfill = Connection(cap, requests=200)
        began_s = loop.time()
        await all_of(*(backfill.call(0.2) for _ in range(200)))
        assert loop.time() - began_s < 2

    run_in_virtual_time(main())


@pytest.mark.long
async def test_thousands_of_cancelled_waits_take_nothing_with_them() -> None:
    rng, cap = random.Random(1), PlatformCap(PlatformLimits(4, 1_000_000), asyncio.get_running_loop().time)
    connections, cancelled = [Connection(cap) for _ in range(5)], 0
    while cancelled < 5000:
        calls = [
            asyncio.create_task(rng.choice(connections).call(priority=rng.choice(list(Priority)))) for _ in range(50)
        ]
        for one in rng.sample(calls, 40):
            await turns(rng.randrange(3))
            one.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        cancelled += sum(isinstance(end, asyncio.CancelledError) for end in ends)
    assert (cap.in_flight, cap.waiting) == (0, 0)
    assert all(one.caller.in_flight == 0 and not any(one.caller.turns.values()) for one in connections)
    spent = sum(one.limiter.spent() for one in connections)
    arrived = sum(len(one.arrivals) for one in connections)
    assert arrived <= spent < arrived + cancelled
    await all_of(*(one.call() for one in connections))


def test_who_waits_for_its_own_budget_has_no_place_of_the_others() -> None:
    async def main() -> None:
        cap = cap_of(2, 2)
        spent, other = Connection(cap, requests=1), Connection(cap)
        await spent.call()
        waiting = asyncio.create_task(spent.call())
        await asyncio.sleep(2)
        await asyncio.wait_for(other.call(), 0.1)
        await waiting

    run_in_virtual_time(main())


def test_a_place_of_the_budget_that_waits_for_long_is_given_back_and_taken_anew() -> None:
    async def main() -> None:
        cap, loop = cap_of(1, 1_000_000), asyncio.get_running_loop()
        hanging, waiting = Connection(cap), Connection(cap)
        call = asyncio.create_task(hanging.call(3.5 * CAP_WAIT_S))
        await turns(2)
        began_s = loop.time()
        await waiting.call()
        assert loop.time() - began_s == pytest.approx(3.5 * CAP_WAIT_S, abs=0.1)
        assert waiting.limiter.spent() == 1, "what was given back counts no more"
        await call

    run_in_virtual_time(main())


def test_who_gets_a_place_after_the_api_has_asked_for_silence_waits_for_its_end() -> None:
    async def main() -> None:
        cap, loop = cap_of(1, 1_000_000), asyncio.get_running_loop()
        hanging, silenced, other = Connection(cap), Connection(cap), Connection(cap)
        call = asyncio.create_task(hanging.call(5.0))
        await turns(2)
        waiting = asyncio.create_task(silenced.call())
        await asyncio.sleep(1.0)
        began_s = loop.time()
        silenced.limiter.be_silent(60.0)
        await call
        await asyncio.wait_for(other.call(), 1.0)  # which has the place meanwhile
        await waiting
        assert silenced.arrivals == [pytest.approx(began_s + 60.0, abs=0.1)]
        assert (cap.in_flight, cap.waiting, silenced.limiter.spent()) == (0, 0, 1)

    run_in_virtual_time(main())


def test_who_waits_for_so_long_that_it_takes_its_budget_anew_keeps_its_turn() -> None:
    """Else whoever asks at the right moment goes first, and the ones that wait longest go last."""

    async def main() -> None:
        cap, order = cap_of(1, 1_000_000), list[str]()
        hanging, first, second, late = (Connection(cap) for _ in range(4))

        async def call(one: Connection, name: str) -> None:
            await one.call()
            order.append(name)

        calls = [asyncio.create_task(hanging.call(2.7 * CAP_WAIT_S))]
        await turns(2)
        for one, name in ((first, "1a"), (first, "1b"), (first, "1c"), (second, "2"), (late, "late")):
            calls.append(asyncio.create_task(call(one, name)))
            await asyncio.sleep(CAP_WAIT_S / 2)  # so that each takes its budget anew while the later ones wait
        await asyncio.gather(*calls)
        assert order == ["1a", "2", "late", "1b", "1c"]
        assert (cap.in_flight, cap.waiting) == (0, 0)

    run_in_virtual_time(main())


def test_who_steps_aside_keeps_nobody_waiting() -> None:
    async def main() -> None:
        cap = cap_of(1, 1_000_000)
        one, other = CappedCaller(cap), CappedCaller(cap)
        holding, aside, later = one.turn(Priority.PULL), one.turn(Priority.PULL), other.turn(Priority.PULL)
        assert holding.ask().done()
        assert not aside.ask().done()
        aside.step_aside()
        asked = later.ask()
        holding.end(is_used=True)
        assert asked.done()
        asked = aside.ask()
        later.end(is_used=True)
        assert asked.done()
        aside.end(is_used=True)
        await asyncio.sleep(2)
        assert (cap.in_flight, cap.waiting, one.is_free) == (0, 0, True)

    run_in_virtual_time(main())


async def test_a_stop_ends_the_waiting() -> None:
    cap = cap_of(1, 1_000_000)
    hanging, waiting = Connection(cap), Connection(cap)
    call = asyncio.create_task(hanging.call(HOURS_S))
    await turns(2)
    stopped = asyncio.create_task(waiting.call())
    await turns(2)
    waiting.stop.set()
    with pytest.raises(Stopped):
        await stopped
    assert (cap.waiting, waiting.limiter.spent()) == (0, 0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
