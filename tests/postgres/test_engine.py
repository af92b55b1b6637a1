"""Any URL that libpq understands works, no password or value leaks, and the database's errors come in our words."""

import socket
import traceback
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import DatabaseError, DatabaseFull, DatabaseUnavailable, NotMigrated, SettingsError
from sync.postgres.engine import connect_options, make_engine, transaction, translate
from sync.postgres.sqlstates import REFUSED
from sync.postgres.urls import describe_address
from tests.support.database import execute, rows
from tests.support.hostile import new_owner
from tests.support.standby import standby

SECRET = "s3cret"
OWN = {"connect_timeout": 10, "application_name": "voucher-sync", "prepare_threshold": None}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            f"postgresql://joe:{SECRET}@db.example:5433/hotel",
            {"user": "joe", "password": SECRET, "host": "db.example", "port": "5433", "dbname": "hotel"},
        ),
        ("postgres://db.example/hotel", {"host": "db.example", "dbname": "hotel"}),
        ("postgresql+psycopg://joe@db.example/hotel", {"user": "joe", "host": "db.example", "dbname": "hotel"}),
        ("postgresql+asyncpg://db.example/hotel", {"host": "db.example", "dbname": "hotel"}),
        ("postgresql://joe:p%40ss%2Fw%3Ard@h/d", {"user": "joe", "password": "p@ss/w:rd", "host": "h", "dbname": "d"}),
        ("postgresql:///hotel?host=/var/run/postgresql", {"host": "/var/run/postgresql", "dbname": "hotel"}),
        ("postgresql://%2Fvar%2Frun%2Fpg/hotel", {"host": "/var/run/pg", "dbname": "hotel"}),
        ("postgresql://a:5432,b:5433/d?sslmode=require", {"host": "a,b", "port": "5432,5433", "sslmode": "require"}),
        ("host=db.example dbname=hotel", {"host": "db.example", "dbname": "hotel"}),
    ],
)
def test_every_form_of_a_url_is_read(url: str, expected: dict[str, str]) -> None:
    options = connect_options(url)
    assert options.items() >= expected.items()
    assert options.items() >= OWN.items()


def test_the_url_may_overrule_what_is_set_for_it() -> None:
    options = connect_options("postgresql://h/d?connect_timeout=3&application_name=mine")
    assert (options["connect_timeout"], options["application_name"]) == ("3", "mine")


@pytest.mark.parametrize(
    "url",
    [f"postgresql://joe:{SECRET}@h/d?no_such_option=1", f"mysql://joe:{SECRET}@h/d", f"postgresql://joe:{SECRET}@[h/d"],
)
@pytest.mark.parametrize(
    "read",
    [
        connect_options,
        make_engine,
        describe_address,
    ],
)
def test_a_url_that_cannot_be_read_is_an_error_without_its_password(read: Callable[[str], object], url: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL cannot be read: give it as postgresql://") as caught:
        read(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", [f"postgresql+psycopg://joe:{SECRET}@h:5433/d", f"host=h port=5433 user=joe password={SECRET} dbname=d"]
)
def test_an_address_is_described_without_its_password(url: str) -> None:
    shown = describe_address(url)
    assert SECRET not in shown
    assert conninfo_to_dict(shown) == {"host": "h", "port": "5433", "user": "joe", "dbname": "d"}


def test_an_address_is_described_without_the_password_of_its_key() -> None:
    assert SECRET not in describe_address(f"postgresql://h/d?sslkey=client.key&sslpassword={SECRET}")


async def test_lists_are_sent_as_binary(engine: AsyncEngine) -> None:
    # As text, psycopg leaves it to the server to find out what a list of texts is.
    (row,) = await rows(engine, "SELECT pg_typeof(:names)::text AS type", names=["a"])
    assert row["type"] == "text[]"


async def test_statements_are_not_prepared_since_a_pooler_may_change_the_session(engine: AsyncEngine) -> None:
    async with transaction(engine) as tx:
        for number in range(10):
            await tx.execute(text("SELECT :number"), {"number": number})
        assert (await tx.execute(text("SELECT count(*) FROM pg_prepared_statements"))).scalar_one() == 0


async def test_a_transaction_is_committed_at_its_end_and_rolled_back_on_any_error(engine: AsyncEngine) -> None:
    await execute(engine, "CREATE TABLE public.things (number int)")

    async def fail() -> None:
        async with transaction(engine) as tx:
            await tx.execute(text("INSERT INTO public.things VALUES (1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await execute(engine, "INSERT INTO public.things VALUES (2)")
    assert [row["number"] for row in await rows(engine, "SELECT number FROM public.things")] == [2]


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM mews.no_such_table", "SELECT no_such_column FROM mews.vouchers", "CREATE TABLE no_such.thing ()"],
)
async def test_what_the_schema_lacks_means_that_it_is_not_migrated(engine: AsyncEngine, statement: str) -> None:
    with pytest.raises(NotMigrated, match=r"no_such.*run `voucher-sync migrate`"):
        await execute(engine, statement)


async def test_a_refused_statement_is_an_error_without_the_values_in_it(engine: AsyncEngine) -> None:
    await execute(engine, "CREATE TABLE public.things (value text PRIMARY KEY, CHECK (length(value) < 10))")
    insert = "INSERT INTO public.things VALUES (:value)"
    await execute(engine, insert, value=SECRET)
    for value in (SECRET, SECRET * 2):
        with pytest.raises(DatabaseError, match=r"refused a statement \(23(505|514)\): .*things_") as caught:
            await execute(engine, insert, value=value)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert not isinstance(caught.value, DatabaseUnavailable | NotMigrated)


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [
        ("53100", "no room left on its disk .* make room there"),
        ("53200", "is out of memory"),
        ("53300", "takes no more connections .*max_connections"),
        ("57014", r"ended a statement \(57014\).* see who cancels statements"),
        ("57P05", "ended the session .* raise its idle_session_timeout.*, then it works again$"),
        ("25P03", "raise its idle_in_transaction_session_timeout"),
        ("25P04", "raise its transaction_timeout"),
        ("57P01", "ended the session"),
        ("57P02", "has crashed"),
        ("57P03", "is starting"),
        ("53400", "may take no more room for temporary files .* raise its temp_file_limit or its work_mem"),
        ("53000", "does not answer"),
    ],
)
async def test_what_passes_by_itself_means_unavailable_and_says_what_to_do(
    engine: AsyncEngine, sqlstate: str, words: str
) -> None:
    with pytest.raises(DatabaseUnavailable, match=words):
        await execute(engine, f"DO $$ BEGIN RAISE EXCEPTION 'in its own words' USING ERRCODE = '{sqlstate}'; END $$")


@pytest.mark.long
async def test_a_standby_is_told_as_one_and_works_once_it_is_promoted() -> None:
    with standby() as url:
        engine = make_engine(url)
        with pytest.raises(DatabaseUnavailable, match=r"can only be read \(25006\); .* lead to the primary"):
            await execute(engine, "SELECT 1")
        with psycopg.connect(url, autocommit=True) as admin:
            assert admin.execute("SELECT pg_promote()").fetchone() == (True,)
        await execute(engine, "CREATE TABLE public.things (number int)")
        await engine.dispose()


async def test_a_database_that_became_a_standby_is_left_for_the_new_primary(engine: AsyncEngine) -> None:
    (before,) = await rows(engine, "SELECT pg_backend_pid() AS pid")
    with pytest.raises(DatabaseUnavailable, match=r"can only be read \(25006\); .* lead to the primary"):
        await execute(engine, "DO $$ BEGIN RAISE read_only_sql_transaction; END $$")
    # Another session, as with the new primary, can write; the one that was open before never could.
    (after,) = await rows(engine, "SELECT pg_backend_pid() AS pid")
    assert after["pid"] != before["pid"]


def end_session(url: str, pid: int) -> None:
    """Lets the server end a session, and waits until it has."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


async def test_a_session_that_is_ended_by_the_server_means_unavailable_and_the_next_one_works(
    engine: AsyncEngine, database_url: str
) -> None:
    async def lose_the_session() -> None:
        async with transaction(engine) as tx:
            end_session(database_url, (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one())
            await tx.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable, match="ended the session"):
        await lose_the_session()
    assert [row["one"] for row in await rows(engine, "SELECT 1 AS one")] == [1]


async def test_an_idle_session_that_was_ended_is_replaced_unnoticed(engine: AsyncEngine, database_url: str) -> None:
    (before,) = await rows(engine, "SELECT pg_backend_pid() AS pid")
    end_session(database_url, before["pid"])
    (after,) = await rows(engine, "SELECT pg_backend_pid() AS pid")
    assert after["pid"] != before["pid"]


async def test_a_transaction_without_an_end_is_given_up_and_the_next_one_works(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await rows(engine, "SELECT 1 AS one")
    with monkeypatch.context() as patch:
        patch.setattr("sync.postgres.engine.TRANSACTION_TIMEOUT_S", 0.05)
        with pytest.raises(DatabaseUnavailable, match="does not answer: no end within"):
            await execute(engine, "SELECT pg_sleep(3600)")
    assert [row["one"] for row in await rows(engine, "SELECT 1 AS one")] == [1]


def test_a_server_that_refuses_a_session_is_known_in_whatever_language_it_does() -> None:
    words = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '
    refused = (
        "FATAL:  zu viele Verbindungen",
        "FATALE:  troppe connessioni",
        "ВАЖНО:  слишком много",
        "致命错误:  太多了",
    )
    assert all(REFUSED.search(words + one) for one in refused)
    unanswered = (
        "Connection refused\n\tIs the server running on that host?",
        "timeout expired",
        "SSL error: bad write",
    )
    assert not any(REFUSED.search(words + one) for one in unanswered)


async def test_a_session_too_many_beside_others_is_known_in_any_words(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.postgres.engine.FULL_WORDS", ())
    with new_owner(empty_database_url, "CONNECTION LIMIT 1") as url:
        engine = make_engine(url)
        async with transaction(engine):
            with pytest.raises(DatabaseFull, match=r"no more connections \(53300\)"):
                await rows(engine, "SELECT 1")
        await engine.dispose()


FULL = [
    'too many connections for database "mews"',
    "remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "zu viele Verbindungen von Rolle »mews«",
    "tut mir leid, schon zu viele Verbindungen",
    "die verbleibenden Verbindungen sind für Superuser auf Nicht-Replikationsverbindungen reserviert",
    "lo siento, ya tenemos demasiados clientes",
    "désolé, trop de clients sont déjà connectés",
    'troppe connessioni al database "mews"',
    'för många uppkopplingar till databasen "mews"',
    "извините, уже слишком много клиентов",
    "вибачте, вже забагато клієнтів",
    'データベース"mews"への接続が多すぎます',
    '"mews" 데이터베이스 최대 접속수를 초과했습니다',
    '到数据库 "mews"的连接太多了',
]
"""From the catalogs that PostgreSQL comes with."""


@pytest.mark.parametrize("words", FULL)
def test_a_full_server_is_known_by_its_first_refusal_in_whatever_language(words: str) -> None:
    refused = psycopg.OperationalError(f'connection to server at "127.0.0.1", port 5432 failed: FATAL:  {words}')
    assert isinstance(translate(DBAPIError(None, None, refused)), DatabaseFull)


async def test_a_port_where_nobody_listens_means_unavailable() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    engine = make_engine(f"postgresql://joe:{SECRET}@127.0.0.1:{port}/d")
    with pytest.raises(DatabaseUnavailable, match="does not answer") as caught:
        await execute(engine, "SELECT 1")
    assert SECRET not in str(caught.value)
    await engine.dispose()


async def test_what_the_driver_cannot_read_does_not_mean_unavailable(engine: AsyncEngine) -> None:
    with pytest.raises(DatabaseError) as caught:
        await rows(engine, "SELECT '10000-01-01'::date")
    assert not isinstance(caught.value, DatabaseUnavailable)


@pytest.mark.parametrize(("name", "value"), [("datestyle", "German"), ("intervalstyle", "iso_8601")])
async def test_a_setting_that_a_users_function_changes_in_our_transaction_is_named(
    engine: AsyncEngine, name: str, value: str
) -> None:
    async def read_then() -> None:
        async with transaction(engine) as tx:
            await tx.execute(text(f"SELECT set_config('{name}', '{value}', true)"))
            await tx.execute(text("SELECT now(), interval '1 day 2 hours' AS a_while"))

    with pytest.raises(DatabaseError, match="a user's has changed DateStyle or IntervalStyle"):
        await read_then()
    assert await rows(engine, "SELECT now(), interval '1 day 2 hours' AS a_while")
