"""A receiver of webhooks over HTTP, and a hotel of which it may be told."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from sync.core.bind_address import BindAddress
from sync.mews.platform_cap import PlatformLimits
from sync.mews.transport import HttpPools
from sync.service.integrations import make_receiver
from sync.web.integrations import make_receiving_app
from sync.web.server import serve_app
from tests.fleet.webhooks.vendor import SECRET, Vendor
from tests.support.mirror import Mirror
from tests.support.two_tokens import KEY


@pytest.fixture
async def vendor(mirror: Mirror) -> AsyncIterator[Vendor]:
    settings = mirror.settings(sync_integration_secret=SECRET, sync_secret_key=KEY)
    pools = HttpPools(settings.sync_max_response_mb * 2**20, PlatformLimits(10, 100))
    receiver = make_receiver(settings, mirror.connection.engine, mirror.stop, pools)
    app = make_receiving_app(settings, receiver, asyncio.Event())
    with structlog.testing.capture_logs() as logs:
        listening = asyncio.create_task(serve_app(app, BindAddress("127.0.0.1", 0), "integrations", asyncio.Event()))
        while not logs:
            await asyncio.wait([listening], timeout=0.01)
        port = int(logs[0]["address"].rstrip("/").rpartition(":")[2])
        yield Vendor(mirror, receiver, port, pools)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    await pools.aclose()


@pytest.fixture
def hotel(mirror: Mirror) -> str:
    """A hotel that the environment's token does not see; its own token."""
    other = mirror.world.add_enterprise("Hotel B")
    for token in ("token-1", "token-2"):
        mirror.world.add_token(token, name=token, enterprise_ids=[other.id])
    return "token-1"
