"""A running daemon receives integration webhooks, and verifies them by itself."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.daemon import running
from tests.support.mirror import Mirror
from tests.support.two_tokens import KEY

SECRET = "the-end-of-the-path"
SETTINGS = {
    "SYNC_INTEGRATION_BIND": "127.0.0.1:0",
    "SYNC_INTEGRATION_SECRET": SECRET,
    "SYNC_SECRET_KEY": KEY,
}


@pytest.mark.long
async def test_what_is_sent_to_a_daemon_becomes_a_connection(mirror: Mirror, tmp_path: Path) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    mirror.world.add_token("token-b", name="token-b", enterprise_ids=[hotel.id])
    data: dict[str, Any] = {"Integration": {"Id": "i"}, "Enterprise": {"Name": "Hotel B"}, "AccessToken": "token-b"}
    async with running(mirror, tmp_path, **SETTINGS) as daemon, httpx.AsyncClient() as vendor:
        address = (await daemon.event("http_listening"))["address"]
        body = json.dumps({"Action": "IntegrationCreated", "Data": data}).encode()
        while (await vendor.post(f"{address}integrations/{SECRET}", content=body)).status_code == 503:
            pass  # the database was busy, and the vendor sends it again
        event = await daemon.event("integration_event")
        assert (event["action"], event["step"]) == ("IntegrationCreated", "added")
        assert await daemon.stopped(signal.SIGTERM) == 0
    names = await mirror.rows("SELECT name FROM sync.connections WHERE origin = 'webhook'")
    assert names == [{"name": "Hotel B"}]
    assert "token-b" not in json.dumps(daemon.logs)
