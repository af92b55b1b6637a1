"""`voucher-sync run`."""

from collections.abc import Coroutine, Mapping
from typing import Any

from sync import logs
from sync.alerts.start import telling
from sync.cli import event_loop
from sync.cli.database import open_database, revive_embedded
from sync.cli.loading import loading
from sync.cli.log_lines import written_beside
from sync.postgres.urls import read_url
from sync.service import daemon
from sync.service.opened import require_tokens
from sync.service.running import Running
from sync.settings import Settings, load_settings
from sync.tracing import tracing
from sync.web.access import bind_address, integration_address


def run() -> None:
    """Run the daemon until SIGTERM, Ctrl-C or the end of its terminal."""
    settings = load_settings()
    require_tokens(settings)
    if settings.listen_url:
        read_url(settings.listen_url, "SYNC_LISTEN_URL")
    beside = _beside(settings)
    with written_beside() as writer:
        logs.configure(settings.sync_log_format, settings.sync_log_level, writer)
        with tracing(), open_database(settings, may_create=True) as url:
            event_loop.run(
                daemon.run(settings, url, revive_embedded if settings.database_url is None else None, beside)
            )


def _beside(settings: Settings) -> daemon.Beside:
    """Who tells somebody, and the servers that there are to be. `SettingsError` where anybody could reach one."""
    address, tells, receives = bind_address(settings), telling(settings), integration_address(settings)
    if address is None and receives is None:
        return tells
    with loading():
        from sync.web.receiving import receive
        from sync.web.server import serve

    def beside(running: Running) -> Mapping[str, Coroutine[Any, Any, None]]:
        return {
            **tells(running),
            **({} if address is None else {"http": serve(running, address)}),
            **({} if receives is None else receive(running, receives)),
        }

    return beside
