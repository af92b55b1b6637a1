"""`voucher-sync run`."""

import asyncio

from sync import logs
from sync.cli.database import open_database, revive_embedded
from sync.service import app, daemon
from sync.settings import load_settings


def run() -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    settings = load_settings()
    app.credentials(settings)
    logs.configure(settings.sync_log_format, settings.sync_log_level)
    with open_database(settings, may_create=True) as url:
        asyncio.run(daemon.run(settings, url, revive_embedded if settings.database_url is None else None))
