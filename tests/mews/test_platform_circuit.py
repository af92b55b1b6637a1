"""An address that answers nobody is left alone but for one probe at a time; one token's trouble is nobody else's."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from sync.core import api_errors
from sync.demo.simulator import Close, Fault, Hang, Status
from sync.mews.client import SILENCE, Client
from sync.mews.platform_circuit import PROBES, SEVERAL, PlatformCircuit
from sync.mews.rate_limiter import RateLimiter
from sync.mews.transport import HttpPools
from tests.mews.helpers import MAX_BYTES, ONCE, fail, opened, read, script
from tests.mews.ledgers import WINDOW_S, LedgerInMemory, Ledgers
from tests.outages.virtual_clock import run_in_virtual_time
from tests.support.mirror import Mirror

TOKENS = 6
TIMEOUT_S = 120.0
FOUND_S = 6.5
"""So soon after its return an address is known to be back."""


class Away:
    """A platform that answers no probe, or every one; `asked_at` is when, and `asked` by which token."""

    def __init__(self) -> None:
        self.is_back = False
        self.hangs = False
        self.asked_at: list[float] = []
        self.asked: list[Token] = []
        self.returned_at: list[float] = []
        self._loop = asyncio.get_running_loop()
        self.circuit = PlatformCircuit("https://api.example", random.Random(1), self.now_s, self._note_return)

    def now_s(self) -> float:
        return self._loop.time()

    def _note_return(self) -> None:
        self.returned_at.append(self.now_s())


class Token:
    """One that probes."""

    def __init__(self, away: Away) -> None:
        self.can_probe = True
        self._away = away

    async def probe(self) -> None:
        away, began_s = self._away, self._away.now_s()
        away.asked_at.append(began_s)
        away.asked.append(self)
        if away.hangs:
            await asyncio.sleep(1000)
        if not away.is_back:
            away.circuit.failed(self, began_s, "503")
            raise api_errors.ServerError("enterprises/getAll")
        away.circuit.answered(self, began_s)

    def fails(self) -> None:
        self._away.circuit.failed(self, self._away.now_s(), "503")


async def went_away(tokens: int = TOKENS) -> tuple[Away, list[Token]]:
    away = Away()
    all_of_them = [Token(away) for _ in range(tokens)]
    await asyncio.sleep(1)
    for one in all_of_them:
        one.fails()
        away.circuit.turned_away(one)
    return away, all_of_them


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_one_probe_goes_every_few_seconds_in_turn_and_a_return_is_found_soon(hangs: bool) -> None:
    async def main() -> None:
        away, tokens = await went_away()
        away.hangs = hangs
        await asyncio.sleep(600)
        pauses_s = [later - earlier for earlier, later in pairwise(away.asked_at)][5:]
        assert max(pauses_s) <= FOUND_S
        assert sum(pauses_s) / len(pauses_s) >= PROBES.cap_s / 2
        assert set(away.asked) == set(tokens)
        away.is_back, away.hangs, began_s = True, False, away.now_s()
        await asyncio.sleep(60)
        assert away.returned_at[0] - began_s <= FOUND_S
        assert (len(away.returned_at), away.circuit.is_open) == (1, False)

    run_in_virtual_time(main())


class ClosedInItsProbe(Token):
    """One whose connection is closed while its probe waits for the ledger."""

    async def probe(self) -> None:
        ledger = LedgerInMemory(Ledgers(), self._away.now_s, random.Random(1))
        rate_limiter = RateLimiter(200, WINDOW_S, clock=self._away.now_s, pause=asyncio.sleep, ledger=ledger)
        closing = asyncio.create_task(rate_limiter.hand_over())
        async with rate_limiter.permit():
            await closing


def test_a_connection_that_is_closed_in_the_middle_of_its_probe_leaves_the_others_to_find_the_return() -> None:
    async def main() -> None:
        away, _ = await went_away(SEVERAL - 1)
        ClosedInItsProbe(away).fails()
        assert away.circuit.is_open
        await asyncio.sleep(60)
        away.is_back = True
        await asyncio.sleep(60)
        assert not away.circuit.is_open

    run_in_virtual_time(main())


def test_fewer_than_several_tokens_never_open_it() -> None:
    async def main() -> None:
        away, _ = await went_away(SEVERAL - 1)
        assert not away.circuit.is_open

    run_in_virtual_time(main())


def test_tokens_that_fail_while_others_are_answered_open_it_for_nobody_however_long_it_is_quiet() -> None:
    async def main() -> None:
        away = Away()
        broken, well = [Token(away) for _ in range(SEVERAL - 1)], Token(away)
        for _ in range(10):
            await asyncio.sleep(1)
            for one in broken:
                one.fails()
            away.circuit.answered(well, away.now_s())
            broken.append(Token(away))
        await asyncio.sleep(1000)
        for one in broken[:-1]:
            one.fails()
        assert not away.circuit.is_open

    run_in_virtual_time(main())


def test_a_call_beside_which_another_was_answered_proves_nothing() -> None:
    async def main() -> None:
        away = Away()
        tokens = [Token(away) for _ in range(TOKENS)]
        await asyncio.sleep(1)
        began_s = away.now_s()
        await asyncio.sleep(50)
        away.circuit.answered(tokens[0], away.now_s())
        await asyncio.sleep(10)
        for one in tokens[1:]:
            away.circuit.failed(one, began_s, "no answer within 60 s")
        assert not away.circuit.is_open

    run_in_virtual_time(main())


def test_one_that_was_wrongly_opened_is_closed_by_the_first_probe_and_stays_so() -> None:
    async def main() -> None:
        away, tokens = await went_away(SEVERAL)
        away.is_back = True
        await asyncio.sleep(2 * PROBES.base_s)
        assert not away.circuit.is_open
        for _ in range(10):
            await asyncio.sleep(1)
            for one in tokens:
                one.fails()
        assert len(away.returned_at) == 1

    run_in_virtual_time(main())


def test_a_token_that_can_probe_goes_before_one_that_has_to_wait_for_its_budget() -> None:
    async def main() -> None:
        away, tokens = await went_away()
        for one in tokens[1:]:
            one.can_probe = False
        await asyncio.sleep(30)
        assert set(away.asked) == {tokens[0]}
        away.circuit.forget(tokens[0])
        await asyncio.sleep(30)
        assert len(set(away.asked)) > 1
        await away.circuit.aclose()

    run_in_virtual_time(main())


@dataclass
class Sharing:
    """Clients that share what they know of the address; `back` is set whenever it is."""

    clients: list[Client]
    back: asyncio.Event


@asynccontextmanager
async def sharing(api: Mirror, *, number: int = TOKENS, **options: Any) -> AsyncIterator[Sharing]:
    async with AsyncExitStack() as stack:
        pools, shared = HttpPools(MAX_BYTES), Sharing([], asyncio.Event())
        pools.on_return = shared.back.set
        stack.push_async_callback(pools.aclose)
        own: dict[str, Any] = {"pool": pools.of(api.address), "retry_policy": ONCE} | options
        for _ in range(number):
            shared.clients.append(await stack.enter_async_context(opened(api, **own)))
        yield shared


async def all_fail(clients: Sequence[Client]) -> list[api_errors.ApiError]:
    return [await fail(one) for one in clients]


@pytest.mark.long
@pytest.mark.parametrize("fault", [Close(), Status(503, named=False)], ids=repr)
async def test_where_several_fail_by_the_platform_all_are_told_why_and_none_asks(api: Mirror, fault: Fault) -> None:
    async with sharing(api) as shared:
        clients = shared.clients
        api.simulator.faults.by_chance({fault: 1.0}, seed=1)
        failed = await all_fail(clients)
        assert [type(one) is api_errors.CircuitOpen for one in failed] == [False] * SEVERAL + [True] * (
            TOKENS - SEVERAL
        )
        assert api.address in str(failed[-1])
        assert "has answered no connection since" in str(failed[-1])
        assert all(one.is_waiting and one.is_probing and one.is_platform_away for one in clients)
        assert len(api.simulator.requests) == SEVERAL
        api.simulator.faults.stop()
        await shared.back.wait()
        assert [await read(one) for one in clients] == [["Hotel A"]] * TOKENS


@pytest.mark.parametrize("status", [500, 401, 403, 429])
async def test_what_the_api_itself_answers_opens_it_for_nobody(api: Mirror, status: int) -> None:
    script(api, Status(status), times=TOKENS - 1)
    async with sharing(api) as shared:
        clients = shared.clients
        for one in clients[:-1]:
            await fail(one)
        assert not clients[-1].is_platform_away
        assert await read(clients[-1]) == ["Hotel A"]


async def test_a_single_token_has_its_own_circuit_alone(api: Mirror) -> None:
    script(api, Close(), times=5)
    async with sharing(api, number=1) as shared:
        (client,) = shared.clients
        for _ in range(5):
            await fail(client)
        assert (client.is_probing, client.is_platform_away) == (True, False)


@pytest.mark.long
async def test_its_return_ends_the_pauses_of_each_token(api: Mirror) -> None:
    async with sharing(api) as shared:
        clients = shared.clients
        script(api, Close(), times=5 + SEVERAL)
        for _ in range(5):
            await fail(clients[0])
        await all_fail(clients[1:SEVERAL])
        assert clients[-1].is_platform_away
        await shared.back.wait()
        assert not clients[0].is_waiting
        assert await read(clients[0]) == ["Hotel A"]


def test_calls_that_all_hang_are_noticed_before_their_time_is_over_and_leave_it_alone() -> None:
    async def main() -> None:
        api, loop = Mirror("no database"), asyncio.get_running_loop()
        async with api.served(), sharing(api, read_timeout_s=TIMEOUT_S, clock=loop.time) as shared:
            clients = shared.clients
            api.simulator.faults.by_chance({Hang(): 1.0}, seed=1)
            reading = [asyncio.create_task(read(one)) for one in clients]
            await asyncio.sleep(SILENCE * TIMEOUT_S + 1)
            assert clients[0].is_platform_away
            before = len(api.simulator.requests)
            began_s = loop.time()
            await asyncio.sleep(30)
            assert len(api.simulator.requests) - before <= 30 / PROBES.base_s / 2
            api.simulator.faults.stop()
            assert await asyncio.gather(*reading) == [["Hotel A"]] * TOKENS
            assert loop.time() - began_s < TIMEOUT_S

    run_in_virtual_time(main())
