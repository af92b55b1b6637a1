"""The tests' own databases are gone afterwards, and whoever leaves a session open in one is told."""

import psycopg
import pytest

from tests.support import postgres
from tests.support.postgres import database_of, new_database


def is_there(server_url: str, url: str) -> bool:
    with psycopg.connect(server_url) as admin:
        return admin.execute("SELECT FROM pg_database WHERE datname = %s", (database_of(url),)).rowcount == 1


def test_it_is_gone_afterwards(server_url: str) -> None:
    with new_database(server_url) as url:
        psycopg.connect(url).close()
        assert is_there(server_url, url)
    assert not is_there(server_url, url)


def test_a_session_that_is_left_open_is_told_and_ended(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LEAVING_S", 0)
    made = new_database(server_url)
    url = made.__enter__()
    left = psycopg.connect(url, application_name="a stranger", autocommit=True)
    left.execute("SELECT 17")
    with pytest.raises(AssertionError, match=r"sessions open.*a stranger.*SELECT 17"):
        made.__exit__(None, None, None)
    assert not is_there(server_url, url)
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    left.close()
