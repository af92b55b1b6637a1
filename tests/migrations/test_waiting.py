"""A migration waits for nobody without need, not for ever, and says for whom; no stranger can stop it."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sync.core.errors import DatabaseBusy, DatabaseFull
from sync.postgres import migrations
from sync.postgres.locks import Holder, holders
from sync.postgres.migrations import migrate, revisions
from sync.postgres.schema_version import known_revisions, migrations_directory
from tests.migrations.helpers import upgrade
from tests.support.hostile import new_owner

OLD_LOCK = "SELECT pg_advisory_lock(hashtext('voucher-sync migrations'))"
ALL_NUMBERS = "SELECT pg_advisory_lock(number) FROM generate_series(-1000, 1000) AS number"


@pytest.fixture
def behind_url(empty_database_url: str) -> str:
    """A database that the next migration of the outbox's tables is still to come to."""
    upgrade(empty_database_url, "0002")
    return empty_database_url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(migrations, "WAIT_S", 0.0)


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """Somebody else's session, in a transaction."""
    url: str = request.getfixturevalue("behind_url" if "behind_url" in request.fixturenames else "database_url")
    with psycopg.connect(make_conninfo(url, application_name="tableau")) as session:
        yield session


@pytest.mark.long
@pytest.mark.usefixtures("impatient")
def test_a_strangers_advisory_lock_stops_nothing(other: psycopg.Connection, behind_url: str) -> None:
    other.execute(OLD_LOCK)
    other.execute(ALL_NUMBERS)
    assert migrate(behind_url) == ("0002", known_revisions()[-1])


@pytest.mark.usefixtures("impatient")
def test_no_session_to_be_had_is_told_as_that(empty_database_url: str) -> None:
    with new_owner(empty_database_url, "CONNECTION LIMIT 1") as url, psycopg.connect(url):
        with pytest.raises(DatabaseFull, match=r"takes no more connections \(53300\)"):
            migrate(url)
        with pytest.raises(DatabaseFull):
            revisions(url)


@pytest.mark.long
def test_a_session_is_waited_for(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_owner(empty_database_url, "CONNECTION LIMIT 1") as url:
        session = psycopg.connect(url)
        monkeypatch.setattr(time, "sleep", lambda _pause_s: session.close())
        assert migrate(url) == (None, known_revisions()[-1])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("table", ["mews.voucher_codes", "mews.voucher_code_outbox", "sync.alembic_version"])
def test_with_nothing_to_do_no_lock_is_waited_for(other: psycopg.Connection, database_url: str, table: str) -> None:
    other.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE".encode())
    head = known_revisions()[-1]
    assert migrate(database_url) == (head, head)


@pytest.mark.usefixtures("impatient")
def test_who_holds_what_is_told_and_what_to_do(other: psycopg.Connection, behind_url: str) -> None:
    other.execute("SELECT count(*) FROM mews.voucher_code_outbox")
    pid, user = other.info.backend_pid, other.info.user
    words = (
        rf"not free within 0 s. Held by pid {pid} \(user {user}, application tableau, idle in transaction since "
        rf"\d{{4}}-.* UTC\), on mews.voucher_code_outbox.* pg_terminate_backend\({pid}\)"
    )
    with pytest.raises(DatabaseBusy, match=words):
        migrate(behind_url)
    assert revisions(behind_url)[0] == "0002"


@pytest.mark.usefixtures("impatient")
def test_where_nobody_holds_them_any_more_there_is_nobody_to_end(
    other: psycopg.Connection, behind_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.execute("SELECT count(*) FROM mews.voucher_code_outbox")

    def free_by_then(connection: Connection) -> list[Holder]:
        other.rollback()
        return holders(connection)

    monkeypatch.setattr(migrations, "holders", free_by_then)
    with pytest.raises(DatabaseBusy, match="Nobody holds them any more: run `voucher-sync migrate` again"):
        migrate(behind_url)


@pytest.mark.long
@pytest.mark.usefixtures("impatient")
def test_an_owner_who_may_not_see_all_of_others_is_told_what_he_may(empty_database_url: str) -> None:
    with new_owner(empty_database_url) as owner:
        upgrade(owner, "0002")
        with psycopg.connect(make_conninfo(empty_database_url, application_name="tableau")) as other:
            other.execute("SELECT count(*) FROM mews.voucher_code_outbox")
            words = rf"Held by pid {other.info.backend_pid} \(user {other.info.user}, application tableau\), on mews"
            with pytest.raises(DatabaseBusy, match=words):
                migrate(owner)


def test_a_prepared_transaction_has_no_session_to_be_ended() -> None:
    told = str(Holder(None, None, None, None, None, "mews.voucher_codes"))
    assert told == "a prepared transaction, on mews.voucher_codes (see pg_prepared_xacts, then ROLLBACK PREPARED)"


@pytest.mark.usefixtures("impatient")
def test_another_replica_that_migrates_is_told_too(other: psycopg.Connection, behind_url: str) -> None:
    other.execute("LOCK TABLE sync.alembic_version IN SHARE ROW EXCLUSIVE MODE")
    with pytest.raises(DatabaseBusy, match=rf"Held by pid {other.info.backend_pid} .* on sync.alembic_version"):
        migrate(behind_url)


@pytest.mark.long
def test_a_lock_that_becomes_free_meanwhile_is_no_trouble(
    other: psycopg.Connection, behind_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_S", 0.05)
    tries = []

    def give_way(error: DBAPIError) -> bool:
        tries.append(error)
        other.rollback()
        return is_passing(error)

    is_passing = migrations._is_passing
    monkeypatch.setattr(migrations, "_is_passing", give_way)
    other.execute("SELECT count(*) FROM mews.voucher_code_outbox")
    assert migrate(behind_url) == ("0002", known_revisions()[-1])
    assert len(tries) == 1


def test_revisions_are_those_of_alembic() -> None:
    scripts = ScriptDirectory(str(migrations_directory()))
    assert [one.revision for one in reversed(list(scripts.walk_revisions()))] == known_revisions()
