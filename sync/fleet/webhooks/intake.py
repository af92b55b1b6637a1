"""Keeps what the vendor sends: what comes at the same moment by one transaction, however many hotels are told of."""

import asyncio
from functools import partial

from sync.core.errors import DatabaseError
from sync.fleet.webhooks import store
from sync.fleet.webhooks.events import Event
from sync.fleet.webhooks.work import Receiver
from sync.postgres.engine import in_transaction

KEPT_WITHIN_S = 0.8
"""The vendor is answered within a second; what the database has not taken by then is sent again."""


class Intake:
    """What has come and is not kept yet. A transaction for each would take a group's hotels far longer than that."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._waiting: list[tuple[bytes, Event, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, body: bytes, event: Event) -> bool:
        """Keep an event, as `store.accept` says. Raises `DatabaseError`, and `TimeoutError` where that takes long."""
        kept = asyncio.get_running_loop().create_future()
        self._waiting.append((body, event, kept))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        async with asyncio.timeout(KEPT_WITHIN_S):
            return bool(await kept)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting, []
                await self._write([one for one in together if not one[-1].done()])
        finally:
            self._writing = None

    async def _write(self, together: list[tuple[bytes, Event, "asyncio.Future[bool]"]]) -> None:
        receiver, events = self._receiver, {body: event for body, event, _ in together}
        accept = partial(store.accept, box=receiver.box, events=events, platform_address=receiver.platform_address)
        try:
            async with asyncio.timeout(KEPT_WITHIN_S):
                accepted = await in_transaction(receiver.engine, accept)
        except (DatabaseError, TimeoutError) as error:
            for *_, kept in together:
                if not kept.done():
                    kept.set_exception(error)
        else:
            for body, _, kept in together:
                if not kept.done():
                    kept.set_result(body in accepted)
