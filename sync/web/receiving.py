"""What a daemon has running beside its jobs where it receives integration webhooks."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from sync.core.bind_address import BindAddress
from sync.service.integrations import make_receiver, work_off_all
from sync.service.running import Running
from sync.web.integrations import make_receiving_app
from sync.web.server import serve_app


def receive(running: Running, address: BindAddress) -> Mapping[str, Coroutine[Any, Any, None]]:
    """What accepts events, and what works them off."""
    wake = asyncio.Event()
    receiver = make_receiver(running.settings, running.engine, running.stop, running.pools)
    app = make_receiving_app(running.settings, receiver, wake)
    serving = serve_app(app, address, "integrations", running.server_tried())
    return {"integrations": serving, "integration_events": work_off_all(receiver, wake)}
