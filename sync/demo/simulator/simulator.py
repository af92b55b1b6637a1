"""The simulated API as a whole: a world, the rules, the faults, the record of it all, served over HTTP."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from sync.demo.simulator.answers import Answer, error
from sync.demo.simulator.api import answer_call
from sync.demo.simulator.behaviour import Behaviour
from sync.demo.simulator.entities import Operation
from sync.demo.simulator.faults import Fault, Faults, Slow, Status
from sync.demo.simulator.journal import Journal, RequestRecord
from sync.demo.simulator.server import Incoming, Reply, Sleep, serve
from sync.demo.simulator.throttle import Gate, RateLimit, RetryAfter
from sync.demo.simulator.validation import Call, read_call
from sync.demo.simulator.world import World

OPERATIONS = {f"/api/connector/v1/{operation}": operation for operation in Operation}
FULL_BUDGET = RateLimit()

BeforeAnswer = Callable[[Operation, Mapping[str, Any]], Awaitable[None]]
AfterAnswer = Callable[[RequestRecord], Awaitable[None]]


class Simulator:
    """The Mews Connector API over a `World`.

    `violations` lists what a correct client never does, one sentence each. `requests` holds the latest `max_records`
    requests (None: all). `on_request` is awaited before a call is carried out, `on_answer` after that and before the
    answer is sent: the place to move rows between two pages. The clock of the world is the one in `Date` headers;
    budgets, `latency_s` and delays run on `timer` and `sleep`.
    """

    def __init__(
        self,
        world: World,
        *,
        behaviour: Behaviour | None = None,
        rate_limit: RateLimit = FULL_BUDGET,
        latency_s: float = 0.0,
        timer: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        max_records: int | None = None,
        grace_s: float = 0.5,
    ) -> None:
        self.world = world
        self.behaviour = behaviour or Behaviour()
        self.faults = Faults()
        self.latency_s = latency_s
        self.on_request: BeforeAnswer | None = None
        self.on_answer: AfterAnswer | None = None
        self._timer = timer
        self._sleep = sleep
        self._rate_limit = rate_limit
        self._gate = Gate(rate_limit, grace_s=grace_s)
        self._journal = Journal(max_records=max_records, short_page_ends=self.behaviour.short_page_ends)

    @property
    def requests(self) -> deque[RequestRecord]:
        """The requests, the oldest first."""
        return self._journal.records

    @property
    def violations(self) -> list[str]:
        """What clients did that a correct one never does."""
        return self._journal.violations

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> AbstractAsyncContextManager[str]:
        """Serves over HTTP and yields the base address. Left and entered again with the same port, it is an outage."""
        return serve(self._exchange, host=host, port=port, clock=self._date, timer=self._timer, sleep=self._sleep)

    def _date(self) -> datetime:
        return self.world.clock() + timedelta(seconds=self.behaviour.date_ahead_s)

    async def _exchange(self, incoming: Incoming) -> Reply:
        record = self._journal.arrived(incoming.path, incoming.arrived_s)
        operation = OPERATIONS.get(incoming.path)
        if operation is None or incoming.method != "POST":
            return self._misled(record, incoming.method, known=operation is not None)
        call = read_call(
            self.world,
            operation,
            content_type=incoming.content_type,
            raw=incoming.raw,
            max_bytes=self.behaviour.max_body_bytes,
        )
        self._journal.understood(record, call)
        fault = self._admit(record, call)
        if self.on_request is not None:
            await self.on_request(operation, call.body)
        await self._pause(self.latency_s)
        if isinstance(fault, Slow) and fault.late_effect:
            await self._pause(fault.delay_s)
        answer = answer_call(self.world, self.behaviour, call, fault, record.request_id)
        self._note(record, call, fault, answer)
        if isinstance(fault, Slow) and not fault.late_effect:
            await self._pause(fault.delay_s)
        if self.on_answer is not None:
            await self.on_answer(record)
        if fault is None and not incoming.gone.is_set():
            self._journal.delivered(record)
        return Reply(record.request_id, answer, fault)

    def _misled(self, record: RequestRecord, method: str, *, known: bool) -> Reply:
        """The answer to a request that reached no operation."""
        self._journal.broke(record, f"{method} to an operation's path" if known else "no operation has this path")
        record.status = 405 if known else 404
        message, headers = ("Method not allowed", {"Allow": "POST"}) if known else ("Not found", {})
        return Reply(record.request_id, error(record.status, message, record.request_id, headers=headers))

    def _admit(self, record: RequestRecord, call: Call) -> Fault | None:
        """Decides on arrival what goes wrong with the call: the budget first, then the faults that were asked for."""
        token = call.token.text if call.token is not None else None
        if token is not None:
            for sentence in self._gate.broken_rules(token, record.arrived_s):
                self._journal.broke(record, sentence)
            if (wait_s := self._gate.wait_s(token, record.arrived_s)) is not None:
                form = self._rate_limit.retry_after_form
                return Status(429, "Too many requests", retry_after=RetryAfter(wait_s, form) if form else None)
        record.fault = self.faults.draw(call.operation)
        if token is not None and not (isinstance(record.fault, Status) and record.fault.code == 429):
            self._gate.count(token, record.arrived_s)
        return record.fault

    def _note(self, record: RequestRecord, call: Call, fault: Fault | None, answer: Answer | None) -> None:
        if answer is not None:
            record.status, record.items, record.cursor_out = answer.status, answer.items, answer.cursor
        if call.token is not None and isinstance(fault, Status) and fault.code == 429 and fault.retry_after:
            self._gate.ask_for_silence(call.token.text, self._timer(), fault.retry_after)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)
