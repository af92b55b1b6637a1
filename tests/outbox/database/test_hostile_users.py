"""The outbox's rules hold in the sessions of users, whatever their settings are."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.hostile import known_to, make_database_hostile, new_login
from tests.support.queue import VOUCHER, Outbox

INSERT = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, validity_end_utc) VALUES (%s, %s, %s, %s)"
STATUS = "SELECT status, last_error FROM mews.voucher_code_outbox ORDER BY id"
WRITES = {"default_transaction_read_only": "off", "plpgsql.extra_errors": "'all'"}


@pytest.fixture
def user(outbox: Outbox, database_url: str) -> Iterator[psycopg.Connection]:
    """A writer's session."""
    make_database_hostile(database_url, {"datestyle": "'German'"})
    settings = known_to(database_url) | WRITES | {"exit_on_error": "off"}
    with new_login(database_url, "IN ROLE mews_writer", settings=settings) as url:
        with psycopg.connect(url, autocommit=True) as session:
            yield session


def test_a_delete_takes_back_an_unsent_add(user: psycopg.Connection) -> None:
    user.execute(INSERT, ["add", VOUCHER, "A", None])
    user.execute(INSERT, ["delete", VOUCHER, "A", None])
    assert [status for status, _ in user.execute(STATUS)] == ["cancelled", "cancelled"]


def test_a_user_cancels_what_he_has_queued(user: psycopg.Connection) -> None:
    user.execute(INSERT, ["add", VOUCHER, "A", "9999-12-31 23:59+00"])
    user.execute("UPDATE mews.voucher_code_outbox SET status = 'cancelled'")
    assert [status for status, _ in user.execute(STATUS)] == ["cancelled"]


@pytest.mark.parametrize("end", ["10000-01-01 00:00+00", "0001-01-01 00:00+00 BC"])
def test_what_cannot_be_right_is_refused_in_the_same_words(user: psycopg.Connection, end: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="must lie in the years 1 to 9999"):
        user.execute(INSERT, ["add", VOUCHER, "A", end])
