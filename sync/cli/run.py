"""`voucher-sync run`."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from sync import logs
from sync.alerts.start import telling
from sync.cli.database import open_database, revive_embedded
from sync.cli.loading import loading
from sync.service import app, daemon
from sync.service.running import Running
from sync.settings import Settings, load_settings
from sync.tracing import tracing
from sync.web.access import bind_address


def run() -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    settings = load_settings()
    app.credentials(settings)
    beside = _beside(settings)
    logs.configure(settings.sync_log_format, settings.sync_log_level)
    with tracing(), open_database(settings, may_create=True) as url:
        asyncio.run(daemon.run(settings, url, revive_embedded if settings.database_url is None else None, beside))


def _beside(settings: Settings) -> daemon.Beside:
    """Who tells somebody, and the server, where there is to be one. `SettingsError` where anybody could reach that."""
    address, tells = bind_address(settings), telling(settings)
    if address is None:
        return tells
    with loading():
        from sync.web.server import serve

    def beside(running: Running) -> Mapping[str, Coroutine[Any, Any, None]]:
        return {**tells(running), "http": serve(running, address)}

    return beside
