"""Settings of a test's own, and what is said of those that are wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sync.core.errors import SettingsError
from sync.settings import Settings, load_settings

SECRETS = (
    "DATABASE_URL",
    "MEWS_CLIENT_TOKEN",
    "MEWS_ACCESS_TOKEN",
    "SYNC_HTTP_TOKEN",
    "SYNC_ALERT_WEBHOOK_SECRET",
    "SYNC_PING_TOKEN",
)
SECRET_ADDRESSES = ("SYNC_ALERT_WEBHOOK_URL", "SYNC_PING_URL")

Set = Callable[..., None]


def only_set_here(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Set:
    """What sets variables; there are no others, and no `.env` but one that is written into the directory."""
    monkeypatch.chdir(directory)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)

    def set_variables(**variables: str | Path) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return set_variables


def complaint() -> str:
    """What is said about the settings, which must be wrong."""
    with pytest.raises(SettingsError) as raised:
        load_settings()
    return str(raised.value)
