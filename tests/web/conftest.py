"""What holds for every test of this folder."""

import pytest

from sync.web import database_look


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is slow on a busy machine is not taken for one that is away."""
    monkeypatch.setattr(database_look, "LOOK_S", 60.0)
