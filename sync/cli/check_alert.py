"""Whether somebody is told: the part of `voucher-sync check --alert`."""

import socket
from datetime import UTC, datetime

from sync.alerts.message import trial
from sync.alerts.post import NotTold, Poster
from sync.alerts.run import deliver
from sync.cli.check import check_also
from sync.cli.check_line import CheckLine
from sync.core.errors import SettingsError
from sync.settings import Settings

SUBJECT = "alert"


def check_with_alert(*, as_json: bool, name: str | None) -> None:
    """`check`, which sends a trial to the webhook, too."""
    check_also(_check_alert, as_json=as_json, name=name)


async def _check_alert(settings: Settings) -> CheckLine | None:
    """Send a trial to the webhook, and say whether it was taken; None where `check` has said that it cannot be used."""
    url, secret = settings.sync_alert_webhook_url, settings.sync_alert_webhook_secret
    signs_with = None if secret is None else secret.get_secret_value()
    if url is None:
        return CheckLine(SUBJECT, "there is no webhook to send a trial to", "set SYNC_ALERT_WEBHOOK_URL, or its _FILE")
    try:
        async with Poster(url.get_secret_value()) as poster:
            now = datetime.now(UTC)
            await deliver(trial(socket.gethostname(), now), poster, signs_with, int(now.timestamp()))
    except NotTold as error:
        return CheckLine(SUBJECT, str(error), "see SYNC_ALERT_WEBHOOK_URL, and the way there: firewall, HTTPS_PROXY")
    except SettingsError:
        return None
    return CheckLine(SUBJECT, f"{poster.host} (SYNC_ALERT_WEBHOOK_URL) has taken a trial: see that it arrived")
