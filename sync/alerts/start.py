"""What a daemon has running beside its jobs so that somebody is told."""

import asyncio
import random
import socket
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import SecretStr

from sync.alerts.kept import Kept
from sync.alerts.post import Poster
from sync.alerts.run import Alerter, Webhook, ping
from sync.connection.witness import state_directory
from sync.service.daemon import Beside
from sync.service.jobs import Jobs
from sync.service.progress import late_after_s
from sync.service.running import Running
from sync.settings import Settings
from sync.signals import Signal

LOOK_S = 1.0


def telling(settings: Settings) -> Beside:
    """What tells somebody, as far as the settings say whom. `SettingsError` where the way there cannot be used."""
    webhook, switch = _text(settings.sync_alert_webhook_url), _text(settings.sync_ping_url)
    told = None if webhook is None else Poster(webhook)
    pinged = None if switch is None else Poster(switch, _text(settings.sync_ping_token))

    def beside(running: Running) -> Mapping[str, Coroutine[Any, Any, None]]:
        secret = _text(settings.sync_alert_webhook_secret)
        return {
            **({} if told is None else {"alerts": _alert(running, told, secret)}),
            **({} if pinged is None else {"ping": _ping(running, pinged)}),
        }

    return beside


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _alert(running: Running, poster: Poster, secret: str | None) -> None:
    async with poster:
        webhook = Webhook(poster, secret, random.Random())  # noqa: S311 - spreads tries, keeps no secret
        are_stuck = partial(stuck, running.jobs, late_after_s(running.settings.sync_pull_interval_s))
        kept = Kept(state_directory(running.settings.sync_state_dir), running.database)
        names = partial(_names, running)
        await Alerter(running.engine, names, webhook, host=socket.gethostname(), stuck=are_stuck, kept=kept).run()


async def _ping(running: Running, poster: Poster) -> None:
    async with poster:
        await ping(poster, partial(_complete_cycle, running))


def _names(running: Running) -> Sequence[str]:
    return [jobs.connection.name for jobs in running.jobs]


async def _complete_cycle(running: Running) -> None:
    """Wait until each connection that this process works for by then has completed a cycle."""
    never = Signal()  # whoever works for none, since another process does, completes nothing
    while waiting := [one for one in _cycles(running) or [never] if not one.is_set()]:
        with suppress(TimeoutError):  # another process may have taken it meanwhile
            await asyncio.wait_for(waiting[0].wait(), LOOK_S)
    for one in _cycles(running):
        one.clear()


def _cycles(running: Running) -> list[Signal]:
    return [jobs.cycle_completed for jobs in running.jobs]


def stuck(all_jobs: Sequence[Jobs], late_s: float) -> Sequence[str]:
    """Names of connections that have read nothing for `late_s` seconds, although none of their jobs fails."""
    late = (jobs for jobs in all_jobs if jobs.progress.silent_s() > late_s)
    return [jobs.connection.name for jobs in late if not jobs.health.errors]
