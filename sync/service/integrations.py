"""Works off what the vendor has told of integrations, a call at a time, for as long as the daemon runs."""

import asyncio
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import DatabaseError, SettingsError, Stopped
from sync.fleet.registry import StoredConnection
from sync.fleet.tokens import TokenBox
from sync.fleet.webhooks import store
from sync.fleet.webhooks.work import Receiver, work_off
from sync.logger import structlog
from sync.mews import operations
from sync.mews.client_settings import Credentials, RetryPolicy
from sync.mews.transport import HttpPools
from sync.postgres.engine import in_transaction
from sync.service import app
from sync.service.defects import outlived
from sync.settings import Settings
from sync.signals import Signal

LEAST_PAUSE_S = 1.0
"""Between two events: whoever forges any number of them makes no more calls than this of the vendor's API."""
LOOK_EVERY_S = 5.0
"""Another process may have accepted an event, and one that was put off comes due."""
PRUNE_EVERY = timedelta(hours=1)

log = structlog.get_logger()


def make_receiver(settings: Settings, engine: AsyncEngine, stop: Signal, pools: HttpPools) -> Receiver:
    """What events are worked off with, by the environment's address and client token.

    Its calls are among all that a replica makes of the address, and wait as those do while it answers nobody.
    """

    async def ask(access_token: str, stored: StoredConnection | None) -> frozenset[UUID]:
        client_token = settings.mews_client_token
        if stored is not None and stored.client_token is not None:
            own = app.client_token_of(settings, stored)
        elif client_token is not None:
            own = client_token.get_secret_value()
        else:
            raise SettingsError("MEWS_CLIENT_TOKEN is not set, so that no token can be verified")
        address = settings.mews_platform_address
        given = Credentials(address, own, access_token, settings.mews_client)
        ledger = app.new_ledger(settings, engine, given)
        policy = RetryPolicy(max_attempts=2, waits_for_platform=False)
        client = app.make_client(settings, stop, given, ledger, retry_policy=policy, pool=pools.of(address))
        try:
            return frozenset([one.id async for page in operations.enterprises(client) for one in page.records])
        finally:
            await client.aclose()

    return Receiver(engine, TokenBox(settings.secret_keys), settings.mews_platform_address, ask)


async def work_off_all(receiver: Receiver, wake: asyncio.Event, pause_s: float = LEAST_PAUSE_S) -> None:
    """Work off events as they come, until cancelled or stopped. `wake` is set by whoever has accepted one.

    A fault of ours ends one event's turn, which comes again, and no other's.
    """
    loop = asyncio.get_running_loop()
    prune_at_s = loop.time()
    while True:
        has_more = False
        try:
            with outlived("integration_events", but=(DatabaseError, Stopped)):
                has_more = await work_off(receiver)
                if loop.time() >= prune_at_s:
                    await in_transaction(receiver.engine, store.prune)
                    prune_at_s = loop.time() + PRUNE_EVERY.total_seconds()
        except Stopped:
            return
        except DatabaseError as error:
            log.warning("integration_events_wait", error=str(error))
        if has_more:
            await asyncio.sleep(pause_s)
            continue
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
