"""Which replica has called the API for which hotel, and when: by the name that each gives in its calls."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from sync.demo.simulator import Operation, RequestRecord, Simulator


@dataclass(frozen=True, slots=True)
class SeenCall:
    """A call; `at_s` by this process's monotonic clock, `values` those of the codes that it adds."""

    at_s: float
    hotel: str
    operation: Operation
    client: str
    values: tuple[str, ...] = ()


class Calls:
    """The calls of tokens that are known, in the order in which they were answered."""

    def __init__(self, simulator: Simulator) -> None:
        self.seen: list[SeenCall] = []
        self._news = asyncio.Event()
        simulator.on_answer = self._note

    async def _note(self, record: RequestRecord) -> None:
        if record.operation is None or record.token is None:
            return
        body = record.body or {}
        values = tuple(str(one.get("Value")) for one in body.get("VoucherCodeParameters", ()))
        client = str(body.get("Client"))
        self.seen.append(SeenCall(record.arrived_s, record.token, record.operation, client, values))
        self._news.set()

    def first_pulls(self, hotels: Collection[str], after_s: float, *, but: str = "") -> dict[str, float]:
        """When each of these was pulled first after an instant, by another one than `but`; without those that were not.

        Seconds after that instant.
        """
        first: dict[str, float] = {}
        for call in reversed(self.seen):  # what came before it is long past
            if call.at_s < after_s - 60:
                break
            is_pull = call.operation is Operation.GET_CODES and call.at_s > after_s and call.client != but
            if is_pull and call.hotel in hotels:
                first[call.hotel] = call.at_s - after_s
        return first

    async def until_pulled(
        self, hotels: Collection[str], after_s: float, *, but: str = "", patience_s: float = 60.0
    ) -> dict[str, float]:
        """Waits until each of these was pulled after an instant, and returns `first_pulls`."""
        async with asyncio.timeout(patience_s):
            while len(found := self.first_pulls(hotels, after_s, but=but)) < len(set(hotels)):
                self._news.clear()
                await self._news.wait()
        return found

    def longest_gaps(self, hotels: Iterable[str], from_s: float, to_s: float) -> dict[str, float]:
        """The longest time in which each was not pulled, of those that touch this one, up to its end."""
        pulls: dict[str, list[float]] = {name: [] for name in hotels}
        for call in self.seen:
            if call.operation is Operation.GET_CODES and call.hotel in pulls:
                pulls[call.hotel].append(call.at_s)
        return {name: _longest([*times, to_s], from_s, to_s) for name, times in pulls.items()}

    def taken_twice(self, zombie: str, after_s: float) -> list[str]:
        """Values that a replica has sent after it woke up, although another one has sent them too."""
        others = {value for call in self.seen if call.client != zombie for value in call.values}
        woken = (call for call in self.seen if call.client == zombie and call.at_s > after_s)
        return [value for call in woken for value in call.values if value in others]

    def by_client(self, after_s: float) -> Counter[str]:
        """How many calls each replica has made since an instant."""
        return Counter(call.client for call in self.seen if call.at_s > after_s)


def _longest(times: list[float], from_s: float, to_s: float) -> float:
    gaps = (later - sooner for sooner, later in pairwise(times) if later > from_s and sooner < to_s)
    return max(gaps, default=0.0)


def now_s() -> float:
    """The clock of `SeenCall.at_s`."""
    return time.monotonic()
