"""Whether a platform address answers anybody, by what the calls of all its tokens come to.

Where several connections fail by the platform and none is answered meanwhile, calls are held back for all, and one
cheap call at a time finds out whether it is back. A connection's own trouble says nothing of others: it counts only
where nobody else was answered since its call began, and no more once somebody was, until it is answered itself.
"""

import asyncio
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from sync.core.errors import VoucherSyncError
from sync.core.retry import Backoff
from sync.logger import structlog

SEVERAL = 3
"""Connections that must fail. Of fewer, each has its own circuit."""
PROBE = "enterprises/getAll", {"Limitation": {"Count": 1}}
"""The cheapest call: what is asked, and with which parameters."""
PROBE_TIMEOUT_S = 5.0
PROBE_TAKES_S = PROBE_TIMEOUT_S + 1.0
"""With the wait for its place in the budget."""
PROBES = Backoff(base_s=1.0, cap_s=5.0, least=0.5)

log = structlog.get_logger()


class Prober(Protocol):
    """A token, whose call finds out whether the platform is back."""

    @property
    def can_probe(self) -> bool:
        """Whether a call could go at once."""

    async def probe(self) -> None:
        """Make one call, and tell the circuit how it ended; raises what it ends with."""


class PlatformCircuit:
    """The circuit of one address. `clock` gives seconds that only go forward; `on_return` is called when it is back."""

    def __init__(
        self, address: str, rng: random.Random, clock: Callable[[], float], on_return: Callable[[], None]
    ) -> None:
        self.returns = 0
        self._address = address
        self._rng = rng
        self._clock = clock
        self._on_return = on_return
        self._failed = set[Prober]()
        self._in_own_trouble = set[Prober]()
        self._probers: dict[Prober, None] = {}
        self._answered_s = -math.inf
        self._opened_s = math.inf
        self._failing_since: datetime | None = None
        self._fault = ""
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._opened_s < math.inf

    @property
    def told(self) -> str:
        """Why they are."""
        since = f"{self._failing_since:%Y-%m-%d %H:%M:%S} UTC" if self._failing_since else "a moment ago"
        return f"{self._address} has answered no connection since {since}; the last call: {self._fault}"

    def answered(self, one: Prober, began_s: float) -> None:
        """A call that began then was answered by the API, whatever it said."""
        self._answered_s = self._clock()
        if self._failed or self._in_own_trouble:
            self._in_own_trouble |= self._failed
            self._in_own_trouble.discard(one)
            self._failed.clear()
        if began_s >= self._opened_s:
            self._close()

    def failed(self, one: Prober, began_s: float, fault: str) -> None:
        """A call that began then failed, or has no answer yet, in a way that may be the platform's."""
        if self.is_open:
            self._fault = fault
        elif one not in self._in_own_trouble and began_s > self._answered_s:
            if not self._failed:
                self._failing_since = datetime.now(UTC)
            self._failed.add(one)
            if len(self._failed) >= SEVERAL:
                self._open(fault)

    def turned_away(self, one: Prober) -> None:
        """A call was held back; its token may probe."""
        self._probers.setdefault(one)

    def forget(self, one: Prober) -> None:
        """A connection is worked for no more."""
        self._probers.pop(one, None)
        self._failed.discard(one)
        self._in_own_trouble.discard(one)

    async def aclose(self) -> None:
        """End what probes."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    def _open(self, fault: str) -> None:
        self._opened_s, self._fault = self._clock(), fault
        self._probers = dict.fromkeys(self._failed)
        self._probing = asyncio.create_task(self._probe())
        log.warning("platform_away", platform_address=self._address, error=fault)

    def _close(self) -> None:
        log.info("platform_back", platform_address=self._address, away_s=round(self._clock() - self._opened_s, 1))
        self._opened_s = math.inf
        self._probers.clear()
        self.returns += 1
        self._on_return()

    async def _probe(self) -> None:
        """Ask, a token after the other, until one is answered."""
        failures, pause_s = 1, PROBES.pause_s(1, self._rng)
        while self.is_open:
            await asyncio.sleep(pause_s)
            began_s = self._clock()
            if (prober := self._next_prober()) is not None:
                await self._ask(prober)
            failures += 1
            pause_s = max(0.0, PROBES.pause_s(failures, self._rng) - (self._clock() - began_s))

    async def _ask(self, prober: Prober) -> None:
        try:
            async with asyncio.timeout(PROBE_TAKES_S):
                await prober.probe()
        except (VoucherSyncError, TimeoutError):
            pass  # the circuit was told of it; what it was not told of, as the database's troubles, says nothing
        except Exception:
            log.exception("defect", job="probe")  # whose end would keep the circuit open for ever

    def _next_prober(self) -> Prober | None:
        found = next((one for one in self._probers if one.can_probe), None) or next(iter(self._probers), None)
        if found is not None:
            del self._probers[found]
            self._probers[found] = None  # behind the others
        return found
