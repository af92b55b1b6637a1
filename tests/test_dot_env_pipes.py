"""A pipe in the place of `.env`, as a keeper of secrets puts one there: it is written once somebody reads."""

import os
import select
from pathlib import Path
from typing import Any

import pytest

from sync import setting_sources
from sync.core.errors import SettingsError

NAMES = ("SYNC_LEASE_S", "SYNC_LOG_LEVEL")


@pytest.fixture(autouse=True)
def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pipe, in a directory where nobody else may write."""
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {})
    os.mkfifo(".env", 0o600)


def read() -> dict[str, str]:
    return setting_sources.read_sources(NAMES, pytest.fail)


def test_it_is_read_to_its_end_whenever_what_is_in_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    wait, parts = select.select, iter([b"SYNC_LEASE_S=7", b"\nSYNC_LOG_LEVEL=debug"])
    writer = os.open(".env", os.O_RDWR)

    def write_when_waited_for(*given: Any) -> Any:
        if part := next(parts, b""):
            os.write(writer, part)
        else:
            os.close(writer)
        return wait(*given)

    monkeypatch.setattr(select, "select", write_when_waited_for)
    assert read() == {"SYNC_LEASE_S": "7", "SYNC_LOG_LEVEL": "debug"}


def test_that_nobody_writes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_sources, "PIPE_S", 0.01)
    with pytest.raises(SettingsError, match=r"settings: \.env cannot be read: nobody writes into it, which is a pipe"):
        read()
