"""What holds for every test of this folder."""

import pytest

from sync.web import database_look
from sync.web.page import kept, routes


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is slow on a busy machine is not taken for one that is away."""
    monkeypatch.setattr(database_look, "LOOK_S", 60.0)


@pytest.fixture
def never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request looks at the database anew, and writes the page out anew."""
    monkeypatch.setattr(routes, "GOOD_FOR_S", 0.0)
    monkeypatch.setattr(database_look, "PAUSES", 0)
    monkeypatch.setattr(kept, "TOLD_FOR_S", 0.0)
